"""Poison out of a run: from a scene's log to a file that the attack `file` replays elsewhere.

A scene's log holds the poison and the attacked test points that it keeps, so nothing is run again.
Cost: hashes of the data set.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.plan.paths import Place
from experiments.scene.attacked import Attacked, attacked_of_probe, unpack_attacked
from experiments.scene.clean import Clean, clean_of_log
from experiments.scene.probe import unpack_probe
from experiments.scene.rebuilt import scene_of
from poisonbench import log
from poisonbench.contracts.attack_rules import check_poisoned
from poisonbench.contracts.values import Poisoned
from poisonbench.errors import ConfigError, LogError
from poisonbench.log import Record, names
from poisonbench.poison_file import CLAIMS, unpack_train, write_poison
from poisonbench.roles import COVER, JUDGED, POISON

Targets = Literal["auto", "all", "probe"]
NEEDED = (
    names.POISON_ROLE,
    names.POISON_ORIGIN,
    names.TARGETS_Y,
    names.TARGETS_WANTED,
    names.TARGETS_ORIGIN,
    names.PROBE_X,
    names.PROBE_Y,
    names.PROBE_PREDICTED,
    names.PROBE_WANTED,
    names.PROBE_ORIGIN,
    names.PROBE_GROUP,
)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        poison: poison rows.
        cover: cover rows.
        rows: of the whole training set.
        targets: attacked test points in the file.
        all_targets: attacked test points of the scene.
        problem: why the file lacks some that were not left out on request; empty if it does not.
    """

    path: Path
    poison: int
    cover: int
    rows: int
    targets: int
    all_targets: int
    problem: str


def export(
    source: Path, path: Path, place: Place, targets: Targets = "auto"
) -> Exported:
    """Writes the poison of a scene to a file.

    Args:
        source: a scene's folder, or its scene.h5.
        path: of the new file.
        place: device and data; its folder is not used.
        targets: "auto", the attacked test points that the log keeps; "all", these if they are all
            of the scene; "probe", those of the probe alone.

    Raises:
        ConfigError: `path` exists, the scene is that of an audit, or cannot be rebuilt, or "all"
            cannot be had.
        LogError: the scene's log is damaged.
        PoisonError: the logged poison breaks the contract of an attack.
    """
    if path.exists():
        raise ConfigError([f"{path} is there already"], "name another file: -o FILE")
    record = log.read(_file_of(source), "scene")
    if (record.data[names.PROBE_GROUP] == JUDGED).any():
        raise ConfigError([f"{source} is of an audit: nobody knows its poison"])
    lacking = [name for name in NEEDED if name not in record.data]
    if lacking:
        raise LogError(record.path, f"has no data set {lacking[0]!r}")
    data = clean_of_log(record, place)
    attacked = _attacked(record, data, targets)
    poisoned = logged_poison(record, data, attacked)
    check_poisoned(poisoned, data.train, data.test)

    held = "probe" if targets == "probe" else "kept"
    if attacked.whole:
        held = "all"
    about = {
        "scene": record.config,
        "claims": _claims(record, place.trust),
        "targets": held,
    }
    write_poison(path, poisoned, data.train, data.test, about)
    return Exported(
        path=path,
        poison=int((poisoned.role == POISON).sum()),
        cover=int((poisoned.role == COVER).sum()),
        rows=len(poisoned.train),
        targets=len(attacked.wanted),
        all_targets=len(record.data[names.TARGETS_ORIGIN]),
        problem=_problem(record, attacked) if targets == "auto" else "",
    )


def _file_of(source: Path) -> Path:
    return source / "scene.h5" if source.is_dir() else source


def _attacked(record: Record, data: Clean, targets: Targets) -> Attacked:
    """The attacked points to write; see `export`."""
    probe = unpack_probe(record, data.test)
    if targets == "probe":
        return attacked_of_probe(record, probe)
    attacked = unpack_attacked(record, data.test, probe)
    if targets == "all" and not attacked.whole:
        way = "--targets auto writes those that the log keeps"
        raise ConfigError([f"{record.path}: {_problem(record, attacked)}"], way)
    return attacked


def _problem(record: Record, attacked: Attacked) -> str:
    if attacked.whole:
        return ""
    total = len(record.data[names.TARGETS_ORIGIN])
    return f"the log keeps {len(attacked.wanted)} of {total} attacked points"


def logged_poison(record: Record, data: Clean, attacked: Attacked) -> Poisoned:
    """Returns the poison of a scene's log with these attacked points, where the data lie."""
    poisoned = Poisoned(
        train=unpack_train(record, data.train).to("cpu"),
        role=torch.as_tensor(record.data[names.POISON_ROLE]),
        origin=torch.as_tensor(record.data[names.POISON_ORIGIN]),
        targets=attacked.points,
        wanted=attacked.wanted,
        target_origin=attacked.origin,
    )
    return poisoned.to(data.train.x.device)


def _claims(record: Record, trust: bool) -> dict[str, Any]:
    """What the attack says of itself; of one that is gone or not trusted, what its log says."""
    logged = record.config.get("attack", {})
    try:
        attack = scene_of(record.config, record.path, logged, trust).attack.value
    except ConfigError:
        return {
            key: logged[key]
            for key in ("budget", "cover")
            if logged.get(key) is not None
        }
    claims = {key: getattr(attack, key, None) for key in CLAIMS}
    if hasattr(
        attack, "covered"
    ):  # a trigger lies on top, on pixels that a file does not name
        claims.pop("eps", None)
    return {key: value for key, value in claims.items() if value is not None}


def told(exported: Exported) -> str:
    """Returns what a person reads of it, with the lines of a grid that replay the file."""
    poison = f"{exported.poison} poison rows"
    if exported.cover:
        poison += f" and {exported.cover} cover rows"
    targets = str(exported.targets)
    if exported.targets != exported.all_targets:
        targets += f" of {exported.all_targets}"
    lines = [
        f"wrote {exported.path}: {poison} of {exported.rows}, {targets} attacked points",
        "In a grid:",
        "  [[attack]]",
        '  name = "file"',
        f"  path = {json.dumps(str(exported.path))}",
    ]
    return "\n".join(lines)
