"""Victims that are too weak to judge detectors on: far below what the same model reaches.

A model that is right on half of its test set rests on rows of other classes in clean predictions,
too, and no detector can tell these from attacked ones. What can be reached is a table of measured
accuracies: all rows of the data set, no attack. Of data or models that are not in it nothing is
said.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.evaluation.metrics import Metric
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import Record, names

MOST_LOST = 0.10  # of accuracy below the reference
MOST_TIMES = 2.0  # the error of the reference, of a victim that is wrong on more than LEAST_ERROR
LEAST_ERROR = 0.10
KEYS = (names.CLEAN_CORRECT, names.CLEAN_SIZE, names.TARGETS_WANTED)


@dataclass(frozen=True)
class Reached:
    """What a model reaches on all rows of a data set.

    Attributes:
        dataset: its name.
        model: name of a built-in model.
        accuracy: on the whole test set, mean over the seeds.
        source: the page or grid of experiments/ on which it was measured.
        classes: those that are kept, in any order; empty for all.
    """

    dataset: str
    model: str
    accuracy: float
    source: str
    classes: tuple[int | str, ...] = ()


PAGE = "results/reference-accuracy.md"
OTHER_KINDS = "results/attacks-other-kinds.md"
REACHED = (
    Reached("digits", "cnn", 0.974, PAGE),
    Reached("mnist", "cnn", 0.993, PAGE),
    Reached("fashion-mnist", "cnn", 0.921, PAGE),
    Reached("cifar10", "cnn", 0.716, PAGE),
    Reached("cifar10", "cnn7", 0.923, PAGE),
    Reached("mnist", "cnn", 0.994, PAGE, (3, 5)),
    Reached("cifar10", "cnn", 0.905, PAGE, ("airplane", "bird")),
    Reached("fsdd", "cnn", 0.976, "results/defenses-fsdd.md"),
    Reached("adult", "mlp", 0.849, OTHER_KINDS),
    Reached("sst2", "text-cnn", 0.820, "results/defenses-sst2.md"),
)


def reference_of(scene: dict[str, Any]) -> Reached | None:
    """Returns what the model of a scene reaches; None where it was not measured.

    Args:
        scene: the configuration of a scene.
    """
    dataset = scene.get("dataset") or {}
    recipe = scene.get("recipe") or {}
    classes = dataset.get("classes", ())
    if not isinstance(classes, list | tuple):  # an audit tells their number
        return None
    for reached in REACHED:
        same = reached.dataset == dataset.get("name")
        if (
            same
            and reached.model == recipe.get("model")
            and set(reached.classes) == set(classes)
        ):
            return reached
    return None


def is_far_below(accuracy: float, reference: float) -> bool:
    """Whether a victim is too weak: ten points lost, or twice the error and over a tenth wrong."""
    error = 1 - accuracy
    if reference - accuracy > MOST_LOST:
        return True
    return error > LEAST_ERROR and error > MOST_TIMES * (1 - reference)


def weakness(scene: Record) -> str:
    """Returns what is to be said of a scene with a weak victim; empty where nothing is.

    An attack on accuracy itself, without attacked points, is not told: there it is the success.

    Args:
        scene: the log of a scene.
    """
    size = int(scene.data[names.CLEAN_SIZE])
    reached = reference_of(scene.config)
    if reached is None or not size:
        return ""
    attacked = len(scene.data[names.TARGETS_WANTED])
    if not attacked and scene.config["attack"].get("name") != "none":
        return ""
    accuracy = int(scene.data[names.CLEAN_CORRECT]) / size
    if not is_far_below(accuracy, reached.accuracy):
        return ""
    what = " or ".join(str(name) for name in reached.classes) or reached.dataset
    return (
        f"weak victim: {reached.model} reaches {reached.accuracy:.2f} on all rows of {what}; "
        "detectors are not to be judged on it"
    )


def marked(metric: Metric, scene: Record) -> Metric:
    """Returns a metric of a scene with what is to be said of a weak victim, if it has a value."""
    told = weakness(scene)
    if not told or metric.value is None:
        return metric
    reasons = [reason for reason in (metric.reason, told) if reason]
    return replace(metric, reason="; ".join(reasons))


def weak_scenes(folder: Path) -> list[str]:
    """Returns a line for each thing that is to be said of scenes with weak victims in a folder.

    Logs that cannot be read are left to those who judge them.

    Args:
        folder: of a run.
    """
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob("scenes/*/scene.h5")):
        try:
            scene = log.read(path, "scene", keys=KEYS)
            told = weakness(scene)
        except (LogError, KeyError, TypeError, ValueError):
            continue
        if told:
            counts[told] += 1
    return [f"{told} (scenes: {count})" for told, count in counts.items()]
