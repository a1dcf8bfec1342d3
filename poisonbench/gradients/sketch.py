"""Random projections of per-example gradients on k directions, with one entry a parameter.

A parameter is added to one of the k coordinates, with a random sign (CountSketch, Charikar et al.,
ICALP 2002; as a projection that keeps dot products, Weinberger et al., ICML 2009): unbiased, with
the variance of Gaussian directions or less, (|g|^2 |g'|^2 + <g, g'>^2) / k. Cost of an instance: p
additions beside its gradient. Neither a (p, k) nor an (n, p) matrix is ever held.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.gradients.backprop import per_example
from poisonbench.gradients.curvature.layout import matrix
from poisonbench.gradients.embedding import Sparse
from poisonbench.gradients.forms import Grad
from poisonbench.gradients.passes import Plan
from poisonbench.gradients.planning.plan import plan
from poisonbench.gradients.selection import RAW, Form
from poisonbench.memory import Budget, batches, halving, room
from poisonbench.seeding import exact_arithmetic, generator


@dataclass(frozen=True, eq=False)
class Folding:
    """Where the entries of a layer's gradient go.

    Attributes:
        slot: (p_layer,) int64, all different, below the next multiple of k; the coordinate is the
            remainder, so that none has many more entries than others.
        sign: (p_layer,), 1 or -1.
        entry: (slots,) int64, which entry goes to each slot, p_layer for none; on a GPU alone.
    """

    slot: Tensor
    sign: Tensor
    entry: Tensor | None = None

    @classmethod
    def drawn(cls, size: int, k: int, draws: torch.Generator) -> "Folding":
        """Draws it for a layer of `size` entries, on the CPU."""
        slots = _slots(size, k)
        slot = torch.randperm(slots, generator=draws)[:size]
        sign = 2 * torch.randint(2, (size,), generator=draws) - 1
        return cls(slot, sign)

    def for_rows_of(self, module: nn.Conv2d) -> "Folding":
        """Returns that of a convolution whose entries are in the order of its weight.

        It is drawn for (o, kh, kw, c), the order of gradients on a CPU, so that all devices have
        the same projection.
        """
        outputs, inputs, height, width = module.weight.shape
        size = module.weight.numel()
        drawn = torch.arange(size).view(outputs, height, width, inputs)
        weights = drawn.permute(0, 3, 1, 2).flatten()
        order = torch.cat([weights, torch.arange(size, len(self.slot))])
        return Folding(self.slot[order], self.sign[order])

    def to(self, like: Tensor, k: int) -> "Folding":
        """Returns it on the device and in the dtype of `like`, for k coordinates."""
        entry = None
        size = len(self.slot)
        if like.is_cuda:
            entry = torch.full((_slots(size, k),), size)
            entry[self.slot] = torch.arange(size)
            entry = entry.to(like.device)
        return Folding(self.slot.to(like.device), self.sign.to(like), entry)

    def add(self, gradients: Grad, sums: Tensor) -> None:
        """Adds the entries of a layer's gradients to the sums (B, k)."""
        k = sums.shape[1]
        if isinstance(gradients, Sparse):
            self._add_rows(gradients, sums)
            return
        signed = matrix(gradients) * self.sign
        if self.entry is None:
            sums.index_add_(1, self.slot % k, signed)
            return
        # on a GPU index_add_ depends on the order of threads
        padded = F.pad(signed, (0, 1))
        sums += padded.index_select(1, self.entry).unflatten(1, (-1, k)).sum(1)

    def _add_rows(self, gradients: Sparse, sums: Tensor) -> None:
        """Adds those of a table of vectors, of the rows that are looked up alone."""
        width = gradients.values.shape[2]
        entries = torch.arange(width, device=sums.device)
        places = gradients.ids[:, :, None] * width + entries
        signed = gradients.values * self.sign[places]
        coordinate = self.slot[places] % sums.shape[1]
        row = torch.arange(len(sums), device=sums.device)[:, None, None]
        index = (row.expand_as(coordinate), coordinate)
        sums.index_put_(index, signed, accumulate=True)


def _slots(size: int, k: int) -> int:
    """Returns the least multiple of k that is not below `size`."""
    return -(-size // k) * k


@dataclass(frozen=True, eq=False)
class Sketch:
    """A projection of the gradients of one model on k coordinates.

    Attributes:
        model: in evaluation mode.
        how: which parameters are differentiated, and how.
        form: which gradients; its `renormalize` has no meaning.
        k: number of coordinates.
        layers: a folding for each layer of the engine, in its order.
    """

    model: nn.Module
    how: Plan
    form: Form
    k: int
    layers: tuple[Folding, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        data: Dataset,
        k: int,
        seed: int,
        form: Form = RAW,
    ) -> "Sketch":
        """Draws the projection.

        Args:
            model: in evaluation mode, on the device and in the dtype of the data.
            data: instances such as will be projected, at least one.
            k: number of coordinates.
            seed: of the projection.
            form: which gradients.

        Raises:
            ModelError: (a ValueError) as for `dot_products`.
        """
        with exact_arithmetic():
            how = plan(model, form.layers, data.x)
            one = data.rows(data.x[:1], data.y[:1])
            layers = []
            modules = dict(enumerate(how.hooked.values()))
            found = per_example(model, how, one, form.seeds, None, rescale=False)
            for number, (gradients, _) in enumerate(found):
                draws = generator(seed, "sketch", number)
                folding = Folding.drawn(_width(gradients), k, draws)
                module = modules.get(number)
                if isinstance(module, nn.Conv2d) and not how.pixelwise:
                    folding = folding.for_rows_of(module)
                layers.append(folding.to(data.zeros(0), k))
        return cls(model, how, form, k, tuple(layers))

    def __call__(self, data: Dataset, budget: Budget | None = None) -> Tensor:
        """Returns the projected gradients of n instances at their labels, (n, k)."""
        return self._folded(data, budget, norms=False)

    def with_norms(
        self, data: Dataset, budget: Budget | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the projected gradients, (n, k), and the norms of the gradients, (n,)."""
        found = self._folded(data, budget, norms=True)
        return found[:, :-1], found[:, -1]

    def _folded(self, data: Dataset, budget: Budget | None, norms: bool) -> Tensor:
        """Returns the projected gradients, and behind them their norms where these are asked."""
        if not len(data):
            return data.zeros(0, self.k + norms)
        _, batch = room(data, self.how.size, budget, self.how.held)

        def rows(size: int) -> Tensor:
            parts = batches(data, size)
            return torch.cat([self._batch(part, norms) for part in parts])

        with exact_arithmetic():
            return halving(rows, batch)

    def _batch(self, data: Dataset, norms: bool) -> Tensor:
        sums = data.zeros(len(data), self.k)
        norm = data.zeros(len(data))
        found = per_example(
            self.model, self.how, data, self.form.seeds, None, rescale=False
        )
        for folding, (gradients, _) in zip(self.layers, found, strict=True):
            folding.add(gradients, sums)
            if norms:
                norm = torch.hypot(norm, gradients.norm())
        if not norms:
            return sums
        return torch.cat([sums, norm[:, None]], 1)


def _width(gradients: Grad) -> int:
    """Returns the number of entries of a layer's gradient."""
    if isinstance(gradients, Sparse):
        return gradients.rows * gradients.values.shape[2]
    return matrix(gradients).shape[1]
