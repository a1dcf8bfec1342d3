"""Whether the methods and the recipe of a grid take the kinds of its data, told before any work.

A method declares `kinds`; a built-in model is tried on the smallest instance of a kind. The kind of
a data set from outside is known once it is loaded: `check_fit` is then asked again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import torch

from experiments.plan.fields import Faults
from experiments.plan.spec import Applied, Grid, Method
from poisonbench.data import KIND_OF, KINDS, Layout, kinds_of
from poisonbench.errors import ConfigError
from poisonbench.models import MODELS
from poisonbench.training import Recipe

# the smallest that every built-in model of a kind takes
SMALLEST: dict[str, Layout] = {
    "image": Layout((1, 8, 8), 2, "image"),
    "vector": Layout((8,), 2, "vector"),
    "tokens": Layout((8,), 2, "tokens", 8),
    "spectrogram": Layout((1, 8, 8), 2, "spectrogram"),
}


def check_fit(grid: Grid, kinds: Mapping[str, str] = KIND_OF) -> None:
    """Refuses a grid whose methods or model do not take its data.

    Args:
        grid: all of whose scenes are looked at.
        kinds: kind of each data set by its name; a data set that is not in it is not judged.

    Raises:
        ConfigError: with every fault, one per line: the table of the grid, the method, the kinds
            that it takes, the data set and its kind.
    """
    faults = Faults()
    for name in dict.fromkeys(scene.dataset.name for scene in grid.scenes):
        kind = kinds.get(name)
        if kind is not None:
            for path, what in _misfits(grid, name, kind):
                faults.add(path, what)
    if faults.lines:
        way = "choose another data set, or other methods: poisonbench list"
        raise ConfigError(faults.lines, way)


def _misfits(grid: Grid, dataset: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yields a table of the grid and what is wrong with it, for one data set."""
    of = f"data set {dataset!r} is of kind {kind}"
    for recipe in dict.fromkeys(scene.recipe for scene in grid.scenes):
        for key, why in _recipe_faults(recipe, kind):
            yield f"recipe.{key}", f"{why}; {of}"
    for part, method in _methods(grid):
        taken = kinds_of(method.value)
        if kind not in taken:
            what = f"{method.name} takes data of kind {' or '.join(taken)}"
            yield part, f"{what}; {of}"
            continue
        for _, why in _recipe_faults(method.value, kind):
            yield part, f"{method.name}: {why}; {of}"


def _methods(grid: Grid) -> Iterable[tuple[str, Method]]:
    """All methods of a grid with their tables, each once."""
    attacks = [("attack", scene.attack) for scene in grid.scenes]
    applied = [_of(entry) for entry in grid.applied]
    return dict.fromkeys([*attacks, *applied])


def _of(applied: Applied) -> tuple[str, Method]:
    return applied.part, applied.method


def _recipe_faults(value: object, kind: str) -> Iterator[tuple[str, str]]:
    """Yields why the recipes in a dataclass do not take a kind of data, with the field of each."""
    if isinstance(value, Recipe):
        why = model_fault(value.model, kind)
        if why:
            yield "model", why
        if value.augment != "none" and not KINDS[kind].flips:
            yield "augment", f"augment {value.augment!r} mirrors images"
    elif is_dataclass(value):
        for field in fields(value):
            yield from _recipe_faults(getattr(value, field.name), kind)


@cache
def model_fault(name: str, kind: str) -> str:
    """Returns why a built-in model does not take a kind of data; "" if it does, or is not ours."""
    make: Any = MODELS.get(name)
    if make is None or kind not in KINDS:
        return ""
    try:
        with torch.device("meta"):  # no values, and so no draws
            make(SMALLEST[kind])
    except ConfigError as error:
        return error.errors[0].partition(", got")[0]
    return ""
