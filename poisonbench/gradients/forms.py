"""The two forms of per-example gradients: the numbers themselves, or the factors they are made of.

A layer whose weight acts as z_l = W a_l at L places (L = 1 for a vector, the pixels for a
convolution) has the per-example gradient G = sum_l d_l a_l^T, with d_l = dF/dz_l. It is kept as
`Dense` (G itself, p numbers) or as `Ghost` (the a_l and d_l, from which
<G, G'> = sum_{l,l'} <a_l, a'_l'> <d_l, d'_l'>; Goodfellow 2015, arXiv 1510.01799).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Grad(Protocol):
    """Per-example gradients of one layer for B examples."""

    def dot(self, other: "Grad") -> Tensor:
        """Returns the dot products with the B' gradients of `other`, of the same form, (B, B')."""
        ...

    def norm(self) -> Tensor:
        """Returns the Euclidean norms, (B,)."""
        ...

    def join(self, others: Sequence["Grad"]) -> "Grad":
        """Returns these gradients followed by those of `others`, which have the same form."""
        ...


# the gradients of a layer, and the factors (B,) by which they were divided, or None
Scaled = tuple[Grad, Tensor | None]


@dataclass(frozen=True, eq=False)
class Dense:
    """The gradients themselves: g (B, p), and those of the bias apart, (B, q) or None."""

    g: Tensor
    bias: Tensor | None = None

    def dot(self, other: Grad) -> Tensor:
        """See `Grad`."""
        assert isinstance(other, Dense)
        products = summed_products(self.g, other.g)
        if self.bias is None or other.bias is None:
            return products
        return products.addmm_(wide(self.bias), wide(other.bias).T)

    def norm(self) -> Tensor:
        """See `Grad`."""
        norm = lengths(self.g)
        if self.bias is None:
            return norm
        return torch.hypot(norm, lengths(self.bias))

    def join(self, others: Sequence[Grad]) -> "Dense":
        """See `Grad`."""
        parts = [self]
        for other in others:
            assert isinstance(other, Dense)
            parts.append(other)
        gradients = torch.cat([part.g for part in parts])
        biases = [part.bias for part in parts if part.bias is not None]
        if not biases:
            return Dense(gradients)
        return Dense(gradients, torch.cat(biases))


@dataclass(frozen=True, eq=False)
class Ghost:
    """The factors of the gradients.

    Attributes:
        a: (B, L, i) inputs.
        d: (B, L, o) gradients at the outputs.
        words: the places are those of a sequence, of which some may be padding, without a gradient.
    """

    a: Tensor
    d: Tensor
    words: bool = False

    def dot(self, other: Grad) -> Tensor:
        """See `Grad`. Takes (B L) x (B' L') numbers of memory."""
        assert isinstance(other, Ghost)
        pairs = _pairs(self.a, other.a)
        pairs.mul_(_pairs(self.d, other.d))
        rows, here, _ = self.a.shape
        columns, there, _ = other.a.shape
        if here == there == 1:
            return pairs
        by_places = pairs.view(rows, here, columns, there)
        return by_places.sum((1, 3))

    def norm(self) -> Tensor:
        """See `Grad`."""
        if self.a.shape[1] == 1:
            return lengths(self.a[:, 0]) * lengths(self.d[:, 0])
        a = wide(self.a)
        d = wide(self.d)
        gram = (a @ a.mT) * (d @ d.mT)
        return gram.sum((1, 2)).clamp_(min=0).sqrt_()

    def join(self, others: Sequence[Grad]) -> "Ghost":
        """See `Grad`."""
        parts = [self]
        for other in others:
            assert isinstance(other, Ghost)
            parts.append(other)
        inputs = torch.cat([part.a for part in parts])
        outputs = torch.cat([part.d for part in parts])
        return Ghost(inputs, outputs, self.words)


def _pairs(
    t: Tensor,
    u: Tensor,
) -> Tensor:
    """Returns the dot products of the vectors of t (B, L, i) and u (B', L', i), (B L, B' L')."""
    return summed_products(t.flatten(0, 1), u.flatten(0, 1))


def wide(t: Tensor) -> Tensor:
    """Returns t in float32 where it is of bfloat16, else as it is."""
    return t.float() if t.dtype == torch.bfloat16 else t


def summed_products(t: Tensor, u: Tensor) -> Tensor:
    """Returns t @ u.T; of bfloat16 the sums are those of float32, and are not rounded again."""
    if t.dtype != torch.bfloat16:
        return t @ u.T
    if t.is_cuda:
        return torch.mm(t, u.T, out_dtype=torch.float32)
    return t.float() @ u.T.float()


def lengths(t: Tensor) -> Tensor:
    """Returns the Euclidean norms of the rows of t (B, p), (B,), summed as products are."""
    kind = torch.promote_types(t.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(t, dim=1, dtype=kind)
    return norm


def magnitude(t: Tensor) -> Tensor:
    """Returns a power of two, by which division rounds nothing, for every example of t (B, ...).

    Returns:
        (B,), above half of the largest magnitude and at most that; 1 where all is 0.
    """
    largest = t.flatten(1).abs().amax(1).double()
    mantissa, _ = torch.frexp(largest)  # in [1/2, 1)
    power = largest / (2 * mantissa)
    return torch.where(largest == 0, 1.0, power).to(t.dtype)


def scaled(
    g: Tensor,
    rescale: bool,
) -> Scaled:
    """Returns the gradients g (B, p), divided by their largest entries where `rescale` asks it."""
    if not rescale:
        return Dense(g), None
    size = magnitude(g)
    unit = Dense(g / size[:, None])
    return unit, size.double()
