"""A cleaning: data, noise that is planted, criteria, and the shares of the rows to remove."""

from dataclasses import MISSING, dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal, get_args

from experiments.plan.identity import configuration, short
from experiments.plan.spec import Method
from experiments.plan.tables.data import DataSpec
from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_fraction,
    check_share,
)
from poisonbench.training import Recipe

NoiseKind = Literal["none", "random", "class"]


@dataclass(frozen=True)
class Noise:
    """Wrong labels that are planted, so that it is known which rows are to be found.

    Attributes:
        kind: "none"; "random", any other label; "class", a fixed other label for each class.
        share: of the training rows.
        held_out: whether as large a share of the held-out points gets it too.

    Raises:
        ValueError: a kind that there is not, or a share that does not go with it.
    """

    kind: NoiseKind = "none"
    share: float = 0.0
    held_out: bool = field(default=False, metadata={"configured": "when changed"})

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(NoiseKind))
        if self.kind != "none":
            check_fraction("share", self.share)
        elif self.share or self.held_out:
            told = f"got share {self.share}, held_out {self.held_out}"
            raise ValueError(f"without noise there is none to plant, {told}")

    @property
    def label(self) -> str:
        """In words."""
        if self.kind == "none":
            return "no planted noise"
        words = {"random": "random", "class": "class-dependent"}
        told = f"{words[self.kind]} noise {self.share:.3g}"
        return f"{told}, held-out points too" if self.held_out else told


@dataclass(frozen=True)
class Source:
    """Where the data come from: a data set by its name, or parts by files or functions.

    Data of parts are `package.module:callable`, which returns them, or FILE.npz with x and y.

    Attributes:
        dataset: the data set, None where parts are given.
        train: the training set.
        test: the test set, on which accuracy is reported.
        held_out: the points by which rows are chosen: a part, or a share of the training rows that
            is set apart, drawn by the seed.

    Raises:
        ValueError: neither a data set nor both parts, both of these, or a share outside (0, 1).
    """

    dataset: DataSpec | None = None
    train: str | None = None
    test: str | None = None
    held_out: float | str = 0.2

    def __post_init__(self) -> None:
        parts = [self.train, self.test]
        if self.dataset is not None and parts != [None, None]:
            raise ValueError("name a dataset, or train and test, not both")
        if self.dataset is None and None in parts:
            raise ValueError("name a dataset, or both train and test")
        if not isinstance(self.held_out, str):
            check_fraction("held_out", self.held_out)

    @property
    def config(self) -> dict[str, Any]:
        """As a log tells it."""
        named: Any = {"train": self.train, "test": self.test}
        if self.dataset is not None:
            named = self.dataset.config
        return {"dataset": named, "held_out": self.held_out}


@dataclass(frozen=True)
class Criterion:
    """By which rows are removed: a filter, or the self-influence of an estimator.

    Attributes:
        part: "filter" or "memorisation".
        method: the filter, or the measure of memorisation.
        estimator: whose influence it works on, None if on none.
    """

    part: str
    method: Method
    estimator: Method | None = None

    @property
    def name(self) -> str:
        """Of the criterion, with its estimator and what is not as by default."""
        words = called(self.method)
        if self.estimator is not None:
            words = f"{words}, {called(self.estimator)}"
        return words

    @property
    def config(self) -> dict[str, Any]:
        """All that its scores depend on."""
        config = {self.part: self.method.config}
        if self.estimator is not None:
            config["estimator"] = self.estimator.config
        return config


def called(method: Method) -> str:
    """Returns the name of a method with the fields that are not as by default."""
    words = [method.name.rpartition(":")[2]]
    for own in fields(method.value):
        held = getattr(method.value, own.name)
        usual = own.default
        if usual is MISSING or held != usual:
            words.append(f"{own.name}={short(configuration(held))}")
    return " ".join(words)


@dataclass(frozen=True)
class Cleaning:
    """What a file of `poisonbench clean` asks for.

    Attributes:
        name: of the cleaning.
        source: the data.
        recipe: of every training.
        code: sha256 of the code of the recipe's model and loop, "" where they are built in.
        noise: kinds and shares of planted noise, each on its own.
        criteria: by which rows are removed, each on its own.
        remove: shares of the rows that are removed, ascending, the first one 0.
        seeds: of the rows drawn, the noise and the trainings.
        trainings: runs at each share, which differ in their seed.

    Raises:
        ValueError: a value out of its range.
    """

    name: str
    source: Source
    recipe: Recipe
    code: str
    noise: tuple[Noise, ...]
    criteria: tuple[Criterion, ...]
    remove: tuple[float, ...]
    seeds: tuple[int, ...]
    trainings: int = 3

    def __post_init__(self) -> None:
        check_at_least("trainings", self.trainings, 1)
        for share in self.remove:
            check_share("each share of remove", share)
        rising = all(low < high for low, high in pairwise(self.remove))
        if not rising or self.remove[:1] != (0.0,) or len(self.remove) < 2:
            told = f"got {list(self.remove)}"
            raise ValueError(f"remove must be rising shares after 0, {told}")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds must be at least 0, got {list(self.seeds)}")
