"""Files of `poisonbench clean`: TOML, or flags, to what is asked. All faults are told at once."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from experiments.plan.checks.combined import check_of
from experiments.plan.checks.loops import check_loops
from experiments.plan.checks.recipes import check_recipes
from experiments.plan.cleaning.spec import Cleaning, Criterion, Noise, Source
from experiments.plan.fields import (
    Faults,
    axis,
    expand,
    is_model,
    known_name,
    typed_as,
)
from experiments.plan.methods import named_methods
from experiments.plan.outside import code_of_models
from experiments.plan.spec import Applied
from experiments.plan.tables.data import DataSpec
from poisonbench.contracts.scope import WAY as SCOPE
from poisonbench.contracts.scope import misfit
from poisonbench.data import DATASETS
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest
from poisonbench.training import Recipe

Raw = Mapping[str, Any]
FLOOR = "random-filter"  # against which every other criterion is held
OTHERS = ["loss-rank", "confident-learning", FLOOR]
# where estimators are named, each serves every criterion that works on influence
NAMED: dict[str, Any] = {
    "estimator": [],
    "filter": ["unhelpful", *OTHERS],
    "memorisation": ["self-influence"],
}
DEFAULTS: dict[str, Any] = {
    "estimator": ["gas", "tracin"],
    "filter": [{"name": "unhelpful", "estimator": "gas"}, *OTHERS],
    "memorisation": [{"name": "self-influence", "estimator": "tracin"}],
}
REMOVE = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3]
SEEDS = [0, 1, 2]
PLAIN = ("name", "train", "test", "held_out", "remove", "seeds", "trainings")
KEYS = ("dataset", "noise", "recipe", *DEFAULTS, *PLAIN)
WAY = "a cleaning needs dataset, or train and test, and a [recipe]"


def parse_cleaning(raw: Raw) -> Cleaning:
    """Turns the content of a file into a cleaning.

    Raises:
        ConfigError: with every fault, one per line.
    """
    faults = Faults()
    for key in raw:
        if key not in KEYS:
            allowed = ", ".join(KEYS)
            faults.add(key, f"unknown key{nearest(key, KEYS)} (allowed: {allowed})")
    recipe = _recipe(raw, faults)
    applied = _applied(raw, faults)
    noise = _noise(raw, faults)
    criteria = tuple(_criteria(applied, faults))
    _check(recipe, applied, noise, faults)
    source = _source(raw, faults)
    remove = axis(raw.get("remove", REMOVE), float, "remove", faults)
    seeds = axis(raw.get("seeds", SEEDS), int, "seeds", faults)
    trainings = typed_as(raw.get("trainings", 3), int)
    if trainings.wrong:
        faults.add("trainings", f"{trainings.wrong}, got {raw['trainings']!r}")
    if faults.lines or source is None:
        raise ConfigError(faults.lines, "" if source else WAY)
    try:
        return Cleaning(
            name=str(raw.get("name", "cleaning")),
            source=source,
            recipe=recipe,
            code=code_of_models(recipe),
            noise=noise,
            criteria=criteria,
            remove=tuple(sorted({0.0, *remove})),
            seeds=tuple(dict.fromkeys(seeds)),
            trainings=trainings.value,
        )
    except ValueError as error:
        raise ConfigError([str(error)]) from error


def _recipe(raw: Raw, faults: Faults) -> Recipe:
    """The one recipe; that of the defaults where it has faults."""
    table = raw.get("recipe", {})
    if not isinstance(table, dict):
        faults.add("recipe", f"is a table, written [recipe], got {table!r}")
        return Recipe()
    before = len(faults.lines)
    found = list(expand(Recipe, table, "recipe", faults))
    if len(found) > 1:
        faults.add("recipe", "is one: give no key a list")
    if len(faults.lines) > before or not is_model(found[0], "recipe", faults):
        return Recipe()
    recipe: Recipe = found[0]
    return recipe


def _applied(raw: Raw, faults: Faults) -> list[Applied]:
    """Estimators, filters and measures of memorisation; random removal is always there."""
    found: list[Applied] = []
    usual = NAMED if "estimator" in raw else DEFAULTS
    for part in usual:
        of = () if part == "estimator" else ("estimator",)
        entries = raw.get(part, usual[part])
        own = named_methods(entries, part, faults, of)
        for one in own:
            check_of(dict(one.of), [], tuple(found), part, faults)
        found += own
    filters = [one.method.name for one in found if one.part == "filter"]
    if FLOOR not in filters:
        found += named_methods(FLOOR, "filter", faults)
    return found


def _criteria(applied: list[Applied], faults: Faults) -> Iterator[Criterion]:
    """Every filter and measure, with every estimator if it works on influence."""
    estimators = [one.method for one in applied if one.part == "estimator"]
    for one in applied:
        if one.part == "estimator":
            continue
        method = one.method
        if one.part == "filter" and not method.reads("influence"):
            yield Criterion(one.part, method)
            continue
        if not estimators and not faults.lines:
            told = f"{method.name} works on influence: name an estimator"
            faults.add("estimator", told)
        for estimator in filter(partial(one.takes, "estimator"), estimators):
            able = hasattr(estimator.value, "self_influence")
            if one.part == "memorisation" and not able:
                told = f"{estimator.name} has no method self_influence(trace)"
                faults.add("memorisation", f"{told}: memorisation = [], or another")
            why = misfit(estimator.value, method.value)
            if why:
                faults.add(one.part, f"{why}: {SCOPE}")
            yield Criterion(one.part, method, estimator)


def _noise(raw: Raw, faults: Faults) -> tuple[Noise, ...]:
    tables = raw.get("noise", {})
    if isinstance(tables, dict):
        tables = [tables]
    right = isinstance(tables, list) and all(isinstance(t, dict) for t in tables)
    if not right or not tables:
        faults.add("noise", f"is a table with kind and share, got {raw['noise']!r}")
        return ()
    found: dict[Noise, None] = {}
    for table in tables:
        found |= dict.fromkeys(expand(Noise, table, "noise", faults))
    return tuple(found)


def _check(
    recipe: Recipe, applied: list[Applied], noise: tuple[Noise, ...], faults: Faults
) -> None:
    """Refuses methods that cannot follow the recipe, or know what is not there to be known."""
    check_loops([recipe], [None], applied, faults)
    check_recipes([recipe], applied, faults)
    natural = any(one.kind == "none" for one in noise)
    for one in applied:
        if one.method.reads("oracle") and natural:
            told = f"{one.method.name} knows the planted noise, and there is none"
            faults.add(one.part, f'{told}: noise = {{kind = "random", share = 0.1}}')


def _source(raw: Raw, faults: Faults) -> Source | None:
    given = {key: raw[key] for key in ("train", "test", "held_out") if key in raw}
    for key, value in given.items():
        share = key == "held_out" and isinstance(value, float)
        if not share and not isinstance(value, str):
            faults.add(key, f"is FILE.npz or package.module:callable, got {value!r}")
            return None
    if "dataset" in raw:
        given["dataset"] = _dataset(raw["dataset"], faults)
        if given["dataset"] is None:
            return None
    try:
        return Source(**given)
    except ValueError as error:
        faults.add("dataset", str(error))
        return None


def _dataset(entry: Any, faults: Faults) -> DataSpec | None:
    table = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(table, dict):
        faults.add("dataset", f"is a name or a table, got {entry!r}")
        return None
    specs = list(expand(DataSpec, table, "dataset", faults))
    if len(specs) > 1:
        faults.add("dataset", "is one: give no key a list but classes")
    if not specs:
        return None
    found = known_name(DATASETS, specs[0].name, "dataset", "dataset.name", faults)
    return specs[0] if found is not None else None
