"""A model for lm-evaluation-harness, and its command line with that model registered:

python -m preftree.integrations.lm_eval --model preftree --model_args pretrained=DIR,dtype=float32 --tasks NAME
"""

import sys
from importlib.util import find_spec

if __name__ == "__main__" and find_spec("lm_eval") is None:
    sys.exit("preftree: lm-evaluation-harness is not installed; pip install lm-eval")

from preftree.labeling.integrations.lm_eval import PreftreeLM, main

__all__ = ["PreftreeLM", "main"]

if __name__ == "__main__":
    sys.exit(main())
