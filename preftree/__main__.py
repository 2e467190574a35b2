"""The command line: python -m preftree"""

import sys

from preftree.labeling.cli import main

sys.exit(main())
