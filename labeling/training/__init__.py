"""Reward models, trained on the labels of a run by an existing trainer."""
