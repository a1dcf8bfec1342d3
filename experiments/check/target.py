"""From the name of a method to the verdicts on it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.check.attack import ATTACK
from experiments.check.detector import DETECTOR, DetectorSubject
from experiments.check.estimator import ESTIMATOR, EstimatorSubject
from experiments.check.method import made
from experiments.check.runs import AttackSubject, enlarged
from experiments.check.verdict import Verdict, judge
from experiments.plan.methods import TABLES
from poisonbench.data import load
from poisonbench.errors import ConfigError
from poisonbench.models import MODELS
from poisonbench.registry import lookup

ENLARGED_BELOW = 28  # pixels a side: images on which some attacks refuse to work


def verdicts(
    kind: str,
    target: str,
    settings: Mapping[str, Any] = {},
    *,
    dataset: str = "digits",
    root: Path | None = None,
    model: str | None = None,
    victim: bool = True,
) -> tuple[Any, Iterator[Verdict]]:
    """Returns the method, and the verdicts on it, one after the other.

    Args:
        kind: "attack", "estimator" or "detector".
        target: a name of its table, or package.module:Class.
        settings: its hyperparameters, where they are not the defaults.
        dataset: on which an attack is checked; small images that it refuses are enlarged.
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
    subject = AttackSubject(kind, target, value, load(dataset, root), model, victim)
    return value, judge(ATTACK, _large_enough(subject))


def _large_enough(subject: AttackSubject) -> AttackSubject:
    """The subject on enlarged images, where it refuses small ones and takes these."""
    clean, test = subject.data
    if len(clean.shape) != 3 or max(clean.shape[1:]) >= ENLARGED_BELOW:
        return subject
    if not isinstance(subject.run().error, ConfigError):
        return subject
    larger = replace(subject, data=(enlarged(clean), enlarged(test)), runs={})
    return subject if larger.run().error else larger
