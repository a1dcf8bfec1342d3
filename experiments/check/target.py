"""From the name of a method to the verdicts on it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.check.attack import ATTACK
from experiments.check.detector import DETECTOR, DetectorSubject
from experiments.check.estimator import ESTIMATOR, EstimatorSubject
from experiments.check.method import made
from experiments.check.planted import sample
from experiments.check.runs import AttackSubject, large_enough
from experiments.check.verdict import Verdict, judge
from experiments.plan.methods import TABLES
from poisonbench.data import Dataset, kinds_of, load
from poisonbench.models import MODELS
from poisonbench.registry import lookup


def verdicts(
    kind: str,
    target: str,
    settings: Mapping[str, Any] = {},
    *,
    dataset: str | None = None,
    root: Path | None = None,
    model: str | None = None,
    victim: bool = True,
) -> tuple[Any, Iterator[Verdict]]:
    """Returns the method, and the verdicts on it, one after the other.

    Args:
        kind: "attack", "estimator" or "detector".
        target: a name of its table, or package.module:Class.
        settings: its hyperparameters, where they are not the defaults.
        dataset: on which an attack is checked, None: the digits, in the form of the first kind that
            it takes; small images that it refuses are enlarged.
        root: folder of downloaded data.
        model: of an attack's victim; None: what is usual for the kind of data.
        victim: whether to train one.

    Raises:
        ConfigError: no such method, hyperparameter, model or data.
        DataError: the data is not on disk.
    """
    cls = lookup(TABLES[kind], target, kind)
    value = made(kind, cls, target, settings)
    if kind == "estimator":
        return value, judge(ESTIMATOR, EstimatorSubject(kind, target, value))
    if kind == "detector":
        return value, judge(DETECTOR, DetectorSubject(kind, target, value))
    if model is not None:
        lookup(MODELS, model, "model")
    data = _data(value, dataset, root)
    subject = AttackSubject(kind, target, value, data, model, victim)
    return value, judge(ATTACK, large_enough(subject))


def _data(
    value: object, dataset: str | None, root: Path | None
) -> tuple[Dataset, Dataset]:
    """The data on which an attack is checked: those named, else of the first kind it takes."""
    if dataset is not None:
        return load(dataset, root)
    return sample(kinds_of(value)[0])
