"""Experts whose matrices are one tensor for all of them, as gpt-oss stores them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Stack:
    """The matrices and biases of all experts for one of their linear layers.

    Attributes:
        name: of the tensor [count, inputs, outputs]; the biases are beside it, [count, outputs].
        count: how many experts there are.
        inputs: of the layer.
        outputs: of the layer.
        in_turns: gate and up are in turns along the outputs.
    """

    name: str
    count: int
    inputs: int
    outputs: int
    in_turns: bool = False

    @property
    def weight(self) -> tuple[str, tuple[int, ...]]:
        return self.name, (self.count, self.inputs, self.outputs)

    @property
    def bias(self) -> tuple[str, tuple[int, ...]]:
        return f"{self.name}_bias", (self.count, self.outputs)


@dataclass(frozen=True)
class StackedExperts:
    """gate_up: of `MlpTensors`. down: likewise."""

    gate_up: Stack
    down: Stack

    @classmethod
    def under(cls, prefix: str, count: int, hidden: int, width: int) -> StackedExperts:
        gate_up = Stack(f"{prefix}gate_up_proj", count, hidden, 2 * width, in_turns=True)
        return cls(gate_up, Stack(f"{prefix}down_proj", count, width, hidden))

    @property
    def layers(self) -> tuple[Stack, Stack]:
        return self.gate_up, self.down

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for stack in self.layers:
            yield from (stack.weight, stack.bias)

    @property
    def num_linear_parameters(self) -> int:
        """Numbers of the matrices."""
        return sum(math.prod(stack.weight[1]) for stack in self.layers)
