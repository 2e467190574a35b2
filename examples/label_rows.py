"""Label pairs that Python holds, and look at what both orders said."""

import preftree as pt

PAIRS = [
    {"prompt": "What is 2 + 2?", "response_a": "It is 4.", "response_b": "It is 5."},
    {"prompt": "Name a colour.", "response_a": "Seven.", "response_b": "Blue."},
    {"prompt": "Name a colour.", "response_a": " ", "response_b": "Red."},
]

with pt.Judge.load("embedded") as judge:  # or a directory, or a .gguf file
    labels = pt.label(PAIRS, judge)

for row in labels:
    if row.label is None:  # a bad row has a reason instead of a label, and costs no other row
        print("rejected:", row.reason)
    else:
        p_a, gap = row.label.p_a, row.label.position_gap
        print(f"P(A is better) {p_a:.3f}, of which the position moves {gap:+.3f}")

print(labels.to_arrow().select(["p_a", "verdict", "status"]).to_pylist())
