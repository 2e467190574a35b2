"""Reward functions for slime: --custom-rm-path preftree.integrations.slime.reward"""

from preftree.labeling.integrations.slime import reward, reward_function

__all__ = ["reward", "reward_function"]
