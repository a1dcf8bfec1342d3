"""A number for each instance, drawn by the seed and its own values: for places that differ."""

import torch
from torch import Tensor

from poisonbench.seeding import generator

HALF = 2**62  # of the integers of a hash


def hashed(values: Tensor, seed: int) -> Tensor:
    """Returns (k,) int64 of 30 bits for whole numbers, (k, *shape) int64.

    Multiply-shift (Dietzfelbinger 1996; int64 wraps), so that an instance has one number however
    it is presented: alone or in a batch, in training or at test time, on any device.
    """
    flat = values.flatten(1)
    g = generator(seed, "place")
    weights = torch.randint(-HALF, HALF, flat.shape[1:], generator=g)
    shift = torch.randint(-HALF, HALF, (1,), generator=g)
    products = flat * weights.to(values.device)
    drawn = products.sum(1) + shift.to(values.device)
    return drawn >> 33 & 0x3FFFFFFF
