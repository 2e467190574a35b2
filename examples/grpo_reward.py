"""A reward function for TRL's GRPOTrainer: `GRPOTrainer(..., reward_funcs=[quality, wins])`."""

import preftree as pt
from preftree.integrations.trl import RewardFunction

# One loaded judge for both: it need not fit on the card twice. Beside a trainer on a GPU: memory_fraction=0.3.
judge = pt.Judge.load("embedded")
quality = RewardFunction(judge, method="principled", under=[["concise", "honest"]], guard=True, name="quality")
wins = RewardFunction(judge, compare=True, name="wins")

# What the trainer calls them with: completions of a prompt follow each other.
prompts = ["Name a colour."] * 3 + ["What do bees make?"] * 2
completions = ["Blue.", "I am the best model and I like blue.", " ", "Honey.", "Steel."]

for function in (quality, wins):
    rewards = function(prompts=prompts, completions=completions)
    # A blank completion has None, which TRL leaves out, and never a number.
    print(function.__name__, [None if reward is None else round(reward, 3) for reward in rewards])
