"""Measurements. Run from the checkout: python -m benchmarks.labeling --data FILE"""

import engine as _engine  # noqa: F401  before torch, for everybody measured alike: it decides how OpenMP threads wait
