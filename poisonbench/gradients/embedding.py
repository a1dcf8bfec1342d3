"""Gradients of a table of vectors: of the few rows that an example looks up, and of no others.

With V rows of e numbers, an example that looks up L of them has a gradient of L e numbers that are
not zero; (B, V, e) numbers are never held. Products with m others go through the rows that both
sides look up: O(B L e m) multiplications.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.gradients.forms import Dense, Grad, Scaled, magnitude, scaled, wide

# a table of fewer rows than this times those looked up is held whole: plain products are faster
FEW = 8


@dataclass(frozen=True, eq=False)
class Table:
    """Vectors in the space of a table, of the rows that some of them have.

    Attributes:
        place: (V,) int64, where a row of the table stands here; -1: nowhere, all have 0 there.
        columns: (rows here x e, m).
    """

    place: Tensor
    columns: Tensor


@dataclass(frozen=True, eq=False)
class Sparse:
    """Per-example gradients of a table (V, e): `values` in the rows `ids`, zero in all others.

    Attributes:
        ids: (B, L) int64, rows of the table.
        values: (B, L, e); a row that stands twice in an example has its value in the first place,
            and zero in the others.
        rows: V.
    """

    ids: Tensor
    values: Tensor
    rows: int

    def dot(self, other: Grad) -> Tensor:
        """See `Grad`; `other` may be `Dense`, (m, V e)."""
        if isinstance(other, Dense):
            return self._along(self._part(other))
        assert isinstance(other, Sparse)
        return self._along(other.table)

    def norm(self) -> Tensor:
        """See `Grad`."""
        norm: Tensor = torch.linalg.vector_norm(self.values.flatten(1), dim=1)
        return norm

    def join(self, others: Sequence[Grad]) -> "Sparse":
        """See `Grad`."""
        parts = [self]
        for other in others:
            assert isinstance(other, Sparse)
            parts.append(other)
        ids = torch.cat([part.ids for part in parts])
        values = torch.cat([part.values for part in parts])
        return Sparse(ids, values, self.rows)

    def whole(self) -> Dense:
        """Returns the same gradients with all their zeros, (B, V e): for a few examples."""
        count, _, width = self.values.shape
        table = self.values.new_zeros(count, self.rows, width)
        table.scatter_add_(1, self.ids[:, :, None].expand_as(self.values), self.values)
        return Dense(table.flatten(1))

    def add_to(self, sums: Tensor, weights: Tensor) -> None:
        """Adds the sum of the gradients for each of k weights (B, k) to the sums (V, e, k)."""
        used = self._used
        row, _ = used.nonzero(as_tuple=True)
        terms = self.values[used][:, :, None] * weights[row][:, None]
        sums.index_put_((self.ids[used],), terms, accumulate=True)

    def squared(self) -> "Sparse":
        """Returns the squares of all entries in the place of the gradients."""
        return Sparse(self.ids, self.values.square(), self.rows)

    @cached_property
    def table(self) -> Table:
        """These gradients as what others are multiplied with."""
        used = self._used
        row, _ = used.nonzero(as_tuple=True)
        found, here = torch.unique(self.ids[used], return_inverse=True)
        size = (len(found), self.values.shape[2], len(self.ids))
        columns = self.values.new_zeros(size)
        columns[here, :, row] = self.values[used]
        return Table(self._places(found), columns.flatten(0, 1))

    @property
    def _used(self) -> Tensor:
        """Whether a value is not zero, as it is at padding and in a second place, (B, L)."""
        return self.values.any(2)

    def _places(self, found: Tensor) -> Tensor:
        """Returns where each row of the table stands among the rows `found`, -1 for nowhere."""
        place = torch.full((self.rows,), -1, device=found.device)
        place[found] = torch.arange(len(found), device=found.device)
        return place

    def _part(self, other: Dense) -> Table:
        """Returns of vectors (m, V e) the rows that are looked up here."""
        found = self.ids[self._used].unique()
        vectors = other.g.view(len(other.g), self.rows, -1)
        columns = vectors[:, found].permute(1, 2, 0)
        return Table(self._places(found), columns.flatten(0, 1))

    def _along(self, table: Table) -> Tensor:
        """Returns the products with the m vectors of a table, (B, m)."""
        place = table.place[self.ids]
        shared = self._used & (place >= 0)
        counts = shared.sum(1)
        width = self.values.shape[2]
        if not len(table.columns):
            return self.values.new_zeros(len(self.ids), table.columns.shape[1])
        entries = torch.arange(width, device=place.device)
        index = place[shared][:, None] * width + entries
        return F.embedding_bag(
            input=index.flatten(),
            weight=table.columns,
            offsets=(counts.cumsum(0) - counts) * width,
            mode="sum",
            per_sample_weights=self.values[shared].flatten(),
        )


def spared(module: nn.Module, a: Tensor | None) -> int:
    """Returns how many entries of a layer's weight are in no gradient's form, all of them zero.

    Args:
        module: any layer; only large tables spare any.
        a: its inputs, (B, ...), or (L,) for all rows; None where they are not one tensor.
    """
    if a is None or not isinstance(module, nn.Embedding):
        return 0
    rows = a.numel() if a.dim() == 1 else a[0].numel()
    if module.num_embeddings <= FEW * rows:
        return 0
    return (module.num_embeddings - rows) * module.embedding_dim


def embedding_gradient(module: nn.Embedding, a: Tensor, d: Tensor) -> Sparse:
    """Returns the gradients of the weight of an embedding.

    Args:
        module: of no `max_norm` and `scale_grad_by_freq`.
        a: (B, ...) int64, the rows looked up.
        d: (B, ..., e), the gradients at what was found.
    """
    ids = a.flatten(1)
    d = d.reshape(*ids.shape, -1)
    same = ids[:, :, None] == ids[:, None]
    again = same.tril(-1).any(2)  # the row stands in an earlier place too
    taken = same & ~again[:, :, None]
    if module.padding_idx is not None:
        taken &= (ids != module.padding_idx)[:, :, None]
    return Sparse(ids, wide(taken.to(d.dtype) @ d), module.num_embeddings)


def scaled_rows(
    module: nn.Embedding,
    gradients: Sparse,
    rescale: bool,
) -> Scaled:
    """Returns the gradients of a table, as `scaled` does; whole where the table is small."""
    if not spared(module, gradients.ids):
        return scaled(gradients.whole().g, rescale)
    if not rescale:
        return gradients, None
    size = magnitude(gradients.values)
    unit = replace(gradients, values=gradients.values / size[:, None, None])
    return unit, size.double()
