"""Reward functions for OpenRLHF."""

from preftree.labeling.integrations.openrlhf import reward_function

__all__ = ["reward_function"]
