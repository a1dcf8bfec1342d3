"""Matrix products in float32 precision, on a GPU by three products of its tensor cores.

A float32 number is the sum of one of 11 significant bits, which TF32 holds exactly, and a rest of
13 bits. Of the four products of these parts that of the rests is below rounding; the other three
are taken in TF32, and summed in float32: many times as fast as the units that multiply float32
itself, and as accurate (Ootomo & Yokota, IJHPCA 2022, arXiv 2203.03341).
"""

import torch
from torch import Tensor

from poisonbench.device.precision import is_exact, tf32_products

AMPERE = (8, 0)  # compute capability from which a GPU has TF32
REST = (1 << 13) - 1  # the bits of a float32 number that TF32 has no room for
# entries of a row that are multiplied at a time: tensor cores cut what they sum off, not round it,
# so that errors of long sums add up
LONGEST = 1 << 15
WORTH = 1 << 28  # multiplications from which the parts pay


def product(a: Tensor, b: Tensor) -> Tensor:
    """Returns a b^T for a (r, k) and b (s, k), (r, s)."""
    if not _in_parts(a, b):
        return a @ b.T
    total = a.new_zeros(len(a), len(b))
    parts = zip(a.split(LONGEST, 1), b.split(LONGEST, 1), strict=True)
    with tf32_products():
        for left, right in parts:
            leading_left = leading(left)
            leading_right = leading(right)
            total.addmm_(left - leading_left, leading_right.T)
            total.addmm_(leading_left, (right - leading_right).T)
            total.addmm_(leading_left, leading_right.T)
    return total


def leading(x: Tensor) -> Tensor:
    """Returns the part of each float32 number that TF32 holds exactly: its 11 leading bits."""
    bits = x.contiguous().view(torch.int32)
    return bits.bitwise_and(~REST).view(torch.float32)


def _in_parts(a: Tensor, b: Tensor) -> bool:
    if not a.is_cuda or a.dtype != torch.float32:
        return False
    if a.numel() * len(b) < WORTH or not is_exact():
        return False
    return torch.cuda.get_device_capability(a.device) >= AMPERE
