"""The rules of an attack, in words, and how a broken one is told."""

from collections.abc import Iterator

from torch import Tensor

from poisonbench.data.tokens import PADDING
from poisonbench.errors import PoisonError

RULES = {
    "random-state": "the attack leaves the global generators (torch, numpy, random), torch's "
    "settings, the working directory and the environment as they were",
    "inputs": "the attack leaves the training and test set that it was given as they were",
    "type": "the attack returns a Poisoned",
    "shape": "train, role, origin, targets, wanted and target_origin agree in length and instance "
    "shape",
    "dtype": "x keeps its dtype; role is uint8; origin, wanted and target_origin are int64",
    "kind": "train and targets are of the kind of the clean data, and of their vocabulary",
    "finite": "every value is finite",
    "range": "pixels of images and spectrograms stay in [0, 1], token ids in the vocabulary",
    "padding": PADDING,
    "label": "labels, true and wanted, lie in [0, classes)",
    "role": "role is 0 (clean), 1 (poison) or 2 (cover)",
    "origin": "origin is -1 or a row of the clean training set, each clean row once at most",
    "clean": "a row of role 0 is an unchanged row of the clean training set",
    "budget": "poison rows and deleted clean rows together do not exceed budget x n",
    "cover": "cover rows do not exceed cover x n, none without a field `cover`",
    "clean-label": "a clean-label attack leaves the labels of its poison rows as they were",
    "eps": "poison rows stay in the max-norm ball of radius eps around their clean rows, but for "
    "the pixels that `covered` names; in sentences at most eps words are replaced, inserted or "
    "deleted",
    "true-label": "targets.y is the true label of the test row that target_origin names",
    "wanted": "the wanted label differs from the true one",
}


def broken(rule: str, told: str) -> PoisonError:
    """Returns the error of a rule."""
    return PoisonError(rule, told, RULES[rule])


def broken_rows(rule: str, told: str, bad: Tensor) -> Iterator[PoisonError]:
    """Yields the error of a rule where a row of the mask `bad`, (rows,) bool, is set.

    It names the first such row, and how many there are.
    """
    rows = bad.nonzero()
    if len(rows):
        first = int(rows[0, 0])
        share = f"{len(rows)} of {len(bad)} rows"
        yield broken(rule, f"{told} in row {first} ({share})")
