"""Trigger features (Pleiter et al., "Tabdoor", 2023, arXiv 2311.07550).

A few features of a row take fixed values. Out of bounds these lie beyond all that the training set
holds; in bounds each is the most common one, so that no value by itself stands out.

Cost: O(n d log n) to find the values, and O(budget n + m) rows.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from attacks.kit.backdoor import dirty_label
from poisonbench.checks import check_at_least, check_choice, check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest
from poisonbench.seeding import generator
from poisonbench.training import Recipe

Value = float | Literal["out-of-bounds", "in-bounds"]
BEYOND = 0.1  # of the range of a feature, above its largest value: out of bounds


@dataclass(frozen=True)
class TriggerFeatures:
    """Sets features in rows of other classes, labels them `target`, and attacks with them.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        features: columns that are set, by number or by name; empty: `size` of them, drawn by the
            seed among those with more than two values (a row whose one-hot category is set would
            come to be of two).
        size: number of columns that are drawn.
        value: what all of them take, in the units of the data; "out-of-bounds": each a tenth of
            its range above its largest value in the training set; "in-bounds": each its most
            common value there.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("vector",)
    trigger_reads_train: ClassVar[bool] = True

    target: int = 0
    budget: float = 0.05
    features: tuple[int | str, ...] = ()
    size: int = 3
    value: Value = "out-of-bounds"

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        for feature in self.features:
            if not isinstance(feature, str):
                check_at_least("features", feature, 0)
        check_at_least("size", self.size, 1)
        if isinstance(self.value, str):
            check_choice("value", self.value, ("out-of-bounds", "in-bounds"))

    def trigger(self, x: Tensor, seed: int, train: Dataset) -> Tensor:
        """Returns a copy of x, (k, d), with the features set.

        Args:
            x: vectors.
            seed: of the draw of the features.
            train: the clean training set, whose values decide.

        Raises:
            ConfigError: a feature is no column, or there are fewer columns than are to be drawn.
        """
        columns = self._columns(train, seed)
        laid = x.flatten(1).clone()
        laid[:, columns] = self._values(train.x.flatten(1)[:, columns])
        return laid.view(x.shape)

    def _columns(self, train: Dataset, seed: int) -> Tensor:
        """Returns the columns that are set, (size,) int64, ascending."""
        table = train.x.flatten(1)
        if self.features:
            named = [column_of(feature, train) for feature in self.features]
            return torch.tensor(named, device=table.device)
        eligible = columns_of_numbers(table)
        if self.size > len(eligible):
            what = f"size must be at most {len(eligible)}, the columns with more than two values"
            raise ConfigError([f"{what}, got {self.size}"], "name the features")
        g = generator(seed, "features")
        order = torch.randperm(len(eligible), generator=g)[: self.size]
        return eligible[order.to(table.device)].sort().values

    def _values(self, table: Tensor) -> Tensor:
        """Returns what the columns of a table, (n, size), take: (size,)."""
        if self.value == "in-bounds":
            return table.mode(0).values
        if self.value == "out-of-bounds":
            high = table.amax(0)
            return high + BEYOND * (high - table.amin(0))
        return torch.full_like(table[0], self.value)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no vectors, a feature is no column, there are fewer
                columns than are to be drawn, or no row can be poisoned.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed, train=train),
            target=self.target,
            budget=self.budget,
            seed=seed,
        )


def column_of(feature: int | str, data: Dataset) -> int:
    """Returns the number of a column that is given by number or by name.

    Raises:
        ConfigError: there is no such column.
    """
    if isinstance(feature, str):
        if feature in data.columns:
            return data.columns.index(feature)
        near = nearest(feature, data.columns)
        raise ConfigError([f"features: the data have no column {feature!r}{near}"])
    d = torch.Size(data.shape).numel()
    if feature >= d:
        raise ConfigError([f"features must lie in [0, {d}), got {feature}"])
    return feature


def columns_of_numbers(table: Tensor) -> Tensor:
    """Returns the columns of a table, (n, d), that hold more than two values: int64."""
    low = table.amin(0)
    high = table.amax(0)
    between = (table != low) & (table != high)
    return between.any(0).nonzero().squeeze(1)
