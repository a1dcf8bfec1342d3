"""Rows of several runs, by pair of data set and attack; which pairs count."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import load_results
from experiments.evaluation.means import aggregate
from experiments.evaluation.names import RowNames, data_called
from experiments.evaluation.rows import Row

LEAST = 0.8  # of the attacked points, from which success on a pair counts
# fields of a detector that are set for each attack, or for each data set, of a study
SET_APART = ("leave_out", "prior")
FOLDERS = click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)


def read(folders: Iterable[Path]) -> tuple[list[Row], list[Row]]:
    """Returns the rows of single scenes, victims and detections, attacks called by their data."""
    victims: list[Row] = []
    detections: list[Row] = []
    for folder in folders:
        results = load_results(folder, verify=False)
        victims += rows_of(results, "scene")
        detections += rows_of(results, "detect")
    names = RowNames.of([*victims, *detections])
    return _by_data(victims, names), _by_data(detections, names)


def _by_data(rows: Sequence[Row], names: RowNames) -> list[Row]:
    """The rows with the data set and the attack as one name, and no other setting of a scene."""
    found = []
    for row in rows:
        data = data_called(row.settings["dataset"])
        attack = f"{data}: {names.attacks.name(row.settings['attack'])}"
        settings: dict[str, Any] = {"attack": {"name": attack}}
        for part in ("estimator", "detector"):
            if part in row.settings:
                settings[part] = _without_set_apart(row.settings[part])
        found.append(replace(row, settings=settings))
    return found


def _without_set_apart(config: dict[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    return {name: value for name, value in config.items() if name not in SET_APART}


def attack_of(row: Row) -> str:
    """Returns the name of the pair."""
    return str(row.settings["attack"]["name"])


def counting(victims: Sequence[Row], least: float = LEAST) -> set[str]:
    """Returns the pairs whose attack succeeds in `least` of the points, the mean over the seeds."""
    found = set()
    for row in aggregate(victims):
        success = row.metrics["asr"].value
        if success is not None and success >= least:
            found.add(attack_of(row))
    return found
