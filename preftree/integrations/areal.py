"""Reward functions for AReaL."""

from preftree.labeling.integrations.areal import RewardFunction

__all__ = ["RewardFunction"]
