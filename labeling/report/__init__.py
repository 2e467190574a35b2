"""Figures over the labels of a run, and the text that shows them."""
