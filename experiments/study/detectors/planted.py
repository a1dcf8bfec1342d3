"""How far influence ranks the planted rows first for the attacked points, from the logs alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import click
import numpy as np

from experiments.evaluation.names import ShortNames
from poisonbench import log
from poisonbench.log import Array, Record, names
from poisonbench.roles import ATTACKED, POISON


@dataclass(frozen=True, eq=False)
class Ranked:
    """One estimator in one scene.

    Attributes:
        attack: its configuration.
        estimator: its configuration.
        seed: of the scene.
        precision: (a,) average precision of the planted rows among all training rows, by the
            influence on each successfully attacked point.
        first: (a,) share of planted rows among the same number of most helpful rows.
        rank: (a,) median rank of the planted rows from the top, as a share of all rows.
    """

    attack: dict[str, object]
    estimator: dict[str, object]
    seed: int
    precision: Array
    first: Array
    rank: Array


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def planted(folder: Path) -> None:
    """Show how far the estimators of the runs in FOLDER rank the planted rows first."""
    click.echo(as_table(list(ranked(folder))))


def ranked(folder: Path) -> Iterator[Ranked]:
    """Yields the ranks by every log of influence of a scene with successfully attacked points."""
    for path in sorted(folder.glob("scenes/*/scene.h5")):
        scene = log.read(path, "scene")
        if not attacked(scene).any():
            continue
        for own in sorted(path.parent.glob("influence-*.h5")):
            yield of_log(log.read(own, "influence"), scene)


def attacked(scene: Record) -> Array:
    """Returns the probe points (m,) bool that are attacked, and predicted as wanted."""
    hit = scene.data[names.PROBE_PREDICTED] == scene.data[names.PROBE_WANTED]
    found: Array = hit & (scene.data[names.PROBE_GROUP] == ATTACKED)
    return found


def of_log(record: Record, scene: Record) -> Ranked:
    """Returns the ranks of the planted rows by one log of influence."""
    influence = record.data[names.INFLUENCE][attacked(scene)].astype(np.float64)
    is_planted = scene.data[names.POISON_ROLE] == POISON
    orders = [np.argsort(-row, kind="stable") for row in influence]
    hits = np.stack([is_planted[order] for order in orders])
    return Ranked(
        attack=dict(scene.config["attack"]),
        estimator=dict(record.config["estimator"]),
        seed=int(scene.config["seed"]),
        precision=np.array([average_precision(row) for row in hits]),
        first=hits[:, : int(is_planted.sum())].mean(1),
        rank=np.array([np.median(np.flatnonzero(row)) / len(row) for row in hits]),
    )


def average_precision(hits: Array) -> float:
    """Returns the mean, over the planted rows, of the share of planted ones down to each.

    Args:
        hits: (n,) bool, which rows are planted, the most helpful first; at least one is.
    """
    places = np.flatnonzero(hits)
    shares = np.arange(1, len(places) + 1) / (places + 1)
    return float(shares.mean())


def as_table(found: Sequence[Ranked]) -> str:
    """Returns a row for each attack and estimator; means over seeds of means over points."""
    attacks = ShortNames.of(one.attack for one in found)
    estimators = ShortNames.of(one.estimator for one in found)

    def name(one: Ranked) -> tuple[str, str]:
        return attacks.name(one.attack), estimators.name(one.estimator)

    lines = [
        "| attack | estimator | AUPRC [seeds] | planted among the first | median rank | points |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for names_of_row, group in groupby(sorted(found, key=name), key=name):
        lines.append(_line(names_of_row, list(group)))
    return "\n".join(lines)


def _line(names_of_row: tuple[str, str], scenes: Sequence[Ranked]) -> str:
    """A row of the table: the seeds of one attack and estimator."""
    precisions = [float(one.precision.mean()) for one in scenes]
    each = ", ".join(f"{value:.3f}" for value in precisions)
    first = np.mean([one.first.mean() for one in scenes])
    rank = np.mean([one.rank.mean() for one in scenes])
    points = sum(len(one.precision) for one in scenes)
    attack, estimator = names_of_row
    return (
        f"| {attack} | {estimator} | {np.mean(precisions):.3f} [{each}] "
        f"| {first:.3f} | {rank:.1%} | {points} |"
    )
