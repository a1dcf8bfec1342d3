"""Grid files on disk: reading them with overrides, and writing a grid back in full."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from experiments.plan.fields import plain
from experiments.plan.kinds import DONE
from experiments.plan.spec import Grid, Method, TransferSpec
from poisonbench.errors import ConfigError


def read(path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads a grid file and applies `--set` overrides.

    Args:
        path: the TOML file.
        overrides: texts "key=value": key a dotted path such as `recipe.epochs` or
            `attack.0.budget`, value TOML or a bare string.

    Raises:
        ConfigError: no such file, no TOML, or an override that does not fit.
    """
    try:
        raw = loaded(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"{path}: {error.strerror or error}"
        raise ConfigError([what], "name a grid file (TOML)") from error
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"], "the file is not valid TOML") from error
    return with_overrides(raw, overrides)


def loaded(text: str) -> dict[str, Any]:
    """Returns the content of a TOML text.

    Raises:
        ValueError: it is no TOML, or one that no one means: nested too deep, numbers of thousands
            of digits.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def with_overrides(raw: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """Applies `--set` overrides to the content of a file; see `read`.

    Raises:
        ConfigError: an override that does not fit.
    """
    for text in overrides:
        try:
            _override(raw, text)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            what = f"--set {text}: no such place in the grid"
            raise ConfigError(
                [what], "the form is key=value, e.g. recipe.epochs=5"
            ) from error
    return raw


def parsed_value(text: str) -> Any:
    """Returns the value that a text of the command line stands for: TOML, or the bare string."""
    try:
        return loaded(f"v = {text}")["v"]
    except ValueError:
        return text.strip()


def _override(raw: dict[str, Any], text: str) -> None:
    """Sets the value at a dotted path; raises what Python raises where there is no such place."""
    name, sign, value = text.partition("=")
    *parents, last = name.strip().split(".")
    if not sign or not all([*parents, last]):
        raise KeyError(name)
    node: Any = raw
    for part in parents:
        node = _below(node, part)
    if isinstance(node, list):
        node[int(last)] = parsed_value(value)
    else:
        node[last] = parsed_value(value)


def _below(node: Any, part: str) -> Any:
    """The entry of a list, or of a table, where an absent one is made."""
    if isinstance(node, list):
        return node[int(part)]
    return node.setdefault(part, {})


def resolved(grid: Grid) -> str:
    """Returns the grid as TOML with every axis expanded and every default written out.

    `parse` reads it back to the same grid.
    """
    scenes = grid.scenes
    document: dict[str, Any] = {
        "name": grid.name,
        "seeds": _distinct(scene.seed for scene in scenes),
        "alarm": grid.alarm,
        "dataset": [
            plain(spec) for spec in _distinct(scene.dataset for scene in scenes)
        ],
        "recipe": _merged(_distinct(scene.recipe for scene in scenes)),
        "transfer": _merged(_transfers(_distinct(scene.transfer for scene in scenes))),
        "probe": _merged(_distinct(scene.probe for scene in scenes)),
        "attack": [
            _table(attack) for attack in _distinct(scene.attack for scene in scenes)
        ],
    }
    for kind in DONE:
        tables = []
        for applied in grid.of(kind.part):
            chosen = {part: list(names) for part, names in applied.of}
            tables.append({**_table(applied.method), **chosen})
        document[kind.part] = tables
    return tomli_w.dumps(
        {key: value for key, value in document.items() if value not in ([], {})}
    )


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _table(method: Method) -> dict[str, Any]:
    return {"name": method.name, **plain(method.value)}


def _transfers(specs: Sequence[TransferSpec | None]) -> list[TransferSpec]:
    """The transfers of the scenes; none is written as rows = 0 beside the values of another."""
    used = [spec for spec in specs if spec is not None]
    if not used:
        return []
    nothing = replace(used[0], rows=0, state=None)
    return [nothing if spec is None else spec for spec in specs]


def _merged(values: Sequence[Any]) -> dict[str, Any]:
    """One table of all values: a key in which they differ is a list."""
    tables = [plain(value) for value in values]
    merged: dict[str, Any] = {}
    for name in tables[0] if tables else ():
        column = _distinct(table[name] for table in tables)
        merged[name] = column[0] if len(column) == 1 else column
    return merged
