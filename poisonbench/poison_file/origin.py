"""The clean data that a poison file was made from: told by hashes, and found again by the grid."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from poisonbench.data import Dataset
from poisonbench.data.kind import kind_by_shape
from poisonbench.errors import DataError, LogError
from poisonbench.log import Record

BLOCK = 4096  # rows that are hashed at once


def fingerprint(data: Dataset) -> str:
    """Returns the sha256 of the values, labels, shape and classes of a data set.

    Equal values in float32 and float64 agree. The kind counts where the shape does not tell it, and
    the vocabulary, by which ids mean something.
    """
    head: list[object] = [*data.x.shape, data.classes]
    if data.kind != kind_by_shape(data.x):
        head.append(data.kind)
    if data.vocabulary:
        head.append(data.vocabulary)
    total = hashlib.sha256(json.dumps(head).encode())
    for block in data.x.split(BLOCK):
        wide = block.detach().to(device="cpu", dtype=torch.float64)
        total.update(wide.contiguous().numpy().tobytes())
    labels = data.y.cpu().contiguous()
    total.update(labels.numpy().tobytes())
    return total.hexdigest()


def facts_of(train: Dataset, test: Dataset) -> dict[str, Any]:
    """Returns what a file tells of the data set that it was made from."""
    return {
        "train": _facts(train),
        "test": _facts(test),
        "classes": train.classes,
    }


def _facts(part: Dataset) -> dict[str, Any]:
    return {
        "rows": len(part),
        "sha256": fingerprint(part),
    }


def check_origin(record: Record, train: Dataset, test: Dataset) -> None:
    """Refuses any other data set than that of the file.

    JSON escapes whatever the file holds in place of names and numbers.

    Raises:
        LogError: the file does not name its data set.
        DataError: it names another; both hashes are told.
    """
    facts = record.config.get("data")
    scene = record.config.get("scene")
    if not isinstance(facts, dict) or not isinstance(scene, dict):
        raise LogError(record.path, "does not name the data set that it was made from")
    for name, part in (("train", train), ("test", test)):
        fact = facts.get(name)
        fact = fact if isinstance(fact, dict) else {}
        wanted = fact.get("sha256")
        found = fingerprint(part)
        if wanted != found or facts.get("classes") != part.classes:
            rows = json.dumps(fact.get("rows"))
            raise DataError(
                f"{record.path}: poison fits only the {name} set that it was made from: that has "
                f"{rows} rows and sha256 {json.dumps(wanted)}, got {len(part)} rows and sha256 "
                f"{found}",
                f"in the grid: {_as_in_grid(scene)}; the seed draws subsets",
            )


def _as_in_grid(scene: Mapping[str, Any]) -> str:
    """The parts of a scene's configuration that choose its data, as a grid file writes them."""
    parts: dict[str, object] = {"dataset": scene.get("dataset")}
    transfer = scene.get("transfer")
    if isinstance(transfer, dict):
        parts["transfer"] = {"rows": transfer.get("rows")}
    parts["seeds"] = [scene.get("seed")]
    return ", ".join(f"{name} = {_toml(part)}" for name, part in parts.items())


def _toml(value: object) -> str:
    """The value as a grid file writes it."""
    if not isinstance(value, dict):
        return json.dumps(value)
    set_ones = {name: entry for name, entry in value.items() if entry is not None}
    parts = [f"{name} = {_toml(entry)}" for name, entry in set_ones.items()]
    return "{" + ", ".join(parts) + "}"
