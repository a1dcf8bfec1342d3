"""What certifiers by partition share: a hash of a row's content, the order by it, and votes.

A model that does not see a changed row must stay the same model, so nothing here depends on where a
row lies in the training set or on how many there are.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from poisonbench.checks import check_type
from poisonbench.data import Dataset
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, train_many

_SHIFTS = (30, 27, 31)
_AT_ONCE = 1 << 17  # values that are hashed together: as whole numbers they take 1 MiB
_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def check_rows(train: Dataset, test: Dataset) -> None:
    """Validates the input of a certifier.

    Raises:
        TypeError: they are no data sets.
        ValueError: one of them has no rows.
    """
    for name, data in (("train", train), ("test", test)):
        check_type(name, data, Dataset, "a Dataset(x, y, classes)")
        if not len(data):
            raise ValueError(f"{name} must have at least 1 row, got 0")


def row_hash(x: Tensor) -> Tensor:
    """Returns a non-negative number of 62 bits for the content of each row, (n,) int64.

    Equal rows have equal numbers. Labels do not enter: a changed label then stays in its part, and
    counts as one change.

    Args:
        x: (n, *shape) float32 or float64, or int64 token ids.
    """
    values = x.flatten(1)
    width = values.shape[1]
    g = generator(0, "row-hash")
    drawn = torch.randint(-(2**62), 2**62, (width,), generator=g)
    odd = drawn * 2 + 1
    # sums kept one by one would lie between what each part takes and gives back, and pin it
    number = torch.empty(len(x), dtype=torch.int64)
    every = torch.arange(len(x))
    for rows in in_blocks(every, width, _AT_ONCE):
        bits = _whole_numbers(values[rows].cpu())
        number[rows] = (bits * odd).sum(1)  # arithmetic modulo 2^64
    for (
        shift
    ) in _SHIFTS:  # high bits into the low ones, which alone a remainder would see
        mixed = number ^ (number >> shift)
        number = mixed * int(odd[0])
    return number >> 2 & (2**62 - 1)


def _whole_numbers(x: Tensor) -> Tensor:
    """The values as int64: token ids as they are, others by their bits."""
    if not x.is_floating_point():
        return x
    values = x + 0.0  # there is no -0.0 then
    return values.contiguous().view(_BITS[x.dtype]).long()


def in_order(data: Dataset) -> tuple[Dataset, Tensor]:
    """Returns the rows sorted by hash and label, on their device, and their hashes (n,).

    That is one order, whatever the order given.
    """
    number = row_hash(data.x)
    by_label = data.y.cpu().argsort(stable=True)
    by_hash = number[by_label].argsort(stable=True)
    order = by_label[by_hash]
    return data.take(order), number[order]


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
        """Returns the labels that K models give the test points, (K, m) int64 on the CPU.

        A model that diverged votes for class 0: a function of its rows, like any other vote.

        Args:
            train: n rows.
            masks: (K, n) bool, the rows of each model.
            test: m points.
        """
        recipe = replace(
            self.recipe,
            epochs=self.epochs,
            batch_size=self.batch_size,
            checkpoints=1,
        )
        models = range(len(masks))
        seeds = [derive(self.seed, "part", k) for k in models]
        ensemble = train_many(
            train,
            masks,
            recipe,
            seeds,
            points=test,
            scratch=self.scratch,
        )
        logits = ensemble.logits().nan_to_num(nan=-torch.inf)
        return logits.argmax(2).cpu()


def plurality(votes: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Returns the most frequent label, the lowest of those that tie, (m,), and all counts (m, C).

    Args:
        votes: (K, m) int64.
        classes: C.
    """
    of_point = votes.T
    counts = torch.zeros(len(of_point), classes, dtype=torch.int64)
    counts.scatter_add_(1, of_point, torch.ones_like(of_point))
    return counts.argmax(1), counts


def gaps(labels: Tensor, counts: Tensor) -> Tensor:
    """Returns by how many votes the label leads each class before that one would win, (m, C).

    That is n_c - n_c' - [c' < c].

    Args:
        labels: (m,) int64, c of each point.
        counts: (m, C), the votes of each class.
    """
    label = labels[:, None]
    own = counts.gather(1, label)
    rivals = torch.arange(counts.shape[1])
    wins_ties = rivals < label
    return own - counts - wins_ties.long()
