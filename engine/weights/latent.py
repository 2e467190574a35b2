"""Matrices of latent attention in the form that gives heads of one size, padded with zeros.

See `Latent`. What a row of zeros gives is zero, whatever the kernels.
"""

from __future__ import annotations

import numpy as np
import torch

from preftree.engine.config.latent import Latent


def padded_queries(weight: torch.Tensor, latent: Latent, heads: int, interleaved: bool) -> torch.Tensor:
    """weight [heads * key_size, in] as [heads * head_size, in]."""
    return _placed(weight, heads, latent.key_places(interleaved))


def padded_keys_values(weight: torch.Tensor, latent: Latent, heads: int, interleaved: bool) -> torch.Tensor:
    """weight [heads * (still + value), rank] as [2 * heads * head_size, rank], keys first, their rotating part zero."""
    places = latent.key_places(interleaved)
    still = np.where(places < latent.still, places, -1)
    return torch.cat([_placed(weight, heads, still), _placed(weight, heads, latent.value_places())])


def with_turning_last(stored: torch.Tensor, latent: Latent, interleaved: bool) -> torch.Tensor:
    """Weight or bias of what gives the latent and, after it, the rotating part that keys share: that in its order."""
    order = np.concatenate([np.arange(latent.kv_rank), latent.kv_rank + latent.turning(interleaved)])
    return stored[torch.from_numpy(order).to(stored.device)]


def _placed(weight: torch.Tensor, heads: int, places: np.ndarray) -> torch.Tensor:
    """Rows of each head where `places` wants them; -1 stands for a row of zeros."""
    stored = weight.unflatten(0, (heads, -1))
    padded = weight.new_zeros(heads, len(places), weight.shape[1])
    taken = torch.from_numpy(np.flatnonzero(places >= 0)).to(weight.device)
    padded[:, taken] = stored[:, torch.from_numpy(places[places >= 0]).to(weight.device)]
    return padded.flatten(0, 1)
