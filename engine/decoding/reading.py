"""What a step found, on its way to the host: tokens, and what was looked up."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass

import numpy as np
import torch

from preftree.engine.decoding.sequence import Sequence
from preftree.engine.decoding.stepper import Stepped
from preftree.engine.model.transfer import HostCopies, to_device


@dataclass(frozen=True)
class StepReading:
    """Started when the step is launched, given to its sequences when it is there.

    Attributes:
        places: [sequences] int64, the row of each sequence in the step.
        asking: places among the sequences of those that look something up.
        counts: how many tokens each of these looks up.
        copies: tokens of all rows; where something is looked up, normalisers of all rows and the logits, too.
    """

    places: np.ndarray
    asking: list[int]
    counts: list[int]
    copies: HostCopies

    @classmethod
    def start(cls, stepped: Stepped, looked_up: Several[np.ndarray]) -> StepReading:
        """looked_up: tokens whose logits each sequence wants after its row, most often none."""
        asking = [number for number, tokens in enumerate(looked_up) if len(tokens)]
        counts = [len(looked_up[number]) for number in asking]
        device, found = stepped.logits.device, [stepped.tokens]
        if asking:
            wanted = np.concatenate([looked_up[number] for number in asking])
            rows = to_device(torch.from_numpy(np.repeat(stepped.places[asking], counts)), device)
            logits = stepped.logits[rows, to_device(torch.from_numpy(wanted), device)]
            # Of all rows, wanted or not: how many rows a reduction has may decide in which order it adds.
            found += [stepped.logits.logsumexp(-1).double(), logits.double()]
        return cls(stepped.places, asking, counts, HostCopies.start(found, device))

    def give(self, sequences: Several[Sequence]) -> None:
        """What was found to the sequences of the step, in their order. Waits for the step."""
        tokens, *looked_up = (tensor.numpy() for tensor in self.copies.wait())
        for sequence, token in zip(sequences, tokens[self.places].tolist(), strict=True):
            sequence.take(token)
        if not looked_up:
            return
        normalisers, logits = looked_up
        of_sequences = np.split(logits, np.cumsum(self.counts)[:-1])
        for number, found in zip(self.asking, of_sequences, strict=True):
            sequences[number].logits.append(found)
            sequences[number].normalisers.append(float(normalisers[self.places[number]]))
