"""A panel: two judges of the same pairs, what they say together, and where they differ most."""

from pyarrow.parquet import read_table

import preftree as pt
from preftree.labeling.cli import main

# Two prompts of one model here; other models are better, since they make other mistakes.
for template in ("general", "helpfulness"):
    pt.label_file("examples/dialogues.jsonl", out=f"panel-{template}", template=template, limit=3)

# The command line from Python: its arguments, and its exit code. --overwrite: this script may be run again.
runs = ["panel-general", "panel-helpfulness"]
assert main(["combine", *runs, "--out", "panel", "--overwrite"]) == 0

rows = read_table("panel/labels.parquet").to_pylist()
for row in sorted(rows, key=lambda row: row["disagreement"], reverse=True):
    said = ", ".join(f"{judge['judge']} {judge['p_a']:.3f}" for judge in row["judges"])
    print(f"{row['id']}: P(A) {row['p_a']:.3f} of {said}; disagreement {row['disagreement']:.4f} bits")
