"""The logs of a run, read and held against each other: what is damaged or belongs elsewhere is listed, never raised.

Cost: reading every log once.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.plan.kinds import JUDGED, NEEDED, PARTS, STAGES, VECTORS
from poisonbench import log
from poisonbench.errors import ConfigError, LogError


@dataclass(frozen=True, eq=False)
class Results:
    """All logs of a run's folder, by kind and in the order of their paths, without the data that no metric needs."""

    folder: Path
    records: dict[str, tuple[log.Record, ...]]
    damaged: tuple[LogError, ...]

    def of(self, kind: str) -> tuple[log.Record, ...]:
        """The logs of a kind: "scene", "influence", "detect", "failure", ..."""
        return self.records.get(kind, ())


def settings(record: log.Record) -> tuple[dict[str, Any], int]:
    """Returns what names the rows of a log (dataset, recipe, attack, ..., estimator, detector), and the seed."""
    scene = record.config.get("scene", record.config)
    own = {name: record.config[name] for name in PARTS if name in record.config}
    return {**{name: value for name, value in scene.items() if name != "seed"}, **own}, int(
        scene["seed"]
    )


def load_results(folder: Path | str, verify: bool = True) -> Results:
    """Reads every stage file below FOLDER/scenes; damaged ones are collected, not raised, and failures are kept.

    Args:
        folder: a run's folder.
        verify: read each file whole, so that every checksum is tested; otherwise only what the metrics need.

    Raises:
        ConfigError: there is no such folder, or it holds no run.
    """
    root = Path(folder) / "scenes"
    if not root.is_dir():
        raise ConfigError(
            [f"{folder} holds no results (no folder {root.name!r})"],
            "first: poisonbench run GRID.toml -o DIR",
        )
    records: dict[str, list[log.Record]] = {}
    damaged: list[LogError] = []
    scenes: dict[Path, log.Record] = {}
    # scene.h5 first: what lies beside it is judged by it
    for path in sorted(root.glob("*/*.h5"), key=lambda p: (p.parent, p.name != "scene.h5", p)):
        try:
            record = _read(path, verify)
            if record.kind == "scene":
                scenes[path.parent] = record
            elif record.kind in JUDGED:
                _fits(record, scenes.get(path.parent))
            records.setdefault(record.kind, []).append(record)
        except LogError as error:
            damaged.append(error)
    return Results(
        Path(folder), {kind: tuple(found) for kind, found in records.items()}, tuple(damaged)
    )


def _read(path: Path, verify: bool) -> log.Record:
    kind = STAGES.get(path.stem.partition("-")[0])
    record = log.read(path, kind, keys=None if verify else NEEDED.get(kind or "", ()))
    needed = NEEDED.get(record.kind, ())
    if lacking := [key for key in needed if key not in record.data]:
        raise LogError(path, f"has no data set {lacking[0]!r}")
    if record.kind == "scene" or record.kind in JUDGED:
        _check_names(record, ("attack", *([JUDGED[record.kind]] if record.kind in JUDGED else [])))
    _check_data(record)
    return replace(record, data={key: record.data[key] for key in needed})


def _check_names(record: log.Record, needed: Collection[str]) -> None:
    """The configuration of each part that is there names it, and all of `needed` are there."""
    try:
        found = {
            key: value["name"]
            for key, value in settings(record)[0].items()
            if key in ("attack", *PARTS) and value
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(
            record.path, f"its configuration is not one of kind {record.kind!r}: {error!r}"
        ) from error
    lacking = [part for part in needed if part not in found]
    if lacking or not all(isinstance(name, str) for name in found.values()):
        raise LogError(
            record.path, f"its configuration names no {' and no '.join(lacking or found)}"
        )


def _check_data(record: log.Record) -> None:
    for keys in VECTORS:
        shapes = {record.data[key].shape for key in keys.split() if key in record.data}
        if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
            raise LogError(record.path, f"{', '.join(keys.split())} are not vectors of one length")
    for key in NEEDED.get(record.kind, ()):
        if key == "reason":
            record.text(key)
        elif record.data[key].dtype.kind == "S" or (
            key.startswith("clean/") and record.data[key].ndim
        ):
            raise LogError(record.path, f"{key!r} is not of the type that it should be")


def _fits(record: log.Record, scene: log.Record | None) -> None:
    if scene is None:
        raise LogError(record.path, "cannot be judged: scene.h5 beside it is missing or damaged")
    if record.config.get("scene") != scene.config:
        raise LogError(record.path, "belongs to another scene than scene.h5 beside it")
    owners = {
        "detect": ("score", "scores", "probe/group", "probe points"),
        "filter": ("score", "scores", "poison/role", "training rows"),
        "mitigate": ("removed", "verdicts", "poison/role", "training rows"),
    }
    if record.kind in owners:
        own, noun, theirs, what = owners[record.kind]
        have, want = len(record.data[own]), len(scene.data[theirs])
        if have != want:
            raise LogError(record.path, f"has {have} {noun} for {want} {what}")
