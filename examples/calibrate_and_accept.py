"""From probabilities and gold to calibrated probabilities, and to the labels that may be used unseen."""

import numpy as np

from preftree.labeling.calibration.acceptance import accept
from preftree.labeling.calibration.fitting import calibration_lines, calibration_of
from preftree.labeling.calibration.gold import GoldPairs

# The columns p_a and gold of a labels.parquet. This judge is made up, since the embedded one is none: its logits are
# twice as large as they should be.
draws = np.random.default_rng(0)
logits = draws.normal(0, 2, 500)
gold_is_a = draws.random(500) < 1 / (1 + np.exp(-logits))
p_a = 1 / (1 + np.exp(-2 * logits))

pairs = GoldPairs(tuple(map(str, range(500))), p_a, gold_is_a)
calibration = calibration_of("temperature", pairs, judged={})
for name, text in calibration_lines(pairs, calibration):
    print(f"{name:<14}  {text}")
print(f"0.9 becomes {calibration.at(0.9):.3f}")

# With a probability of 95%, at most a tenth of the accepted labels is wrong. On the command line:
# preftree calibrate RUN --gold FILE --max-error 0.1 --out cal.json, then preftree export RUN --accept cal.json
confidence, unlabelled = np.maximum(p_a, 1 - p_a), 1 / (1 + np.exp(-np.abs(draws.normal(0, 4, 2000))))
found = accept(confidence, (p_a > 0.5) == gold_is_a, unlabelled, 0.1, 0.95)
print(f"accepted: {found.accepted_labels} of {found.labels}")
