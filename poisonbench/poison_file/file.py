"""Writing and reading a poison file."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from poisonbench import log
from poisonbench.contracts.attack_rules import check_poisoned
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.log import Record, names
from poisonbench.poison_file.origin import check_origin, facts_of
from poisonbench.poison_file.packing import (
    POISON_FORM,
    TARGETS_FORM,
    exact,
    pack_kind,
    pack_poison,
    unpack_group,
    unpack_train,
)

KIND = "poison"
# what an attack may say of itself, and is held to when it is replayed
CLAIMS = ("budget", "cover", "eps", "clean_label")


def write_poison(
    path: Path,
    poisoned: Poisoned,
    train: Dataset,
    test: Dataset,
    about: Mapping[str, Any],
) -> None:
    """Writes a poison file, whole or not at all.

    Args:
        path: its place; a file that was there is replaced.
        poisoned: what an attack returned.
        train: the clean training set that it was given.
        test: the clean test set that it was given.
        about: where the poison comes from, as JSON can hold it: "scene", "claims" (of `CLAIMS`),
            "targets" ("all" or "probe").

    Raises:
        LogWriteError: the disk is full, or the system refuses.
    """
    packed = pack_poison(poisoned, train)
    data: dict[str, Tensor | str] = {
        f"poison/{name}": value for name, value in packed.items()
    }
    data[names.TARGETS_X] = poisoned.targets.x
    data[names.TARGETS_Y] = poisoned.targets.y
    data[names.TARGETS_WANTED] = poisoned.wanted
    data[names.TARGETS_ORIGIN] = poisoned.target_origin
    data |= pack_kind(train)
    config = {**about, "data": facts_of(train, test)}
    log.write(path, KIND, config=config, data=data)


def read_poison(path: Path, train: Dataset, test: Dataset) -> Poisoned:
    """Reads a poison file into the clean data that it was made from.

    Imports and runs nothing that the file names.

    Returns:
        What the attack had returned, bit for bit, on the device and in the type of `train`.

    Raises:
        DataError: these are not the data of the file; both hashes are told.
        PoisonError: the poison breaks the contract of an attack, or what the file claims of it.
        LogError: the file is damaged, foreign or hostile.
    """
    record = log.read(path, KIND)
    check_origin(record, train, test)
    poisoned_train = unpack_train(record, train)
    points = unpack_group(record, "targets", TARGETS_FORM)
    truth = unpack_group(record, "poison", POISON_FORM)
    rows = len(points["x"])
    labels = len(points["y"])
    if rows != labels:
        what = f"has {rows} attacked points and {labels} labels of them"
        raise LogError(record.path, what)
    x = exact(record, points["x"], test.x)
    poisoned = Poisoned(
        train=poisoned_train,
        role=truth["role"],
        origin=truth["origin"],
        targets=test.rows(x, points["y"].to(x.device)),
        wanted=points["wanted"],
        target_origin=points["origin"],
    ).to(train.x.device)
    check_poisoned(poisoned, train, test, _claims(record))
    return poisoned


def _claims(record: Record) -> SimpleNamespace:
    """What the file says of the attack, where it is of the right type."""
    told = record.config.get("claims")
    if not isinstance(told, dict):
        return SimpleNamespace()
    claims = {
        name: told[name] for name in CLAIMS if isinstance(told.get(name), int | float)
    }
    for name, value in claims.items():
        # words that differ, and numbers that are no pixels, may be further than 1 away
        most = sys.float_info.max if name == "eps" else 1
        if not 0 <= value <= most:
            rule = "of 0 or more" if name == "eps" else "in [0, 1]"
            raise LogError(
                record.path, f"its claim {name!r} is {value}, no number {rule}"
            )
    return SimpleNamespace(**claims)
