"""Label a file, and write soft labels for a trainer: a pair about which the judge is unsure stays undecided."""

import json

import preftree as pt
from preftree.labeling.cli import main

pt.label_file("examples/dialogues.jsonl", out="soft-run", limit=3)

# The command line from Python: its arguments, and its exit code. --overwrite: this script may be run again.
assert main(["export", "soft-run", "--to", "trl-soft", "--out", "soft.jsonl", "--overwrite"]) == 0
# Trainers without soft labels (TRL's DPOTrainer, RewardTrainer) get each pair ten times instead, about 10 p times as
# A chosen: the mean of their hard losses is the soft loss.
assert main(["export", "soft-run", "--to", "trl-dpo", "--soften", "10", "--out", "dpo.jsonl", "--overwrite"]) == 0

with open("soft.jsonl", encoding="utf-8") as file:
    for line in file:
        row = json.loads(line)
        print(f"{row['id']}: chosen is better with probability {row['p_chosen']:.3f}")
