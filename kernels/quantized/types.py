"""The names of the types that linear layers are quantised to."""

from typing import Literal

Quantized = Literal["int8", "fp8"]
