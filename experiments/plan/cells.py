"""The cells of a run, in a file beside its grid: what there is to do, told without torch."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.plan.identity import marks_of, short, unmarked
from poisonbench import log
from poisonbench.errors import ConfigError

if TYPE_CHECKING:
    from experiments.plan.stages import Job, Stage

FILE = "cells.json"
WORKING = ".working"  # in a scene's folder: the stage at work, and the process


@dataclass(frozen=True)
class CellFile:
    """One cell.

    Attributes:
        file: in which it ends.
        key: digest of its configuration, whatever code and data stand behind the names in it.
        marks: of this code and data, see `marks_of`.
        methods: what it applies, in words, by part: "estimator", "detector", ...
    """

    file: str
    key: str
    marks: dict[str, str]
    methods: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneCells:
    """The cells of one scene.

    Attributes:
        attack: its name and hyperparameters.
        seed: of the scene.
        id: its folder below `scenes`.
        cells: a file each.
        setting: digest of its data set and recipe; scenes that share one take alike long.
    """

    attack: str
    seed: int
    id: str
    cells: tuple[CellFile, ...]
    setting: str = ""


@dataclass(frozen=True)
class Cells:
    """The cells of a grid.

    Attributes:
        name: of the grid.
        scenes: in the order of the grid.
    """

    name: str
    scenes: tuple[SceneCells, ...]


def planned(name: str, jobs: "Iterable[Job]") -> Cells:
    """Returns the cells of the jobs of a grid of that name."""
    return Cells(name, tuple(_of_job(job) for job in jobs))


def _of_job(job: "Job") -> SceneCells:
    return SceneCells(
        attack=_words(job.scene.attack.config),
        seed=job.scene.seed,
        id=job.scene.id,
        cells=tuple(_of_stage(job, stage) for stage in job.stages),
        setting=_setting(job.scene.config),
    )


def _of_stage(job: "Job", stage: "Stage") -> CellFile:
    from experiments.plan.stages import logged_config

    config = logged_config(job, stage)
    key = key_of(stage.kind, config)
    return CellFile(stage.path.name, key, marks_of(config), _methods(config))


def _methods(config: Mapping[str, Any]) -> dict[str, str]:
    """The methods that a stage applies, in words; those of its scene are told by the scene."""
    found = {}
    for part, method in config.items():
        if part != "scene" and isinstance(method, dict) and "name" in method:
            found[part] = _words(method)
    return found


def _setting(scene: Mapping[str, Any]) -> str:
    """What scenes of one data set and recipe share."""
    parts = {part: scene.get(part) for part in ("dataset", "recipe", "transfer")}
    text = json.dumps(unmarked(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def key_of(kind: str, config: Mapping[str, Any]) -> str:
    """Returns the digest of a configuration without marks, for a log of this kind."""
    text = json.dumps([kind, unmarked(dict(config))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _words(config: dict[str, Any]) -> str:
    words = [str(config["name"])]
    for key, value in config.items():
        if key != "name":
            words.append(f"{key}={short(value)}")
    return " ".join(words)


def seconds_of(attributes: Mapping[str, object]) -> float:
    """Returns the seconds that a cell took, as its log tells: in all, or the sum of its parts."""
    told = {}
    for name, value in attributes.items():
        is_time = name.startswith("seconds") or name.endswith("seconds")
        if is_time and isinstance(value, int | float) and isfinite(value):
            told[name] = float(value)
    return told.get("seconds", sum(told.values()))


def write_cells(cells: Cells, folder: Path) -> None:
    """Writes the cells into a run's folder, in the place of those of an earlier run."""
    log.write_text(folder / FILE, json.dumps(asdict(cells), indent=1))


def read_cells(folder: Path) -> Cells | None:
    """Returns the cells of a run's folder; None if it is of a version that did not write them.

    Raises:
        ConfigError: the file is not what `write_cells` wrote.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        scenes = [_read_scene(scene) for scene in content["scenes"]]
        return Cells(str(content["name"]), tuple(scenes))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = f"run the grid again with -o {folder}: that writes it anew, and does nothing twice"
        raise ConfigError(
            [f"{path} is damaged: {type(error).__name__}: {error}"], hint
        ) from error


def _read_scene(content: dict[str, Any]) -> SceneCells:
    return SceneCells(
        attack=str(content["attack"]),
        seed=int(content["seed"]),
        id=str(content["id"]),
        cells=tuple(_read_cell(cell) for cell in content["cells"]),
        setting=str(content.get("setting", "")),
    )


def _read_cell(content: dict[str, Any]) -> CellFile:
    marks = {str(name): str(mark) for name, mark in content["marks"].items()}
    told = content.get("methods", {})  # earlier versions did not tell
    methods = {str(part): str(words) for part, words in told.items()}
    return CellFile(str(content["file"]), str(content["key"]), marks, methods)
