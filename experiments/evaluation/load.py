"""The logs of a run, read and held against each other: damage is listed, never raised.

Cost: reading every log once; the next time, of those that have not changed, an index alone.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.plan.kinds import JUDGED, LENGTHS, NEEDED, PARTS, STAGES, VECTORS
from poisonbench import log
from poisonbench.errors import ConfigError, LogError
from poisonbench.log import index, names

SCENE = "scene.h5"
TABLES = ("dataset", "recipe", "probe", "transfer")  # of a scene's configuration
NUMBERS = (names.CLEAN_CORRECT, names.CLEAN_SIZE)  # data sets of one number


@dataclass(frozen=True, eq=False)
class Results:
    """All logs of a run's folder, without the data that no metric needs.

    Attributes:
        folder: of the run.
        records: the logs by kind, in the order of their paths.
        damaged: an error for each log that cannot be read, or does not fit its scene.
    """

    folder: Path
    records: dict[str, tuple[log.Record, ...]]
    damaged: tuple[LogError, ...]

    def of(self, kind: str) -> tuple[log.Record, ...]:
        """Returns the logs of a kind: "scene", "influence", "detect", "failure", ..."""
        return self.records.get(kind, ())

    def only(self, paths: Collection[Path]) -> "Results":
        """Returns the logs of these files alone."""
        wanted = {path.resolve() for path in paths}
        records = {}
        for kind, found in self.records.items():
            records[kind] = tuple(one for one in found if one.path.resolve() in wanted)
        damaged = [one for one in self.damaged if Path(one.path).resolve() in wanted]
        return Results(self.folder, records, tuple(damaged))


def settings(record: log.Record) -> tuple[dict[str, Any], int]:
    """Returns what names the rows of a log (data set, recipe, attack, ...), and the seed."""
    named = dict(record.config.get("scene", record.config))
    seed = int(named.pop("seed"))
    for part in PARTS:
        if part in record.config:
            named[part] = record.config[part]
    return named, seed


def load_results(folder: Path | str, verify: bool = True) -> Results:
    """Reads every stage file below FOLDER/scenes.

    Args:
        folder: a run's folder.
        verify: read each file whole, so that every checksum is tested, unless it was read whole
            before and has not changed since; otherwise only what the metrics need.

    Raises:
        ConfigError: there is no such folder, or it holds no run.
    """
    root = Path(folder) / "scenes"
    if not root.is_dir():
        raise no_run(Path(folder))
    records: dict[str, list[log.Record]] = {}
    damaged: list[LogError] = []
    scenes: dict[Path, log.Record] = {}
    paths = sorted(root.glob("*/*.h5"), key=_scene_first)
    with index.opened(root) as known:
        for path in paths:
            try:
                record = _known(path, known, verify)
                if record.kind == "scene":
                    scenes[path.parent] = record
                elif record.kind in JUDGED:
                    scene = scenes.get(path.parent)
                    _check_fit(record, scene)
                records.setdefault(record.kind, []).append(record)
            except LogError as error:
                damaged.append(error)
    found = {kind: tuple(of_kind) for kind, of_kind in records.items()}
    return Results(Path(folder), found, tuple(damaged))


def no_run(folder: Path) -> ConfigError:
    """Returns the error of a folder without results of a run, which says what it is instead."""
    fill = f"fill it with: poisonbench run GRID.toml -o {folder}"
    if not folder.is_dir():
        return ConfigError([f"{folder} holds no logs: there is no such folder"], fill)
    if any(folder.glob("clean-*.h5")):
        told = f"{folder} holds logs of `clean`, not of a run"
        again = f"poisonbench clean {folder / 'clean.toml'} -o {folder}"
        hint = f"their tables: {again} (what is done is not done again)"
        return ConfigError([told], f"{hint}; one log: poisonbench show FILE.h5")
    return ConfigError([f"{folder} holds no results (no folder 'scenes')"], fill)


def _scene_first(path: Path) -> tuple[Path, bool, Path]:
    """A sort key: the log of a scene comes before those that are judged by it."""
    return path.parent, path.name != SCENE, path


def _known(path: Path, known: index.Index, verify: bool) -> log.Record:
    """Returns a log from the index, or reads it, and keeps it there if it was read whole."""
    record = known.find(path)
    if record is not None:
        return record
    record = _read(path, verify)
    if verify:
        known.keep(path, record)
    return record


def _read(path: Path, verify: bool) -> log.Record:
    first_word = path.stem.partition("-")[0]
    kind = STAGES.get(first_word)
    keys = NEEDED.get(kind or "", ())
    record = log.read(path, kind, keys=keys, verify=verify)
    needed = NEEDED.get(record.kind, ())
    for key in needed:
        if key not in record.data:
            raise LogError(path, f"has no data set {key!r}")
    if record.kind == "scene":
        _check_names(record, ["attack"])
    elif record.kind in JUDGED:
        _check_names(record, ["attack", JUDGED[record.kind]])
    _check_lengths(record)
    _check_types(record)
    kept = {key: record.data[key] for key in needed}
    return replace(record, data=kept)


def _check_names(record: log.Record, needed: Collection[str]) -> None:
    """Raises LogError unless the configuration names all of `needed`, and each part by a text."""
    try:
        named, _ = settings(record)
        found = {}
        for part in ("attack", *PARTS):
            config = named.get(part)
            if config:
                found[part] = config["name"]
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ) as error:
        what = f"its configuration is not one of kind {record.kind!r}: {error!r}"
        raise LogError(record.path, what) from error
    wrong = [part for part in needed if part not in found]
    if not wrong:
        wrong = [part for part, name in found.items() if not isinstance(name, str)]
    if wrong:
        raise LogError(
            record.path, f"its configuration names no {' and no '.join(wrong)}"
        )
    for part in TABLES:
        if not isinstance(named.get(part, {}), dict | None):
            raise LogError(record.path, f"{part!r} of its configuration is no table")


def _check_lengths(record: log.Record) -> None:
    for keys in VECTORS[record.kind]:
        shapes = {record.data[key].shape for key in keys if key in record.data}
        if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
            raise LogError(
                record.path, f"{', '.join(keys)} are not vectors of one length"
            )


def _check_types(record: log.Record) -> None:
    for key in NEEDED.get(record.kind, ()):
        if key == names.REASON:
            record.text(key)
            continue
        value = record.data[key]
        is_text = value.dtype.kind == "S"
        has_axes = value.ndim > 0
        if is_text or (has_axes and key in NUMBERS):
            raise LogError(record.path, f"{key!r} is not of the type that it should be")
        if key in NUMBERS and (value.dtype.kind not in "iu" or value < 0):
            raise LogError(record.path, f"{key!r} is no count of points")


def _check_fit(record: log.Record, scene: log.Record | None) -> None:
    """Raises LogError unless the log is of this scene and has an entry for each of its points."""
    if scene is None:
        raise LogError(
            record.path, f"cannot be judged: {SCENE} beside it is missing or damaged"
        )
    if record.config.get("scene") != scene.config:
        raise LogError(record.path, f"belongs to another scene than {SCENE} beside it")
    length = LENGTHS.get(record.kind)
    if length is None:
        return
    have = len(record.data[length.own])
    want = len(scene.data[length.scene])
    if have != want:
        what = f"has {have} {length.noun} for {want} {length.scene_noun}"
        raise LogError(record.path, what)
