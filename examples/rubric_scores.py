"""Score a response by weighted yes/no criteria, which each row brings along."""

import preftree as pt

ROW = {
    "prompt": "Name three primary colours in one line.",
    "response": "Red, yellow and blue.",
    "rubric": [
        {"name": "three", "text": "The response names exactly three colours.", "weight": 3},
        {"name": "line", "text": "The response is a single line.", "weight": 1},
        {"name": "praise", "text": "The response praises itself.", "weight": -2},
    ],
}

with pt.Judge.load("embedded") as judge:
    (row,) = pt.label([ROW], judge, pt.Rubric(rubric_column="rubric"))

assert row.label is not None
values = row.label.values()
for criterion in values["criteria"]:
    print(f"{criterion['name']:<8} weight {criterion['weight']:+g}  P(yes) {criterion['p_yes']:.3f}")
print(f"score {values['score']:.3f}, as a reward from -1 to 1: {values['reward']:+.3f}")
