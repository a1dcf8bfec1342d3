"""Grid files: TOML to scenes and methods. Every fault of a file is found before anything is trained, and all are told at once."""

import itertools
from collections.abc import Mapping
from typing import Any

from experiments.plan.fields import Faults, axis, expand, is_model, known_name, typed_as
from experiments.plan.methods import TABLES, is_method
from experiments.plan.spec import DataSpec, Grid, Method, ProbeSpec, Remedy, Scene, TransferSpec
from poisonbench.data import DATASETS
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest
from poisonbench.training import Recipe

JUDGES = (
    "estimator",
    "detector",
    "filter",
)  # a mitigation's table may name those on whose results it works
KEYS = ("name", "seeds", "dataset", "recipe", "transfer", "probe", "alarm", *TABLES)


def _tables(raw: Mapping[str, Any], kind: str, faults: Faults) -> list[dict[str, Any]]:
    tables = raw.get(kind, [])
    if isinstance(tables, list) and all(isinstance(t, dict) for t in tables):
        return tables
    faults.add(kind, f"is a list of tables, written [[{kind}]]")
    return []


def _values(table: Mapping[str, Any], kind: str, path: str, faults: Faults) -> list[Method]:
    """The methods of one table [[kind]], over the product of its axes."""
    name = table.get("name")
    cls = known_name(TABLES[kind], name, kind, f"{path}.name", faults)
    if cls is None:
        return []
    if not is_method(cls):
        what = "is no frozen dataclass: a method is a frozen dataclass whose fields are its hyperparameters"
        faults.add(f"{path}.name", f"{name} {what}")
        return []
    rest = {k: v for k, v in table.items() if k != "name"}
    return [Method(str(name), value) for value in expand(cls, rest, path, faults)]


def _methods(raw: Mapping[str, Any], kind: str, faults: Faults) -> tuple[Method, ...]:
    tables = enumerate(_tables(raw, kind, faults))
    return tuple(
        dict.fromkeys(
            m for i, table in tables for m in _values(table, kind, f"{kind}[{i}]", faults)
        )
    )


def _remedies(
    raw: Mapping[str, Any], methods: Mapping[str, tuple[Method, ...]], faults: Faults
) -> tuple[Remedy, ...]:
    """The mitigations; in their tables the keys of `JUDGES` name those of the grid's methods on which they work."""
    found: dict[Remedy, None] = {}
    for i, table in enumerate(_tables(raw, "mitigation", faults)):
        path, of = f"mitigation[{i}]", {kind: table[kind] for kind in JUDGES if kind in table}
        for kind, names in of.items():
            of[kind] = tuple(map(str, names)) if isinstance(names, list) else (str(names),)
            known = list(dict.fromkeys(m.name for m in methods[kind]))
            for name in (n for n in of[kind] if n not in known):
                near = nearest(name, known)
                faults.add(
                    f"{path}.{kind}",
                    f"the grid has no [[{kind}]] {name!r}{near} (it has: {', '.join(known) or 'none'})",
                )
        rest = {key: value for key, value in table.items() if key not in JUDGES}
        for method in _values(rest, "mitigation", path, faults):
            for kind in (k for k in ("detector", "filter") if method.reads(k) and not methods[k]):
                faults.add(
                    path,
                    f"{method.name} works on the verdict of a {kind}: name at least one [[{kind}]]",
                )
            found[Remedy(method, tuple(of.items()))] = None
    return tuple(found)


def _datasets(raw: Any, faults: Faults) -> list[DataSpec]:
    entries = [raw] if isinstance(raw, str | dict) else raw
    if not isinstance(entries, list) or not all(isinstance(e, str | dict) for e in entries):
        faults.add(
            "dataset",
            f"is a name, a table with name, train and test, or a list of these, got {raw!r}",
        )
        return []
    out: list[DataSpec] = []
    for i, entry in enumerate(entries):
        table = {"name": entry} if isinstance(entry, str) else entry
        path = "dataset" if len(entries) == 1 else f"dataset[{i}]"
        specs = list(expand(DataSpec, table, path, faults))
        out += [
            spec
            for spec in specs
            if known_name(DATASETS, spec.name, "dataset", f"{path}.name", faults) is not None
        ]
    return out


def _table(raw: Mapping[str, Any], name: str, faults: Faults) -> dict[str, Any]:
    table = raw.get(name, {})
    if isinstance(table, dict):
        return table
    faults.add(name, f"is a table, written [{name}]")
    return {}


def _transfers(raw: Mapping[str, Any], faults: Faults) -> list[TransferSpec | None]:
    if "transfer" not in raw:
        return [None]
    table, before = _table(raw, "transfer", faults), len(faults.lines)
    specs = list(expand(TransferSpec, table, "transfer", faults))
    if len(faults.lines) == before and not ("rows" in table or "state" in table):
        faults.add(
            "transfer",
            "needs rows, on how many training rows to pretrain, or state, the file of a given model",
        )
    return list(dict.fromkeys(spec if spec.rows or spec.state else None for spec in specs))


def parse(raw: Mapping[str, Any]) -> Grid:
    """Turns the content of a grid file into a grid.

    Raises:
        ConfigError: with every fault, each a line: the key's path, what is wrong, the allowed values, the nearest name.
    """
    faults = Faults()
    for name in raw:
        if name not in KEYS:
            faults.add(name, f"unknown key{nearest(name, KEYS)} (allowed: {', '.join(KEYS)})")
    title, wrong = typed_as(raw.get("name", "grid"), str)
    if wrong:
        faults.add("name", f"{wrong}, got {raw['name']!r}")
    seeds = axis(raw.get("seeds", [0]), int, "seeds", faults)
    if any(seed < 0 for seed in seeds):
        faults.add("seeds", f"a seed must be at least 0, got {min(seeds)}")
    alarm, wrong = typed_as(raw.get("alarm", 0.05), float)
    if wrong or not 0 < alarm < 1:
        faults.add("alarm", f"must be a number in (0, 1), got {raw['alarm']!r}")
    datasets = _datasets(raw.get("dataset", "digits"), faults)
    recipes = list(expand(Recipe, _table(raw, "recipe", faults), "recipe", faults))
    for recipe in {recipe.model: recipe for recipe in recipes}.values():
        is_model(recipe, "recipe", faults)
    transfers = _transfers(raw, faults)
    probes = list(expand(ProbeSpec, _table(raw, "probe", faults), "probe", faults))
    methods = {kind: _methods(raw, kind, faults) for kind in TABLES if kind != "mitigation"}
    remedies = _remedies(raw, methods, faults)
    if not raw.get("attack"):
        faults.add("attack", 'a grid needs at least one [[attack]]; name = "none" is the control')
    users = [
        *((kind, m) for kind in ("detector", "filter") for m in methods[kind]),
        *(("mitigation", r.method) for r in remedies),
    ]
    if (kind := next((kind for kind, m in users if m.reads("influence")), "")) and not raw.get(
        "estimator"
    ):
        faults.add(
            "estimator", f"a {kind} of the grid reads influence: name at least one [[estimator]]"
        )
    if faults.lines:
        raise ConfigError(faults.lines)
    axes = (datasets, recipes, transfers, methods["attack"], probes, dict.fromkeys(seeds))
    scenes = (
        Scene(dataset, recipe, attack, seed, probe, transfer)
        for dataset, recipe, transfer, attack, probe, seed in itertools.product(*axes)
    )
    judges = {
        f"{kind}s": methods[kind] for kind in ("estimator", "detector", "filter", "certifier")
    }
    return Grid(title, tuple(scenes), alarm=alarm, mitigations=remedies, **judges)
