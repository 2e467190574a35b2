"""Figures of labels row by row, in plain Python: what `preftree.labeling.report` must say of the same rows."""
