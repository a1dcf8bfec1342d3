"""How far estimators order the training rows alike: Spearman's rank correlation, point by point.

Where estimators by retraining are among them, this tells how near the others come to them.
Cost: sorting n rows for each estimator and each of at most `POINTS` points of a group and scene,
whose influence alone is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.evaluation.kinds.groups import ranks
from experiments.evaluation.load import Results
from experiments.evaluation.metrics import Array
from experiments.evaluation.names import ShortNames, natural
from poisonbench import log
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, JUDGED, MATCHED, RANDOM

POINTS = 20  # of a group and scene, the first


@dataclass(frozen=True, eq=False)
class Agreement:
    """Mean rank correlations of e estimators.

    Attributes:
        estimators: their names, sorted.
        groups: of test points, "attacked" (successfully) and "clean", to (e, e) means over points
            and scenes; nan where two estimators share no scene, or an order is not defined.
        points: how many of each group.
    """

    estimators: tuple[str, ...]
    groups: dict[str, Array]
    points: dict[str, int]


def agreement(results: Results) -> Agreement | None:
    """Returns how far the estimators of a run agree; None where no scene has two of them."""
    several = _several(results)
    if not several:
        return None
    configs = []
    for records in several.values():
        configs += [record.config["estimator"] for record in records]
    short_names = ShortNames.of(configs)
    labels = {short_names.name(config) for config in configs}
    estimators = tuple(sorted(labels, key=natural))
    found: dict[str, list[Array]] = {}
    for scene in results.of("scene"):
        records = several.get(scene.path.parent, [])
        for group, points in _points_of(scene).items():
            known = {}
            for record in records:
                label = short_names.name(record.config["estimator"])
                known[label] = _ranks(record, points)
            if known:
                found.setdefault(group, [])
                found[group] += _of_scene(known, estimators)
    means = {}
    counts = {}
    for group, matrices in found.items():
        means[group] = _mean(matrices)
        counts[group] = len(matrices)
    return Agreement(estimators, means, counts)


def _several(results: Results) -> dict[Path, list[Record]]:
    """The logs of influence of scenes with two estimators or more, by scene."""
    by_scene: dict[Path, list[Record]] = {}
    for record in results.of("influence"):
        by_scene.setdefault(record.path.parent, [])
        by_scene[record.path.parent].append(record)
    for place, records in list(by_scene.items()):
        if len(records) < 2:
            del by_scene[place]
    return by_scene


def _points_of(scene: Record) -> dict[str, list[int]]:
    """The first points of each group of a scene; groups without points are left out."""
    group = scene.data[names.PROBE_GROUP]
    hit = scene.data[names.PROBE_PREDICTED] == scene.data[names.PROBE_WANTED]
    chosen = {
        "attacked": (group == ATTACKED) & hit,
        "clean": np.isin(group, (MATCHED, RANDOM)),
        "judged": group == JUDGED,
    }
    found = {}
    for name, among in chosen.items():
        points = np.flatnonzero(among)[:POINTS].tolist()
        if points:
            found[name] = points
    return found


def _ranks(record: Record, points: list[int]) -> Array:
    """The ranks of the training rows for each point: (points, n), standardised.

    Rows of nan for a point with a value that is not finite, or with equal values alone.
    """
    keys = (names.INFLUENCE,)
    some = log.read(record.path, "influence", keys=keys, rows=points)
    return standardised_ranks(some.data[names.INFLUENCE])


def standardised_ranks(values: Array) -> Array:
    """Returns ranks of each row of (k, n) of mean 0 and length 1; tied values share their mean."""
    ranked = []
    for row in values:
        centred = ranks(row)
        centred -= centred.mean()
        length = np.sqrt(centred @ centred)
        is_defined = length > 0 and np.isfinite(row).all()
        ranked.append(centred / length if is_defined else np.full(len(row), np.nan))
    return np.stack(ranked)


def _of_scene(known: dict[str, Array], estimators: Sequence[str]) -> Iterator[Array]:
    """The correlations (e, e) at each point of a scene; nan for estimators that it lacks."""
    some = next(iter(known.values()))
    lacking = np.full_like(some, np.nan)
    stacked = np.stack([known.get(name, lacking) for name in estimators])  # (e, k, n)
    for point in range(stacked.shape[1]):
        of_one = stacked[:, point]
        yield of_one @ of_one.T


def _mean(matrices: Sequence[Array]) -> Array:
    """The mean of the defined entries; nan where none is."""
    stacked = np.stack(matrices)
    defined = np.isfinite(stacked)
    count = defined.sum(axis=0)
    total = np.where(defined, stacked, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
