"""Grid files: TOML to scenes and methods. Every fault of a file is found before anything is trained, and all are told at once."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from attacks import ATTACKS
from defenses import DETECTORS
from estimators import ESTIMATORS
from experiments.spec import DataSpec, Grid, Method, ProbeSpec, Scene, TransferSpec
from poisonbench.data import DATASETS
from poisonbench.errors import ConfigError
from poisonbench.models import MODELS
from poisonbench.registry import lookup, nearest
from poisonbench.training import Recipe

TABLES: dict[str, Mapping[str, type]] = {"attack": ATTACKS, "estimator": ESTIMATORS, "detector": DETECTORS}
KEYS = ("name", "seeds", "dataset", "recipe", "transfer", "probe", "alarm", *TABLES)


@dataclass
class _Faults:
    """Collects faults with the key's path."""

    lines: list[str] = field(default_factory=list)

    def add(self, path: str, what: str) -> None:
        self.lines.append(f"{path}: {what}")


def _typed(value: Any, hint: Any) -> tuple[Any, str]:
    """Returns the value in the type `hint` and "", or (None, what is wrong). Strict: no number from a string."""
    adapter = TypeAdapter(hint)
    try:
        return adapter.validate_python(value, strict=True), ""
    except ValidationError as strict:
        if isinstance(value, list):  # TOML has no tuples
            try:
                return adapter.validate_python(value), ""
            except ValidationError:
                pass
        return None, "; ".join(dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in strict.errors()))


def _axis(value: Any, hint: Any, path: str, faults: _Faults) -> list[Any]:
    """Returns the values that a key takes: one, or those of a list, which is an axis unless the field itself takes a list."""
    inner, tables = _inner(hint), value if isinstance(value, list) else [value]
    if inner and tables and all(isinstance(table, dict) for table in tables):
        found = [made for table in tables for made in _expand(inner, table, path, faults)]
        return [made for made in found if not isinstance(made, Recipe) or _is_model(made, path, faults)]
    if inner:
        faults.add(path, f"is a table, written [{path}] or {path.rpartition('.')[2]} = {{...}}, got {value!r}")
        return []
    typed, wrong = _typed(value, hint)
    if not wrong:
        return [typed]
    if not isinstance(value, list):
        faults.add(path, f"{wrong}, got {value!r}")
        return []
    if not value:
        faults.add(path, "an axis needs at least one value, got []")
    results = [(entry, *_typed(entry, hint)) for entry in value]
    for entry, _, fault in results:
        if fault:
            faults.add(path, f"{fault}, got {entry!r}")
    return [typed for _, typed, fault in results if not fault]


def settable(cls: type) -> dict[str, Field[Any]]:
    """Returns the fields of a dataclass that a grid file may set, by name: all but those that only a program can give."""
    return {f.name: f for f in fields(cls) if f.init and f.metadata.get("settable", True)}


def _inner(hint: Any) -> type | None:
    """Returns the dataclass that a field of type `hint` may hold, which a grid file writes as a table inside the table."""
    return next((kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)), None)


def _expand(cls: type, table: Mapping[str, Any], path: str, faults: _Faults) -> Iterator[Any]:
    """Yields the instances of the dataclass `cls` over the product of all lists of `table`."""
    hints, known = get_type_hints(cls), settable(cls)
    before = len(faults.lines)
    for name in table:
        if name not in known:
            allowed = ", ".join(known) or "none"
            faults.add(f"{path}.{name}", f"unknown key{nearest(name, known)} (allowed: {allowed})")
    for name, f in known.items():
        if name not in table and f.default is MISSING and f.default_factory is MISSING:
            faults.add(f"{path}.{name}", "is missing and has no default")
    axes = {name: _axis(table[name], hints[name], f"{path}.{name}", faults) for name in known if name in table}
    if len(faults.lines) > before:
        return
    for values in itertools.product(*axes.values()):
        try:
            yield cls(**dict(zip(axes, values, strict=True)))
        except (ValueError, TypeError) as error:
            faults.add(path, str(error))


def _is_model(recipe: Recipe, path: str, faults: _Faults) -> bool:
    return _known(MODELS, recipe.model, "model", f"{path}.model", faults) is not None


def _known(table: Mapping[str, Any], name: Any, kind: str, path: str, faults: _Faults) -> Any:
    if not isinstance(name, str):
        faults.add(path, f"input should be a string, got {name!r}")
        return None
    try:
        return lookup(table, name, kind)
    except ConfigError as error:
        faults.add(path, str(error))
        return None


def _methods(raw: Mapping[str, Any], kind: str, faults: _Faults) -> tuple[Method, ...]:
    tables = raw.get(kind, [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        faults.add(kind, f"is a list of tables, written [[{kind}]]")
        return ()
    found: dict[Method, None] = {}
    for i, table in enumerate(tables):
        path, name = f"{kind}[{i}]", table.get("name")
        cls = _known(TABLES[kind], name, kind, f"{path}.name", faults)
        if cls is None:
            continue
        if not (isinstance(cls, type) and is_dataclass(cls)):
            faults.add(
                f"{path}.name", f"{name} is no dataclass: a method is a frozen dataclass whose fields are its hyperparameters"
            )
            continue
        rest = {k: v for k, v in table.items() if k != "name"}
        found |= {Method(str(name), value): None for value in _expand(cls, rest, path, faults)}
    return tuple(found)


def _datasets(raw: Any, faults: _Faults) -> list[DataSpec]:
    entries = [raw] if isinstance(raw, str | dict) else raw
    if not isinstance(entries, list) or not all(isinstance(e, str | dict) for e in entries):
        faults.add("dataset", f"is a name, a table with name, train and test, or a list of these, got {raw!r}")
        return []
    out: list[DataSpec] = []
    for i, entry in enumerate(entries):
        table = {"name": entry} if isinstance(entry, str) else entry
        path = "dataset" if len(entries) == 1 else f"dataset[{i}]"
        specs = list(_expand(DataSpec, table, path, faults))
        out += [spec for spec in specs if _known(DATASETS, spec.name, "dataset", f"{path}.name", faults) is not None]
    return out


def _table(raw: Mapping[str, Any], name: str, faults: _Faults) -> dict[str, Any]:
    table = raw.get(name, {})
    if isinstance(table, dict):
        return table
    faults.add(name, f"is a table, written [{name}]")
    return {}


def _transfers(raw: Mapping[str, Any], faults: _Faults) -> list[TransferSpec | None]:
    if "transfer" not in raw:
        return [None]
    table, before = _table(raw, "transfer", faults), len(faults.lines)
    specs = list(_expand(TransferSpec, table, "transfer", faults))
    if len(faults.lines) == before and not ("rows" in table or "state" in table):
        faults.add("transfer", "needs rows, on how many training rows to pretrain, or state, the file of a given model")
    return list(dict.fromkeys(spec if spec.rows or spec.state else None for spec in specs))


def parse(raw: Mapping[str, Any]) -> Grid:
    """Turns the content of a grid file into a grid.

    Raises:
        ConfigError: with every fault, each a line: the key's path, what is wrong, the allowed values, the nearest name.
    """
    faults = _Faults()
    for name in raw:
        if name not in KEYS:
            faults.add(name, f"unknown key{nearest(name, KEYS)} (allowed: {', '.join(KEYS)})")
    title, wrong = _typed(raw.get("name", "grid"), str)
    if wrong:
        faults.add("name", f"{wrong}, got {raw['name']!r}")
    seeds = _axis(raw.get("seeds", [0]), int, "seeds", faults)
    if any(seed < 0 for seed in seeds):
        faults.add("seeds", f"a seed must be at least 0, got {min(seeds)}")
    alarm, wrong = _typed(raw.get("alarm", 0.05), float)
    if wrong or not 0 < alarm < 1:
        faults.add("alarm", f"must be a number in (0, 1), got {raw['alarm']!r}")
    datasets = _datasets(raw.get("dataset", "digits"), faults)
    recipes = list(_expand(Recipe, _table(raw, "recipe", faults), "recipe", faults))
    for recipe in {recipe.model: recipe for recipe in recipes}.values():
        _is_model(recipe, "recipe", faults)
    transfers = _transfers(raw, faults)
    probes = list(_expand(ProbeSpec, _table(raw, "probe", faults), "probe", faults))
    methods = {kind: _methods(raw, kind, faults) for kind in TABLES}
    if not raw.get("attack"):
        faults.add("attack", 'a grid needs at least one [[attack]]; name = "none" is the control')
    if any("influence" in d.value.uses for d in methods["detector"] if not faults.lines) and not raw.get("estimator"):
        faults.add("estimator", "a detector of the grid reads influence: name at least one [[estimator]]")
    if faults.lines:
        raise ConfigError(faults.lines)
    axes = (datasets, recipes, transfers, methods["attack"], probes, dict.fromkeys(seeds))
    scenes = (
        Scene(dataset, recipe, attack, seed, probe, transfer)
        for dataset, recipe, transfer, attack, probe, seed in itertools.product(*axes)
    )
    return Grid(title, tuple(scenes), methods["estimator"], methods["detector"], alarm)
