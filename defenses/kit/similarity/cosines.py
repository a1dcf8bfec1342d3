"""Cosines of points and training rows, some points at a time.

A second table of the size of the rows' features is never held: the products of unit points and rows
as they are become cosines by the rows' lengths.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.blocks import in_blocks

# cosines at a time; 16 MiB of them: what a C library takes for larger ones goes back to the system
# each time, and costs more than the arithmetic
_BLOCK = 1 << 22
_SHORTEST = 1e-12  # as of `F.normalize`: a row of zeros has cosine 0 with all others


@dataclass(frozen=True, eq=False)
class Cosines:
    """Points and rows whose features are compared.

    Attributes:
        points: (m, d).
        rows: (n, d).
    """

    points: Tensor
    rows: Tensor

    def blocks(self, index: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields some points (b,) int64, and their cosines with all rows, (b, n).

        Args:
            index: (k,) int64, these points alone; None: all.
        """
        if index is None:
            index = torch.arange(len(self.points), device=self.points.device)
        lengths = torch.linalg.vector_norm(self.rows, dim=1)
        weight = 1 / lengths.clamp(min=_SHORTEST)
        for part in in_blocks(index, len(self.rows), _BLOCK):
            unit = F.normalize(self.points[part])
            cosines = unit @ self.rows.T
            yield part, cosines.mul_(weight)
