"""Reward functions for ms-swift."""

from preftree.labeling.integrations.swift import register

__all__ = ["register"]
