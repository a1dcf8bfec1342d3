"""Grid files: TOML to scenes and methods.

Every fault of a file is found before anything is trained, and all are told at once.
"""

import itertools
from collections.abc import Mapping
from math import prod
from typing import Any

from experiments.plan.checks.combined import (
    check_estimators,
    check_of,
    check_scores,
    check_verdicts,
)
from experiments.plan.checks.fit import check_fit
from experiments.plan.checks.loops import check_loops
from experiments.plan.checks.recipes import check_recipes
from experiments.plan.checks.trusted import check_calibration
from experiments.plan.fields import Faults, axis, expand, is_model, known_name, typed_as
from experiments.plan.kinds import DONE
from experiments.plan.methods import TABLES, methods_of, names_in
from experiments.plan.outside import code_of_models
from experiments.plan.spec import (
    Applied,
    Grid,
    Method,
    ProbeSpec,
    Scene,
    TransferSpec,
)
from experiments.plan.tables.data import DataSpec
from poisonbench.data import DATASETS
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest
from poisonbench.training import Recipe

KEYS = ("name", "seeds", "dataset", "recipe", "transfer", "probe", "alarm", *TABLES)
Raw = Mapping[str, Any]


MOST_SCENES = 100_000
LARGEST_SEED = 2**63 - 1


def parse(raw: Raw, fit: bool = True) -> Grid:
    """Turns the content of a grid file into a grid.

    Args:
        raw: what the file holds.
        fit: whether its methods and models must take the kind of its data.

    Raises:
        ConfigError: with every fault, one per line: the key's path, what is wrong, the allowed
            values, the nearest name.
    """
    faults = Faults()
    for name in raw:
        if name not in KEYS:
            faults.add(
                name, f"unknown key{nearest(name, KEYS)} (allowed: {', '.join(KEYS)})"
            )
    title = _title(raw, faults)
    seeds = _seeds(raw, faults)
    alarm = _alarm(raw, faults)
    datasets = _datasets(raw.get("dataset", "digits"), faults)
    recipes = _recipes(raw, faults)
    transfers = _transfers(raw, faults)
    probes = list(expand(ProbeSpec, _table(raw, "probe", faults), "probe", faults))
    attacks = _attacks(raw, faults)
    applied = _applied(raw, attacks, faults)
    check_loops(recipes, transfers, applied, faults)
    check_recipes(recipes, applied, faults)
    check_calibration(probes, applied, faults)
    lengths = [
        len(axis) for axis in (datasets, recipes, transfers, attacks, probes, seeds)
    ]
    if prod(lengths) > MOST_SCENES:
        told = f"a grid of {prod(lengths)} scenes; at most {MOST_SCENES} are possible"
        faults.add("seeds", told)
    if faults.lines:
        raise ConfigError(faults.lines)
    axes = itertools.product(datasets, recipes, transfers, attacks, probes, seeds)
    scenes = [
        Scene(dataset, recipe, attack, seed, probe, transfer, code_of_models(recipe))
        for dataset, recipe, transfer, attack, probe, seed in axes
    ]
    grid = Grid(title, tuple(scenes), applied, alarm)
    if fit:
        check_fit(grid)
    return grid


def _title(raw: Raw, faults: Faults) -> str:
    typed = typed_as(raw.get("name", "grid"), str)
    if typed.wrong:
        faults.add("name", f"{typed.wrong}, got {raw['name']!r}")
    return str(typed.value)


def _seeds(raw: Raw, faults: Faults) -> list[int]:
    seeds = axis(raw.get("seeds", [0]), int, "seeds", faults)
    if any(seed < 0 for seed in seeds):
        faults.add("seeds", f"a seed must be at least 0, got {min(seeds)}")
    if any(seed > LARGEST_SEED for seed in seeds):
        faults.add("seeds", f"a seed must be at most {LARGEST_SEED}")
    return list(dict.fromkeys(seeds))


def _alarm(raw: Raw, faults: Faults) -> float:
    typed = typed_as(raw.get("alarm", 0.05), float)
    if typed.wrong or not 0 < typed.value < 1:
        faults.add("alarm", f"must be a number in (0, 1), got {raw['alarm']!r}")
        return 0.05
    return float(typed.value)


def _table(raw: Raw, name: str, faults: Faults) -> dict[str, Any]:
    table = raw.get(name, {})
    if isinstance(table, dict):
        return table
    faults.add(name, f"is a table, written [{name}]")
    return {}


def _tables(raw: Raw, part: str, faults: Faults) -> list[dict[str, Any]]:
    tables = raw.get(part, [])
    if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
        return tables
    faults.add(part, f"is a list of tables, written [[{part}]]")
    return []


def _datasets(raw: Any, faults: Faults) -> list[DataSpec]:
    entries = [raw] if isinstance(raw, str | dict) else raw
    if not isinstance(entries, list) or not all(
        isinstance(e, str | dict) for e in entries
    ):
        form = "is a name, a table with name, train and test, or a list of these"
        faults.add("dataset", f"{form}, got {raw!r}")
        return []
    found: list[DataSpec] = []
    for i, entry in enumerate(entries):
        table = {"name": entry} if isinstance(entry, str) else entry
        path = "dataset" if len(entries) == 1 else f"dataset[{i}]"
        specs = expand(DataSpec, table, path, faults)
        found += [spec for spec in specs if _is_dataset(spec, path, faults)]
    return found


def _is_dataset(spec: DataSpec, path: str, faults: Faults) -> bool:
    """Whether there is a data set of that name; a fault otherwise."""
    return (
        known_name(DATASETS, spec.name, "dataset", f"{path}.name", faults) is not None
    )


def _recipes(raw: Raw, faults: Faults) -> list[Recipe]:
    recipes = list(expand(Recipe, _table(raw, "recipe", faults), "recipe", faults))
    one_per_model = {recipe.model: recipe for recipe in recipes}
    for recipe in one_per_model.values():
        is_model(recipe, "recipe", faults)
    return recipes


def _transfers(raw: Raw, faults: Faults) -> list[TransferSpec | None]:
    if "transfer" not in raw:
        return [None]
    before = len(faults.lines)
    table = _table(raw, "transfer", faults)
    specs = list(expand(TransferSpec, table, "transfer", faults))
    if len(faults.lines) == before and not ("rows" in table or "state" in table):
        needs = "needs rows, on how many training rows to pretrain"
        what = f"{needs}, or state, the file of a given model"
        faults.add("transfer", what)
    used = [spec if spec.rows or spec.state else None for spec in specs]
    return list(dict.fromkeys(used))


def _attacks(raw: Raw, faults: Faults) -> list[Method]:
    if not raw.get("attack"):
        way = 'a grid needs at least one [[attack]]; name = "none" is the control'
        faults.add("attack", way)
    found: dict[Method, None] = {}
    for i, table in enumerate(_tables(raw, "attack", faults)):
        found |= dict.fromkeys(methods_of(table, "attack", f"attack[{i}]", faults))
    return list(found)


def _applied(raw: Raw, attacks: list[Method], faults: Faults) -> tuple[Applied, ...]:
    """All that is applied to every scene, by kind in the order of `KINDS`."""
    found: dict[Applied, None] = {}
    for kind in DONE:
        for i, table in enumerate(_tables(raw, kind.part, faults)):
            path = f"{kind.part}[{i}]"
            own = {key: value for key, value in table.items() if key not in kind.of}
            of = {part: names_in(table[part]) for part in kind.of if part in table}
            check_of(of, attacks, tuple(found), path, faults)
            for method in methods_of(own, kind.part, path, faults):
                check_verdicts(kind, method, tuple(found), path, faults)
                found[Applied(kind.part, method, tuple(of.items()))] = None
    check_estimators(raw, tuple(found), faults)
    check_scores(tuple(found), faults)
    return tuple(found)
