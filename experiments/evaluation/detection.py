"""Rows from the logs alone: no training, no data sets, no models. Cost: milliseconds a row.

A row is one detector, filter, ... in one scene (`rows.py`: over seeds and attacks, with intervals). Calibration points enter no
metric, failed attacks are counted, and a metric that cannot be computed is undefined, with its reason.
"""

from dataclasses import replace

import numpy as np

from experiments.evaluation.certificates import certificate
from experiments.evaluation.filters import identification
from experiments.evaluation.load import Results, settings
from experiments.evaluation.metrics import Metric, Sample, ranking, rate, ties
from experiments.evaluation.mitigations import mitigation
from experiments.evaluation.rows import Row as Row
from experiments.evaluation.rows import aggregate as aggregate
from experiments.evaluation.rows import marks, number, with_wilson
from experiments.evaluation.rows import mean_over as mean_over
from poisonbench.log import Record


def detection(record: Record, scene: Record) -> Row:
    """Returns the row of one detector in one scene. The calibration group enters nothing; failed attacks are counted."""
    group, flag = scene.data["probe/group"], record.data["flag"].astype(bool)
    score = record.data["score"].astype(np.float64)
    won = (group == 0) & (scene.data["probe/predicted"] == scene.data["probe/wanted"])
    lost, matched = (group == 0) & ~won, group == 1
    controls = matched | (group == 2)
    strange = (won | lost | controls) & ~np.isfinite(score)
    sample = Sample(score[won], score[controls], matched[controls], int(lost.sum()))
    bad = f"{strange.sum()} non-finite scores" if strange.any() else ""
    own = {
        "flag_tpr": rate(flag[won], sample.undefined(), bad),
        "flag_fpr": rate(flag[controls], "no controls", bad),
        "flag_fpr_matched": rate(flag[matched], "no matched controls", bad),
        "ties": ties(sample),
        **{name: number(record, name) for name in ("threshold", "alarm", "seconds")},
    }
    groups = {
        "successful": won,
        "failed": lost,
        "controls": controls,
        "matched": matched,
        "nonfinite": strange,
    }
    counts = {key: int(mask.sum()) for key, mask in groups.items()}
    name, seed = settings(record)
    return Row(
        name,
        (seed,),
        {**ranking(sample), **ranking(sample, True), **own},
        counts,
        marks(record),
        samples=(sample,),
    )


def victim(scene: Record) -> Row:
    """Returns clean accuracy and attack success rate over all attacked test points, with Wilson intervals, and the seconds."""
    hits = scene.data["targets/predicted"] == scene.data["targets/wanted"]
    correct, size = int(scene.data["clean/correct"]), int(scene.data["clean/size"])
    name, seed = settings(scene)
    clean = Metric(correct / size) if size else Metric(None, "empty test set", defined=0)
    metrics = {"clean_accuracy": clean, "asr": rate(hits, "no attacked points")}
    metrics |= {
        f"{stage}_seconds": number(scene, f"seconds_{stage}") for stage in ("attack", "train")
    }
    row = Row(
        name, (seed,), metrics, {"clean": size, "targets": len(hits), "successful": int(hits.sum())}
    )
    return replace(row, metrics=with_wilson(metrics, [row]))


def cost(record: Record) -> Row:
    """Returns what one estimator took in one scene: seconds to fit and to score, peak memory in bytes."""
    name, seed = settings(record)
    return Row(
        name,
        (seed,),
        {key: number(record, key) for key in ("fit_seconds", "score_seconds", "peak_bytes")},
    )


def scene_rows(results: Results) -> tuple[list[Row], list[Row], list[Row]]:
    """Returns the rows of all scenes: of the victims, the detectors, and the costs of the estimators."""
    scenes = {record.path.parent: record for record in results.of("scene")}
    detections = [detection(record, scenes[record.path.parent]) for record in results.of("detect")]
    return (
        [victim(scene) for scene in scenes.values()],
        detections,
        [cost(record) for record in results.of("influence")],
    )


def defense_rows(results: Results) -> dict[str, list[Row]]:
    """Returns the rows of all scenes, by table, of the defenses that judge training rows, answer poison, or certify."""
    scenes = {record.path.parent: record for record in results.of("scene")}
    return {
        "filters": [
            identification(record, scenes[record.path.parent]) for record in results.of("filter")
        ],
        "mitigations": [
            mitigation(record, scenes[record.path.parent]) for record in results.of("mitigate")
        ],
        "certificates": [certificate(record) for record in results.of("certify")],
    }
