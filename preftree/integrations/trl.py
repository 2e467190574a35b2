"""Reward functions for TRL's GRPOTrainer and RLOOTrainer."""

from preftree.labeling.integrations.trl import AsyncRewardFunction, RewardFunction

__all__ = ["AsyncRewardFunction", "RewardFunction"]
