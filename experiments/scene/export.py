"""Poison out of a run: from a scene's log to a file that the attack `file` replays elsewhere.

A scene's log holds the poison, but of the attacked test points those of the probe alone. All others come from the attack, run
again as the scene ran it, once it has given the logged poison bit for bit. Cost: the attack again, and hashes of the data set.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Scene
from experiments.scene.archive import unpack_start
from experiments.scene.clean import Clean, clean_data
from experiments.scene.probe import choose_probe, unpack_probe
from poisonbench import log
from poisonbench.contracts.attack_rules import check_poisoned, craft
from poisonbench.contracts.values import Poisoned
from poisonbench.errors import ConfigError, LogError, PoisonbenchError
from poisonbench.log import Record
from poisonbench.poison_file import CLAIMS, pack_poison, unpack_train, write_poison
from poisonbench.roles import ATTACKED, COVER, POISON
from poisonbench.seeding import derive

Targets = Literal["auto", "all", "probe"]
PROBE_ONLY = "--targets probe writes the attacked points that the log holds, and runs nothing"
NEEDED = (
    *("poison/role", "poison/origin", "targets/y", "targets/wanted", "targets/origin"),
    *("probe/x", "probe/y", "probe/predicted", "probe/wanted", "probe/origin", "probe/group"),
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
        held: "all" or "probe".
        problem: why the file holds those of the probe alone; empty if it holds all, or was asked for those alone.
    """

    path: Path
    poison: int
    cover: int
    rows: int
    targets: int
    all_targets: int
    held: str
    problem: str


def scene_of(config: Mapping[str, Any], path: Path, attack: Mapping[str, Any]) -> Scene:
    """Rebuilds the scene of a log's configuration, with `attack` in place of its own.

    Raises:
        ConfigError: this version cannot run it.
    """
    parts = {name: value for name, value in config.items() if name not in ("attack", "seed")}
    if isinstance(
        transfer := config.get("transfer"), dict
    ):  # a given model lies in the trace, and moves no rows
        parts["transfer"] = {name: value for name, value in transfer.items() if name != "sha256"}
    try:
        scenes = parse({**parts, "attack": [dict(attack)], "seeds": [config.get("seed")]}).scenes
    except ConfigError as error:
        raise ConfigError(
            [f"{path}: its configuration cannot be run here: {fault}" for fault in error.errors]
        ) from error
    if len(scenes) != 1:
        raise ConfigError(
            [f"{path}: its configuration is that of {len(scenes)} scenes"],
            "name the scene.h5 of a run",
        )
    return scenes[0]


def logged_poison(record: Record, data: Clean) -> Poisoned:
    """The poison of a scene's log, with the attacked points of its probe."""
    role, origin = (
        torch.as_tensor(record.data[f"poison/{name}"]).to(data.train.y.device)
        for name in ("role", "origin")
    )
    probe = unpack_probe(record, data.test.classes)
    rows = (probe.group == ATTACKED).nonzero().squeeze(1)
    points = probe.points.take(rows).to(data.test.y.device)
    return Poisoned(
        unpack_train(record, data.train),
        role,
        origin,
        points,
        probe.wanted[rows],
        probe.origin[rows],
    ).to(data.train.x.device)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())


def difference(again: Poisoned, logged: Poisoned, record: Record, scene: Scene, data: Clean) -> str:
    """Returns in what a poisoning made again differs from the logged one, or "" where they agree bit for bit."""
    a, b = pack_poison(again, data.train), pack_poison(logged, data.train)
    named = {"y": again.targets.y, "wanted": again.wanted, "origin": again.target_origin}
    parts = {f"poison/{name}": _same(a[name], b[name]) for name in a}
    parts |= {
        f"targets/{name}": _same(value, torch.as_tensor(record.data[f"targets/{name}"]))
        for name, value in named.items()
    }
    if all(parts.values()):
        shown = choose_probe(
            again, data.test, torch.zeros_like(data.test.y).cpu(), scene.probe, scene.seed
        )[ATTACKED]
        parts["the attacked points of the probe"] = _same(
            again.targets.x[shown.to(again.targets.x.device)], logged.targets.x
        )
    return ", ".join(name for name, same in parts.items() if not same)


def _again(record: Record, logged: Poisoned, place: Place) -> tuple[Poisoned, dict[str, Any]]:
    """The poisoning with all attacked points, and what the attack says of itself.

    Raises:
        ConfigError: it cannot be had, with the reason.
    """
    try:
        scene = scene_of(record.config, record.path, record.config.get("attack", {}))
        data, attack, recipe = clean_data(scene, place), scene.attack.value, scene.recipe
        if "transfer" in record.config:
            recipe = replace(
                recipe, start=unpack_start(log.read(record.path.with_name("trace.h5"), "trace"))
            )
        poisoned = craft(attack, data.train, data.test, recipe, derive(scene.seed, "attack"))
    except Exception as error:  # an attack may raise anything
        what = (
            error.message
            if isinstance(error, PoisonbenchError)
            else f"{type(error).__name__}: {error}"
        )
        raise ConfigError([f"the attack cannot be run again here: {what}"], PROBE_ONLY) from error
    if wrong := difference(poisoned, logged, record, scene, data):
        made = record.attributes.get("device", "?")
        what = f"run again on {place.device}, the attack does not give the poison of the log, which was made on {made}"
        raise ConfigError([f"{what}: {wrong} differ"], PROBE_ONLY)
    claims = {
        name: getattr(attack, name) for name in CLAIMS if getattr(attack, name, None) is not None
    }
    if hasattr(attack, "covered"):  # a trigger lies on top, on pixels that a file does not name
        claims.pop("eps", None)
    return poisoned, claims


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch threads of the block: results are bit-equal for equal ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def export(source: Path, path: Path, place: Place, targets: Targets = "auto") -> Exported:
    """Writes the poison of a scene to a file.

    Args:
        source: a scene's folder, or its scene.h5.
        path: of the new file.
        place: device and data; its folder is not used.
        targets: "all" attacked test points, from the attack run again; "probe", those in the log alone, without running anything;
            "auto", all where the attack gives the logged poison again, else the probe's.

    Raises:
        ConfigError: `path` exists, the scene cannot be rebuilt, or "all" cannot be had.
        LogError: the scene's log is damaged.
        PoisonError: the logged poison breaks the contract of an attack.
    """
    if path.exists():
        raise ConfigError([f"{path} is there already"], "delete it, or name another file: -o FILE")
    record = log.read(source / "scene.h5" if source.is_dir() else source, "scene")
    if lacking := [name for name in NEEDED if name not in record.data]:
        raise LogError(record.path, f"has no data set {lacking[0]!r}")
    data = clean_data(scene_of(record.config, record.path, {"name": "none"}), place)
    kept = logged_poison(record, data)
    check_poisoned(kept, data.train, data.test)
    attack = record.config.get("attack", {})
    claims, problem, held = (
        {name: attack[name] for name in ("budget", "cover") if attack.get(name) is not None},
        "",
        "probe",
    )
    if targets != "probe":
        try:
            with _threads(int(record.attributes.get("threads", 1))):
                kept, claims = _again(record, kept, place)
            held = "all"
        except ConfigError as error:
            if targets == "all":
                raise
            problem = error.message
    write_poison(
        path,
        kept,
        data.train,
        data.test,
        {"scene": record.config, "claims": claims, "targets": held},
    )
    poison, cover = (int((kept.role == role).sum()) for role in (POISON, COVER))
    everything = len(record.data["targets/origin"])
    return Exported(
        path, poison, cover, len(kept.train), len(kept.targets), everything, held, problem
    )


def told(exported: Exported) -> str:
    """Returns what a person reads of it, with the lines of a grid that replay the file."""
    e = exported
    cover = f" and {e.cover} cover rows" if e.cover else ""
    of = "" if e.targets == e.all_targets else f" of {e.all_targets}"
    lines = [
        f"wrote {e.path}: {e.poison} poison rows{cover} of {e.rows}, {e.targets}{of} attacked points"
    ]
    if e.held == "all":
        lines.append("The attack, run again, gave the logged poison bit for bit.")
    return "\n".join(
        [
            *lines,
            "In a grid:",
            "  [[attack]]",
            '  name = "file"',
            f"  path = {json.dumps(str(e.path))}",
        ]
    )
