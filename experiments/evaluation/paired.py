"""Two detectors on the same scenes: differences of their AUROC with paired intervals. Cost: one bootstrap a row.

Both are judged on the same points of the same scenes, and every resample draws the same points for both: what makes a scene hard
for both cancels, so that a difference far smaller than either interval can be told from chance.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from experiments.evaluation.metrics import Metric, Sample, paired_bootstrap
from experiments.evaluation.names import in_order, naming
from experiments.evaluation.rows import RESAMPLED, Intervals, Row, aggregate, mean_over
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest


@dataclass(frozen=True, eq=False)
class PairedSample(Sample):
    """The scores of one detector, and in `other` those of the one that it is held against, point for point."""

    other: Sample | None = None


def paired_intervals(groups: Sequence[Sequence[Sample]]) -> Intervals:
    """Bootstrap intervals of the differences: groups are averaged, scenes resampled within them, points within the scenes."""
    found = {}
    for key, matched in RESAMPLED.items():
        pairs = [
            [
                ((s.attacked, s.against(matched)), (s.other.attacked, s.other.against(matched)))
                for s in scenes
                if isinstance(s, PairedSample) and s.other and not _undefined(s, matched)
            ]
            for scenes in groups
        ]
        if defined := [scenes for scenes in pairs if scenes]:
            found[key] = paired_bootstrap(defined)
    return found


def _undefined(sample: PairedSample, matched: bool) -> str:
    """Why a difference is undefined, or an empty text."""
    assert sample.other is not None
    return sample.undefined(matched) or sample.other.undefined(matched)


def differences(detections: Iterable[Row], name: str) -> list[Row]:
    """Returns rows of AUROC differences to the detector `name`: over seeds a row each attack, and over the attacks.

    A detector without influence is the same rival to every row of its scene; one with influence is held against the rows of the
    same estimator.

    Args:
        detections: one row a scene and detector.
        name: as the tables call the rival, or its name alone where that is enough.

    Raises:
        ConfigError: no such detector, or several.
    """
    rows = list(detections)
    rivals = {_scene(row, "estimator"): row for row in _called(rows, name)}
    pairs = []
    for row in rows:
        rival = rivals.get(_scene(row, "estimator")) or rivals.get(_scene(row) + "null")
        if rival is not None and rival is not row:
            pairs.append(_difference(row, rival))
    merged = in_order(aggregate(pairs))
    able = [row for row in merged if row.metrics["auroc"].value is not None]
    several = len({json.dumps(row.settings["attack"]) for row in able}) > 1
    return [*merged, *(mean_over(able) if several else [])]


def _scene(row: Row, *more: str) -> str:
    own = [json.dumps(row.settings.get(part), sort_keys=True) for part in more]
    scene = {
        key: value for key, value in row.settings.items() if key not in ("estimator", "detector")
    }
    return json.dumps([scene, row.seeds], sort_keys=True) + "".join(own)


def _called(rows: Sequence[Row], name: str) -> list[Row]:
    names = naming(rows)
    shown = {id(row): names(replace(row, uses=""))[-1] for row in rows}
    exact = [row for row in rows if shown[id(row)] == name]
    found = exact or [row for row in rows if row.settings["detector"]["name"] == name]
    if len({shown[id(row)] for row in found}) != 1:
        known = sorted(set(shown.values()))
        what = f"{name!r} names {(len(found) and 'several detectors') or 'no detector'} of these results{nearest(name, known)}"
        raise ConfigError([what], f"there are: {', '.join(known) or 'none'}")
    return found


def _difference(row: Row, rival: Row) -> Row:
    sample = PairedSample(**vars(row.samples[0]), other=rival.samples[0])
    metrics = {}
    for key, matched in RESAMPLED.items():
        own, other = row.metrics[key].value, rival.metrics[key].value
        reason = _undefined(sample, matched)
        metrics[key] = (
            Metric(None, reason, defined=0) if own is None or other is None else Metric(own - other)
        )
    return replace(row, metrics=metrics, samples=(sample,), intervals=paired_intervals)
