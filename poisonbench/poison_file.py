"""Poison as a file: what an attack returned, bound by hashes to the clean data set that it was made from, and back bit for bit.

The content of changed rows and of all attacked test points is stored as it is; the clean rows come from the data set. A file is
untrusted input: everything in it is checked before it is used. Cost: O(bytes of the data set) for its hash.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from poisonbench import log
from poisonbench.contracts.attack_rules import check_poisoned
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import DataError, LogError
from poisonbench.log import Record
from poisonbench.roles import CLEAN

KIND = "poison"
CLAIMS = (
    "budget",
    "cover",
    "eps",
    "clean_label",
)  # what an attack may say of itself, and is held to when it is replayed
POISON_FORM = {
    "role": torch.uint8,
    "origin": torch.int64,
    "rows": torch.int64,
    "x": None,
    "y": torch.int64,
}
TARGETS_FORM = {"x": None, "y": torch.int64, "wanted": torch.int64, "origin": torch.int64}


def fingerprint(data: Dataset) -> str:
    """Returns the sha256 of the values, labels, shape and classes of a data set; equal values in float32 and float64 agree."""
    total = hashlib.sha256(json.dumps([*data.x.shape, data.classes]).encode())
    for part in data.x.split(4096):
        total.update(
            part.detach().to(device="cpu", dtype=torch.float64).contiguous().numpy().tobytes()
        )
    total.update(data.y.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def pack_poison(poisoned: Poisoned, clean: Dataset) -> dict[str, Tensor]:
    """Returns the ground truth: roles, origins, and the content of those rows alone that are not rows of the clean set."""
    source = clean.take(poisoned.origin.clamp(min=0))
    same = ((poisoned.train.x == source.x).flatten(1).all(1) & (poisoned.train.y == source.y)).cpu()
    rows = (
        (~same | (poisoned.origin < 0).cpu() | (poisoned.role != CLEAN).cpu()).nonzero().squeeze(1)
    )
    changed = poisoned.train.take(rows)
    return {
        "role": poisoned.role,
        "origin": poisoned.origin,
        "rows": rows,
        "x": changed.x,
        "y": changed.y,
    }


def _tensors(
    record: Record, prefix: str, form: Mapping[str, torch.dtype | None]
) -> dict[str, Tensor]:
    """The data sets `prefix/name`, of the types of `form` (None: floating point)."""
    if lacking := [name for name in form if f"{prefix}/{name}" not in record.data]:
        raise LogError(record.path, f"has no data set '{prefix}/{lacking[0]}'")
    out = {name: torch.as_tensor(record.data[f"{prefix}/{name}"]) for name in form}
    for name, dtype in form.items():
        wrong = (
            not out[name].is_floating_point()
            if dtype is None
            else out[name].dtype != dtype or out[name].dim() != 1
        )
        if wrong:
            what = f"{out[name].dtype} of shape {tuple(out[name].shape)}"
            raise LogError(record.path, f"its '{prefix}/{name}' is {what}, which no poison has")
    return out


def unpack_train(record: Record, clean: Dataset) -> Dataset:
    """Returns the poisoned training set of a log, given the clean one that it was made from.

    Raises:
        LogError: what the log holds does not fit together, or not the clean set.
    """
    data = _tensors(record, "poison", POISON_FORM)
    origin, rows = data["origin"], data["rows"]
    fits = len(origin) > 0 and int(origin.min()) >= -1 and int(origin.max()) < len(clean)
    if not fits or data["x"].shape[1:] != clean.x.shape[1:]:
        raise LogError(
            record.path,
            f"its rows do not fit the data set ({len(clean)} rows of shape {clean.shape})",
        )
    told = torch.zeros(len(origin), dtype=torch.bool)
    inside = not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < len(origin))
    if inside:
        told[rows] = True
    whole = (
        inside
        and int(told.sum()) == len(rows) == len(data["x"]) == len(data["y"])
        and len(data["role"]) == len(origin)
    )
    if not whole or not bool(told[origin < 0].all()):
        raise LogError(record.path, "its changed rows are not those that it names, each once")
    train = clean.take(origin.clamp(min=0))
    x, y = train.x.clone(), train.y.clone()
    x[rows.to(x.device)], y[rows.to(y.device)] = (
        _exact(record, data["x"], x),
        data["y"].to(y.device),
    )
    return Dataset(x, y, clean.classes)


def _exact(record: Record, values: Tensor, like: Tensor) -> Tensor:
    """The values where `like` lies and in its type, as long as that loses nothing."""
    moved = values.to(like)
    if not torch.equal(moved.cpu().to(values.dtype).nan_to_num(), values.nan_to_num()):
        raise LogError(
            record.path,
            f"its values are {values.dtype}, which {like.dtype} cannot hold without rounding",
        )
    return moved


def write_poison(
    path: Path, poisoned: Poisoned, train: Dataset, test: Dataset, about: Mapping[str, Any]
) -> None:
    """Writes a poison file, whole or not at all.

    Args:
        path: its place; a file that was there is replaced.
        poisoned: what an attack returned.
        train: the clean training set that it was given.
        test: the clean test set that it was given.
        about: where the poison comes from, as JSON can hold it: "scene", "claims" (of `CLAIMS`), "targets" ("all" or "probe").

    Raises:
        LogWriteError: the disk is full, or the system refuses.
    """
    parts = {
        name: {"rows": len(part), "sha256": fingerprint(part)}
        for name, part in (("train", train), ("test", test))
    }
    data = {f"poison/{name}": value for name, value in pack_poison(poisoned, train).items()}
    data |= {"targets/x": poisoned.targets.x, "targets/y": poisoned.targets.y}
    data |= {"targets/wanted": poisoned.wanted, "targets/origin": poisoned.target_origin}
    log.write(path, KIND, config={**about, "data": {**parts, "classes": train.classes}}, data=data)


def _check_data(record: Record, train: Dataset, test: Dataset) -> None:
    """Refuses any other data set than that of the file; JSON escapes whatever the file holds in place of names and numbers."""
    facts, scene = record.config.get("data"), record.config.get("scene")
    if not isinstance(facts, dict) or not isinstance(scene, dict):
        raise LogError(record.path, "does not name the data set that it was made from")
    for name, part in (("train", train), ("test", test)):
        fact = facts.get(name)
        rows, want = (
            (fact.get("rows"), fact.get("sha256")) if isinstance(fact, dict) else (None, None)
        )
        if want != (got := fingerprint(part)) or facts.get("classes") != part.classes:
            raise DataError(
                f"{record.path}: poison fits only the {name} set that it was made from: that has {json.dumps(rows)} rows and "
                f"sha256 {json.dumps(want)}, got {len(part)} rows and sha256 {got}",
                f"in the grid: {_source(scene)}; the seed draws subsets",
            )


def _source(scene: Mapping[str, Any]) -> str:
    """The parts of a scene's configuration that choose its data, as a grid file writes them."""
    transfer = scene.get("transfer")
    rows = {"transfer": {"rows": transfer.get("rows")}} if isinstance(transfer, dict) else {}
    parts = {"dataset": scene.get("dataset"), **rows, "seeds": [scene.get("seed")]}
    return ", ".join(f"{name} = {_toml(part)}" for name, part in parts.items())


def _toml(value: object) -> str:
    """The value as a grid file writes it."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{name} = {_toml(entry)}" for name, entry in value.items() if entry is not None
            )
            + "}"
        )
    return json.dumps(value)


def _claims(record: Record) -> SimpleNamespace:
    """What the file says of the attack, where it is of the right type."""
    told = record.config.get("claims")
    told = told if isinstance(told, dict) else {}
    claims = {name: told[name] for name in CLAIMS if isinstance(told.get(name), int | float)}
    if wrong := [name for name, value in claims.items() if not 0 <= value <= 1]:
        raise LogError(
            record.path, f"its claim {wrong[0]!r} is {claims[wrong[0]]}, no number in [0, 1]"
        )
    return SimpleNamespace(**claims)


def read_poison(path: Path, train: Dataset, test: Dataset) -> Poisoned:
    """Reads a poison file into the clean data set that it was made from; imports and runs nothing that the file names.

    Returns:
        What the attack had returned, bit for bit, on the device and in the type of `train`.

    Raises:
        DataError: these are not the data of the file; both hashes are told.
        PoisonError: the poison breaks the contract of an attack, or what the file claims of it.
        LogError: the file is damaged, foreign or hostile.
    """
    record = log.read(path, KIND)
    _check_data(record, train, test)
    poisoned_train = unpack_train(record, train)
    points = _tensors(record, "targets", TARGETS_FORM)
    if len(points["x"]) != len(points["y"]):
        raise LogError(
            record.path,
            f"has {len(points['x'])} attacked points and {len(points['y'])} labels of them",
        )
    device = train.x.device
    targets = Dataset(_exact(record, points["x"], test.x), points["y"].to(device), test.classes)
    truth = {
        name: value.to(device) for name, value in _tensors(record, "poison", POISON_FORM).items()
    }
    poisoned = Poisoned(
        poisoned_train,
        truth["role"],
        truth["origin"],
        targets,
        points["wanted"].to(device),
        points["origin"].to(device),
    )
    check_poisoned(poisoned, train, test, _claims(record))
    return poisoned
