"""The points of audits, from the logs alone: how suspicious each is, and what it rests on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.load import Results
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import Record, names
from poisonbench.roles import JUDGED

PROPONENTS = 5  # rows told of each point
AT_ONCE = 32  # points whose influence is read together


@dataclass(frozen=True)
class JudgedPoint:
    """What a detector says of a point of an audit.

    Attributes:
        audit: the folder of its logs, which stands for one model, its data and its points.
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

    audit: str
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
        flagged = [point for point in self.points if point.flag]
        return len({(point.audit, point.point) for point in flagged})


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
    judged = np.flatnonzero(scene.data[names.PROBE_GROUP] == JUDGED).tolist()
    helpful = _proponents(record, judged)

    def point(place: int) -> JudgedPoint:
        return JudgedPoint(
            audit=scene.path.parent.name,
            estimator=record.config["estimator"],
            detector=record.config["detector"],
            point=int(rows[place]),
            label=int(scene.data[names.PROBE_PREDICTED][place]),
            suspicion=float(score[place]),
            p_value=float(p_values[place]),
            flag=bool(record.data[names.FLAG][place]),
            proponents=helpful.get(place, ()),
        )

    return [point(place) for place in judged]


def _proponents(record: Record, places: list[int]) -> dict[int, tuple[int, ...]]:
    """The most helpful training rows of probe points, by place; none where they are not known.

    Some points at a time: the influence of a large training set on many points is never held.

    Args:
        record: log of kind "detect".
        places: of the points in the probe, ascending.
    """
    path = _influence_log(record)
    if path is None:
        return {}
    found = {}
    for start in range(0, len(places), AT_ONCE):
        some = places[start : start + AT_ONCE]
        influence = log.read(
            path,
            "influence",
            keys=(names.INFLUENCE,),
            rows=some,
        )
        values = influence.data[names.INFLUENCE]
        lowest = np.where(np.isnan(values), -np.inf, values)
        order = np.argsort(-lowest, axis=1, kind="stable")
        helpful = order[:, :PROPONENTS].tolist()
        for place, rows in zip(some, helpful, strict=True):
            found[place] = tuple(rows)
    return found


def _influence_log(record: Record) -> Path | None:
    """The log of the influence (m, n) that a detector read; None for one that reads none."""
    wanted = record.config["estimator"]
    if wanted is None:
        return None
    for path in sorted(record.path.parent.glob("influence-*.h5")):
        found = log.read(path, "influence", keys=())
        if found.config.get("estimator") == wanted:
            return path
    return None
