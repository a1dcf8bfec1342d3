"""Two detectors on the same scenes: differences of their AUROC with paired intervals.

Both are judged on the same points of the same scenes, and the variance is that of the difference:
what makes a scene hard for both cancels. So a difference far smaller than either interval can be
told from chance.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from experiments.evaluation.intervals import (
    Measured,
    difference_measured,
    mean_interval,
)
from experiments.evaluation.means import aggregate, mean_over
from experiments.evaluation.metrics import Metric, undefined
from experiments.evaluation.names import RowNames, in_order
from experiments.evaluation.rows import Row
from experiments.evaluation.samples import RESAMPLED, Intervals, Sample
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest

WITHOUT_INFLUENCE = json.dumps(None)


@dataclass(frozen=True, eq=False)
class PairedSample(Sample):
    """The scores of one detector, and of another on the same points.

    Attributes:
        other: the scores of the other.
    """

    other: Sample | None = None

    @classmethod
    def of(cls, sample: Sample, other: Sample) -> "PairedSample":
        """Pairs two samples of the same points."""
        return cls(
            positive=sample.positive,
            negative=sample.negative,
            matched=sample.matched,
            failed=sample.failed,
            other=other,
        )

    def undefined(self, matched: bool = False) -> str:
        """Returns why the difference is undefined, an empty text if it is not."""
        assert self.other is not None
        return super().undefined(matched) or self.other.undefined(matched)

    @staticmethod
    def intervals(groups: Sequence[Sequence[Sample]]) -> Intervals:
        """Returns the intervals of the differences, by metric."""
        found = {}
        for key, matched in RESAMPLED.items():
            able = []
            for scenes in groups:
                measured = _measured(scenes, matched)
                if measured:
                    able.append(measured)
            if able:
                found[key] = mean_interval(able)
        return found


def _measured(scenes: Sequence[Sample], matched: bool) -> list[Measured]:
    """The differences in the scenes where they are defined."""
    found = []
    for scene in scenes:
        assert isinstance(scene, PairedSample)
        assert scene.other is not None
        if not scene.undefined(matched):
            own = (scene.positive, scene.against(matched))
            rival = (scene.other.positive, scene.other.against(matched))
            found.append(difference_measured(own, rival))
    return found


def differences(detections: Iterable[Row], name: str) -> list[Row]:
    """Returns rows of AUROC differences to the detector `name`, over seeds and over attacks.

    Args:
        detections: one row per scene and detector.
        name: as the tables call the rival, or its name alone where that is enough.

    Returns:
        Rows over seeds, one per attack, and their means over the attacks where there are several.

    Raises:
        ConfigError: no such detector, or several.
    """
    merged = in_order(aggregate(paired(detections, name)))
    return [*merged, *means_over_attacks(merged)]


def paired(detections: Iterable[Row], name: str) -> list[Row]:
    """Returns rows of AUROC differences to the detector `name`, one per scene and detector.

    A detector without influence is the same rival to every row of its scene. One with influence is
    compared with the rows of the same estimator.

    Args:
        detections: one row per scene and detector.
        name: as the tables call the rival, or its name alone where that is enough.

    Raises:
        ConfigError: no such detector, or several.
    """
    rows = list(detections)
    rivals = {}
    for row in _called(rows, name):
        rivals[_scene_key(row), _estimator_key(row)] = row
    pairs = []
    for row in rows:
        scene = _scene_key(row)
        rival = rivals.get((scene, _estimator_key(row)))
        if rival is None:
            rival = rivals.get((scene, WITHOUT_INFLUENCE))
        if rival is not None and rival is not row:
            pairs.append(_difference(row, rival))
    return pairs


def means_over_attacks(rows: Sequence[Row]) -> list[Row]:
    """Returns means over the attacks with a defined AUROC; none if there is but one such attack."""
    able = set()
    for row in rows:
        if row.metrics["auroc"].value is not None:
            able.add(_attack_key(row))
    if len(able) < 2:
        return []
    return mean_over([row for row in rows if _attack_key(row) in able])


def _attack_key(row: Row) -> str:
    """A text that is equal for rows of one attack."""
    return json.dumps(row.settings["attack"])


def _scene_key(row: Row) -> str:
    """A text that is equal for rows of one scene."""
    scene = dict(row.settings)
    scene.pop("estimator", None)
    scene.pop("detector", None)
    return json.dumps([scene, row.seeds], sort_keys=True)


def _estimator_key(row: Row) -> str:
    """A text that is equal for rows of one estimator, `WITHOUT_INFLUENCE` without one."""
    return json.dumps(row.settings.get("estimator"), sort_keys=True)


def _called(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows of the one detector of that name."""
    by_name: dict[str, list[Row]] = {}  # as the tables call them
    names = RowNames.of(rows)
    for row in rows:
        by_name.setdefault(names.method(row, "detector"), []).append(row)
    if name in by_name:
        return by_name[name]
    found = [
        same
        for same in by_name.values()
        if same[0].settings["detector"]["name"] == name
    ]
    if len(found) == 1:
        return found[0]
    known = sorted(by_name)
    how_many = "several detectors" if found else "no detector"
    what = f"{name!r} names {how_many} of these results{nearest(name, known)}"
    raise ConfigError([what], f"there are: {', '.join(known) or 'none'}")


def _difference(row: Row, rival: Row) -> Row:
    sample = PairedSample.of(row.samples[0], rival.samples[0])
    metrics = {}
    for key, matched in RESAMPLED.items():
        own = row.metrics[key].value
        other = rival.metrics[key].value
        if own is None or other is None:
            metrics[key] = undefined(sample.undefined(matched))
        else:
            metrics[key] = Metric(own - other)
    return replace(row, metrics=metrics, samples=(sample,))
