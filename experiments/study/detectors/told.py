"""Which question told: what each adds to the score of attacked points, by pair, from the logs.

The score of a learned detector is a sum over questions of weight times surprise. What a question
adds is its weight times how much larger its mean surprise is on successfully attacked points than
on clean controls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import click
import numpy as np

from experiments.evaluation.names import ShortNames, data_called
from experiments.study.detectors.planted import attacked
from experiments.study.detectors.runs import FOLDERS, SET_APART
from poisonbench import log
from poisonbench.log import Array, Record, names
from poisonbench.roles import MATCHED, RANDOM

QUESTIONS = "note_questions"
MOST = 4  # questions named of a pair


@dataclass(frozen=True, eq=False)
class Told:
    """One learned detector in one scene.

    Attributes:
        data: what the data are called.
        attack: its configuration.
        detector: its configuration, without what is set for each attack.
        adds: by question, what it adds to an attacked point beyond a clean one.
    """

    data: str
    attack: dict[str, object]
    detector: dict[str, object]
    adds: dict[str, float]


@click.command()
@FOLDERS
@click.option("--detector", default="rehearsed", help="a detector that logs weights")
def told(folders: tuple[Path, ...], detector: str) -> None:
    """Show which questions told the attacked points of the runs in FOLDERS."""
    found = [one for folder in folders for one in told_in(folder, detector)]
    click.echo(as_table(found))


def told_in(folder: Path, detector: str) -> Iterator[Told]:
    """Yields what was told in each scene with successfully attacked points."""
    for path in sorted(folder.glob("scenes/*/scene.h5")):
        scene = log.read(path, "scene")
        if not attacked(scene).any():
            continue
        for own in sorted(path.parent.glob("detect-*.h5")):
            record = log.read(own, "detect")
            of_detector = record.config["detector"]["name"] == detector
            if of_detector and names.WEIGHTS in record.data:
                yield of_log(record, scene)


def of_log(record: Record, scene: Record) -> Told:
    """Returns what the questions of one log added."""
    group = scene.data[names.PROBE_GROUP]
    is_clean = (group == MATCHED) | (group == RANDOM)
    surprises = record.data[names.SURPRISES].astype(np.float64)
    beyond = surprises[:, attacked(scene)].mean(1) - surprises[:, is_clean].mean(1)
    adds: Array = record.data[names.WEIGHTS] * beyond
    questions = str(record.attributes[QUESTIONS]).split("\n")
    config = record.config["detector"]
    return Told(
        data=data_called(scene.config["dataset"]),
        attack=dict(scene.config["attack"]),
        detector={key: v for key, v in config.items() if key not in SET_APART},
        adds=dict(zip(questions, adds.tolist(), strict=True)),
    )


def as_table(found: Sequence[Told]) -> str:
    """Returns a row for each pair and detector: the questions that added most, on the mean."""
    attacks = ShortNames.of(one.attack for one in found)
    detectors = ShortNames.of(one.detector for one in found)

    def name(one: Told) -> tuple[str, str]:
        pair = f"{one.data}: {attacks.name(one.attack)}"
        return detectors.name(one.detector), pair

    lines = [
        "| detector | pair | score | what told | against |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, group in groupby(sorted(found, key=name), key=name):
        detector, pair = key
        lines.append(f"| {detector} | {pair} | {_line(list(group))} |")
    return "\n".join(lines)


def _line(scenes: Sequence[Told]) -> str:
    """The score beyond a clean point's, what added most to it, and what took most of it away."""
    adds = {}
    for question in scenes[0].adds:
        values = [one.adds.get(question, 0.0) for one in scenes]
        adds[question] = float(np.mean(values))
    ordered = sorted(adds.items(), key=lambda item: -item[1])
    most = [f"{question} {value:+.1f}" for question, value in ordered[:MOST]]
    question, least = ordered[-1]
    against = f"{question} {least:+.1f}" if least < 0 else "-"
    return f"{sum(adds.values()):+.1f} | {', '.join(most)} | {against}"
