"""Score a pair under principles, each of them on its own (SALMON)."""

import preftree as pt

PAIR = {
    "prompt": "How do I get a stain out of a wool jumper?",
    "response_a": "Dab it with cold water and a little wool detergent, do not rub, rinse, and dry it flat.",
    "response_b": "As a great expert I can tell you: boil it with bleach for an hour.",
}

with pt.Judge.load("embedded") as judge:
    (row,) = pt.label([PAIR], judge, pt.Salmon("labelled"))  # eleven principles, or the path of a YAML file

assert row.label is not None
print("verdict:", row.label.verdict)
for one in row.label.values()["principles"]:
    # Above 0: A follows the principle better. It counts only where both orders agree.
    print(f"{one['name']:<16} {one['score']:+.3f}  {'' if one['consistent'] else '(the orders disagree)'}")
