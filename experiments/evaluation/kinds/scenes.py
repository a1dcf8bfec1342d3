"""Scenes and estimators: what the attack achieved, and what the influence scores cost."""

from experiments.evaluation.kinds.weak_victims import marked
from experiments.evaluation.metrics import Metric, rate, undefined
from experiments.evaluation.rows import Row, number, scene_row
from poisonbench.log import Record, names


def victim(record: Record, scene: Record) -> Row:
    """Returns clean accuracy, attack success rate over all attacked test points, and seconds."""
    data = scene.data
    hits = data[names.TARGETS_PREDICTED] == data[names.TARGETS_WANTED]
    size = int(data[names.CLEAN_SIZE])
    correct = int(data[names.CLEAN_CORRECT])
    accuracy = Metric(correct / size) if size else undefined("empty test set")
    metrics = {
        "clean_accuracy": marked(accuracy, scene),
        "asr": rate(hits, "no attacked points"),
        "attack_seconds": number(scene, "seconds_attack"),
        "train_seconds": number(scene, "seconds_train"),
    }
    counts = {
        "clean": size,
        "targets": len(hits),
        "successful": int(hits.sum()),
    }
    return scene_row(record, scene, metrics, counts)


def cost(record: Record, scene: Record) -> Row:
    """Returns what an estimator took: seconds to fit and to score, peak memory in bytes."""
    keys = ("fit_seconds", "score_seconds", "peak_bytes")
    return scene_row(record, scene, {key: number(record, key) for key in keys})
