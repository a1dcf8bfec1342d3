"""What the table of stage kinds says of each kind. Needs no torch."""

import importlib
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Length:
    """What a log of a kind must hold one entry for.

    Attributes:
        own: its data set.
        noun: what the entries are.
        scene: the data set of the scene of the same length.
        scene_noun: what its entries are.
    """

    own: str
    noun: str
    scene: str
    scene_noun: str


@dataclass(frozen=True)
class Column:
    """A column of a table: the metric of a row under its head, in a format such as ".3f".

    The format of seconds is "s".
    """

    head: str
    metric: str
    form: str = ".3f"


@dataclass(frozen=True)
class Shown:
    """The table of a kind, after the columns that name attack, estimator and method.

    Attributes:
        title: one or two words, in capitals.
        legend: what the columns mean.
        columns: metrics.
        counts: points or rows, by head.
    """

    title: str
    legend: str
    columns: tuple[Column, ...]
    counts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of stage.

    Attributes:
        name: of the stage and of its log, and the first word of its file.
        part: the table of a grid file that names its methods, and their key in its configuration.
        methods: the table of the built-in ones.
        estimators: with which estimators of the grid a method is combined: none, each, or each if
            it (or the verdict that it works on) reads influence, and otherwise none.
        of: parts whose methods a table of the grid file may choose, by their names.
        judged: it works on the verdict of each detector or filter, if its method reads one.
        alarm: the alarm rate is a part of its configuration.
        do: what is done: a function of a `Cell`.
        vectors: data sets that evaluation reads, by length: those of a group have one.
        numbers: those that hold a single number.
        texts: those that hold a text.
        length: what it must hold one entry for.
        rows: what the rows of its evaluation are called in exports.
        evaluate: a function of its log and that of its scene, to a row.
        over: settings over which rows are averaged, beside the seeds.
        shown: the table of these rows, where no other function makes it.
    """

    name: str
    part: str = ""
    methods: str = ""
    estimators: Literal["none", "each", "if read"] = "none"
    of: tuple[str, ...] = ()
    judged: bool = False
    alarm: bool = False
    do: str = ""
    vectors: tuple[tuple[str, ...], ...] = ()
    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    length: Length | None = None
    rows: str = ""
    evaluate: str = ""
    over: tuple[str, ...] = ()
    shown: Shown | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """All data sets that evaluation reads."""
        vectors = [name for group in self.vectors for name in group]
        return (*vectors, *self.numbers, *self.texts)


def named(target: str) -> Any:
    """Returns the function or table that a row names as "module:name"."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
