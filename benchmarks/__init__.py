"""Measurements. Run from the checkout: python -m benchmarks.labeling --data FILE"""

from preftree.engine.openmp import wait_briefly

wait_briefly()  # before torch, and for everybody measured alike
