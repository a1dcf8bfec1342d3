"""Grid files on disk: reading them with overrides, and writing a grid back with every axis and default spelled out."""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from experiments.plan.fields import plain
from experiments.plan.spec import Grid, Method, Scene
from poisonbench.errors import ConfigError


def read(path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads a grid file and applies `--set` overrides.

    Args:
        path: the TOML file.
        overrides: texts "key=value": key a dotted path such as `recipe.epochs` or `attack.0.budget`, value TOML or a bare string.

    Raises:
        ConfigError: no such file, no TOML, or an override that does not fit.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            [f"{path}: {error.strerror or error}"], "name a grid file (TOML)"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: {error}"], "the file is not valid TOML") from error
    for text in overrides:
        _override(raw, text)
    return raw


def parsed_value(text: str) -> Any:
    """Returns the value that a text of the command line stands for: TOML, or else the bare string."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _override(raw: dict[str, Any], text: str) -> None:
    name, sign, value = text.partition("=")
    keys, parsed = name.strip().split("."), parsed_value(value)
    node: Any = raw
    try:
        if not sign or not all(keys):
            raise KeyError(name)
        for part in keys[:-1]:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, list):
            node[int(keys[-1])] = parsed
        else:
            node[keys[-1]] = parsed
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            [f"--set {text}: no such place in the grid"],
            "the form is key=value, e.g. recipe.epochs=5",
        ) from error


def resolved(grid: Grid) -> str:
    """Returns the grid as TOML with every axis expanded and every default written out; `parse` reads it back to the same grid."""

    def distinct(make: Callable[[Scene], Any]) -> list[Any]:
        return list(dict.fromkeys(make(scene) for scene in grid.scenes))

    def merged(values: list[Any]) -> dict[str, Any]:
        tables = [plain(value) for value in values]
        columns = {name: list(dict.fromkeys(t[name] for t in tables)) for name in tables[0]}
        return {name: column[0] if len(column) == 1 else column for name, column in columns.items()}

    def listed(methods: tuple[Method, ...]) -> list[dict[str, Any]]:
        return [{"name": m.name, **plain(m.value)} for m in methods]

    transfers = distinct(lambda s: s.transfer)
    used = [t for t in transfers if t is not None]
    document = {
        "name": grid.name,
        "seeds": distinct(lambda s: s.seed),
        "alarm": grid.alarm,
        "dataset": [plain(d) for d in distinct(lambda s: s.dataset)],
        "recipe": merged(distinct(lambda s: s.recipe)),
        # no transfer is written as rows = 0 beside the values of the others
        "transfer": merged([t or replace(used[0], rows=0, state=None) for t in transfers])
        if used
        else [],
        "probe": merged(distinct(lambda s: s.probe)),
        "attack": listed(tuple(distinct(lambda s: s.attack))),
        "estimator": listed(grid.estimators),
        "detector": listed(grid.detectors),
        "filter": listed(grid.filters),
        "certifier": listed(grid.certifiers),
        "mitigation": [
            {**listed((r.method,))[0], **{kind: list(names) for kind, names in r.of}}
            for r in grid.mitigations
        ],
    }
    return tomli_w.dumps({k: v for k, v in document.items() if v != []})
