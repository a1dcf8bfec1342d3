"""The points of audits, from the logs alone: how suspicious each is, and what it rests on."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.evaluation.load import Results
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import Array, Record, names
from poisonbench.roles import JUDGED

PROPONENTS = 5  # rows told of each point


@dataclass(frozen=True)
class JudgedPoint:
    """What a detector says of a point of an audit.

    Attributes:
        estimator: its configuration; None for a detector that reads no influence.
        detector: its configuration.
        point: row of the points that were to be judged.
        label: that the model predicts.
        suspicion: the score.
        p_value: how seldom a clean point scores so high.
        flag: whether the score is above the threshold.
        proponents: training rows that help the prediction most, the most helpful first; none
            without an estimator.
    """

    estimator: dict[str, Any] | None
    detector: dict[str, Any]
    point: int
    label: int
    suspicion: float
    p_value: float
    flag: bool
    proponents: tuple[int, ...]


def is_audit(scene: Record) -> bool:
    """Whether a log of kind "scene" is of an audit: nobody told which points are attacked."""
    return bool((scene.data[names.PROBE_GROUP] == JUDGED).any())


@dataclass(frozen=True)
class Judged:
    """The points of all audits of a folder.

    Attributes:
        points: by method, the most suspicious first.
        damaged: an error for each log that lacks what it should hold.
    """

    points: tuple[JudgedPoint, ...]
    damaged: tuple[LogError, ...]

    @property
    def flagged(self) -> int:
        """How many points at least one detector flags."""
        return len({point.point for point in self.points if point.flag})


def judged_points(results: Results) -> Judged:
    """Returns the points of all audits among the results."""
    found: list[JudgedPoint] = []
    damaged: list[LogError] = []
    audits = {
        record.path.parent: record for record in results.of("scene") if is_audit(record)
    }
    for record in results.of("detect"):
        scene = audits.get(record.path.parent)
        if scene is None:
            continue
        try:
            points = _of_log(record, scene)
        except LogError as error:
            damaged.append(error)
        else:
            found += sorted(points, key=_most_suspicious_first)
    return Judged(tuple(found), tuple(damaged))


def _most_suspicious_first(point: JudgedPoint) -> tuple[bool, float, int]:
    unknown = bool(np.isnan(point.suspicion))
    return unknown, -point.suspicion, point.point


def _of_log(record: Record, scene: Record) -> list[JudgedPoint]:
    """The points of one log of kind "detect"."""
    p_values = log.read(record.path, "detect", keys=(names.P_VALUE,)).data[
        names.P_VALUE
    ]
    score = record.data[names.SCORE]
    if p_values.shape != score.shape:
        raise LogError(
            record.path, f"{names.P_VALUE!r} is not of the length of the scores"
        )
    origin = log.read(scene.path, "scene", keys=(names.PROBE_ORIGIN,))
    rows = origin.data[names.PROBE_ORIGIN]
    helpful = _proponents(record)

    def point(place: int) -> JudgedPoint:
        return JudgedPoint(
            estimator=record.config["estimator"],
            detector=record.config["detector"],
            point=int(rows[place]),
            label=int(scene.data[names.PROBE_PREDICTED][place]),
            suspicion=float(score[place]),
            p_value=float(p_values[place]),
            flag=bool(record.data[names.FLAG][place]),
            proponents=tuple(int(row) for row in helpful[place]),
        )

    judged = np.flatnonzero(scene.data[names.PROBE_GROUP] == JUDGED)
    return [point(int(place)) for place in judged]


def _proponents(record: Record) -> Array:
    """The most helpful training rows of each probe point, (m, k) int64; (m, 0) if not known."""
    m = len(record.data[names.SCORE])
    influence = _influence_of(record)
    if influence is None:
        return np.zeros((m, 0), dtype=np.int64)
    lowest = np.where(np.isnan(influence), -np.inf, influence)
    order = np.argsort(-lowest, axis=1, kind="stable")
    return order[:, :PROPONENTS]


def _influence_of(record: Record) -> Array | None:
    """The influence (m, n) that a detector read, from the log of its estimator."""
    wanted = record.config["estimator"]
    if wanted is None:
        return None
    for path in sorted(record.path.parent.glob("influence-*.h5")):
        found = log.read(path, "influence", keys=())
        if found.config.get("estimator") == wanted:
            whole = log.read(path, "influence", keys=(names.INFLUENCE,))
            influence = whole.data[names.INFLUENCE]
            if influence.shape[:1] != record.data[names.SCORE].shape:
                raise LogError(path, "has not a row for each probe point")
            return influence
    return None
