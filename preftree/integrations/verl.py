"""A reward function for verl: reward.custom_reward_function.path=pkg://preftree.integrations.verl"""

from preftree.labeling.integrations.verl import compute_score

__all__ = ["compute_score"]
