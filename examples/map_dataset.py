"""Label a data set of the library `datasets` with Dataset.map; Ray Data, Spark and Daft take the same object."""

import datasets

import preftree as pt

rows = datasets.Dataset.from_list(
    [
        {"question": "What do bees make?", "response_a": "Honey.", "response_b": "Steel."},
        {"question": "What do bees make?", "response_a": "Wax, and honey from nectar.", "response_b": "Honey."},
        {"question": " ", "response_a": "Yes.", "response_b": "No."},
    ]
)
# Made of plain values, so that other processes can have it; the model is loaded at the first batch.
label = pt.PairLabeler("embedded", mapping=("prompt=question",))
# Batches of a thousand rows or more share most. In "arrow" format, null stays null.
labels = rows.with_format("arrow").map(label, batched=True, batch_size=1000, load_from_cache_file=False)

for row in labels.with_format(None):
    print(row["status"], row["verdict"], row["p_a"], row["reason"])
