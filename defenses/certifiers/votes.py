"""What certifiers by partition share: a hash of the content of a row, the order that it gives, and votes.

A model that does not see a changed row must stay the same model, so nothing here depends on where a row lies in the training set
or on how many there are.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, train_many

_SHIFTS = (30, 27, 31)
_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def row_hash(x: Tensor) -> Tensor:
    """Returns a non-negative number of 62 bits for the content of each row, (n,) int64: equal rows, equal numbers.

    Labels do not enter: a changed label then stays in its part, and counts as one change.

    Args:
        x: (n, *shape) float32 or float64.
    """
    bits = (
        (x.flatten(1).cpu() + 0.0).contiguous().view(_BITS[x.dtype]).long()
    )  # + 0.0: there is no -0.0 then
    g = generator(0, "row-hash")
    odd = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=g) * 2 + 1
    value = (bits * odd).sum(1)  # arithmetic modulo 2^64
    for shift in _SHIFTS:  # high bits into the low ones, which alone a remainder would see
        value = (value ^ (value >> shift)) * int(odd[0])
    return value >> 2 & (2**62 - 1)


def in_order(data: Dataset) -> tuple[Dataset, Tensor]:
    """Returns the rows sorted by hash and label, on their device, and their hashes: one order whatever the order given."""
    value = row_hash(data.x)
    by_label = data.y.cpu().argsort(stable=True)
    order = by_label[value[by_label].argsort(stable=True)]
    return data.take(order), value[order]


@dataclass(frozen=True)
class Base:
    """How the models of a vote are trained: by the victim's recipe, but for these.

    Attributes:
        recipe: the victim's.
        epochs: of each model.
        batch_size: of each model.
        seed: from which every model has its own.
        scratch: folder for restart blocks, or None.
    """

    recipe: Recipe
    epochs: int
    batch_size: int
    seed: int
    scratch: Path | None

    def vote(self, train: Dataset, masks: Tensor, test: Dataset) -> Tensor:
        """Returns the labels that a model for each of the masks (K, n) gives the test points, (K, m) int64 on the CPU.

        A model that diverged votes for class 0: a function of its rows, like any other vote.
        """
        recipe = replace(self.recipe, epochs=self.epochs, batch_size=self.batch_size, checkpoints=1)
        seeds = [derive(self.seed, "part", k) for k in range(len(masks))]
        ensemble = train_many(train, masks, recipe, seeds, points=test, scratch=self.scratch)
        return ensemble.logits().nan_to_num(nan=-torch.inf).argmax(2).cpu()


def plurality(votes: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Returns the most frequent label, the lowest of those that tie, (m,), and all counts (m, C), of votes (K, m)."""
    counts = torch.zeros(votes.shape[1], classes, dtype=torch.int64)
    counts.scatter_add_(1, votes.T, torch.ones_like(votes.T))
    return counts.argmax(1), counts


def gaps(labels: Tensor, counts: Tensor) -> Tensor:
    """Returns by how many votes the label leads each class before that one would win, (m, C): n_c - n_c' - [c' < c]."""
    own = counts.gather(1, labels[:, None])
    return own - counts - (torch.arange(counts.shape[1]) < labels[:, None]).long()
