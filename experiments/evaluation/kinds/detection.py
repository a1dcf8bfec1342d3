"""Detectors: how well their scores tell successfully attacked test points from clean controls.

Calibration points enter no metric. Failed attacks enter none either; they are counted.
"""

import numpy as np

from experiments.evaluation.kinds.alarms import in_stream
from experiments.evaluation.kinds.weak_victims import marked
from experiments.evaluation.metrics import not_finite, rate, undefined
from experiments.evaluation.ranking import ranking, ties
from experiments.evaluation.rows import Row, number, scene_row
from experiments.evaluation.samples import Sample
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, MATCHED, RANDOM


def detection(record: Record, scene: Record) -> Row:
    """Returns ranking metrics, the rates of flags, ties, threshold, alarm and seconds."""
    group = scene.data[names.PROBE_GROUP]
    hit = scene.data[names.PROBE_PREDICTED] == scene.data[names.PROBE_WANTED]
    flag = record.data[names.FLAG].astype(bool)
    score = record.data[names.SCORE].astype(np.float64)

    successful = (group == ATTACKED) & hit
    failed = (group == ATTACKED) & ~hit
    matched = group == MATCHED
    controls = matched | (group == RANDOM)
    judged = successful | failed | controls
    nonfinite = judged & ~np.isfinite(score)

    sample = Sample(
        positive=score[successful],
        negative=score[controls],
        matched=matched[controls],
        failed=int(failed.sum()),
    )
    ranked = ranking(sample)
    ranked["auroc"] = marked(ranked["auroc"], scene)
    bad = not_finite(score[judged])
    metrics = {
        **ranked,
        **ranking(sample, matched=True),
        "flag_tpr": rate(flag[successful], sample.undefined(), bad),
        "flag_fpr": rate(flag[controls], sample.NO_NEGATIVE, bad),
        "flag_fpr_matched": rate(flag[matched], sample.NO_MATCHED, bad),
        "flag_fpr_stream": undefined(bad) if bad else in_stream(flag, scene),
        "ties": ties(sample),
        "threshold": number(record, "threshold"),
        "alarm": number(record, "alarm"),
        "seconds": number(record, "seconds"),
    }
    counts = {
        "successful": int(successful.sum()),
        "failed": int(failed.sum()),
        "controls": int(controls.sum()),
        "matched": int(matched.sum()),
        "nonfinite": int(nonfinite.sum()),
    }
    return scene_row(record, scene, metrics, counts, (sample,))
