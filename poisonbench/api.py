"""The door from Python: influence and verdicts for any training run.

The one file of this floor that looks upwards: the tables of methods are imported inside its
functions.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_fraction,
    check_number,
    check_whole,
)
from poisonbench.contracts.calibration import (
    alarm_threshold,
    calibrate,
    check_readable,
    check_trusted,
    check_unseen,
    flagged,
    p_values,
)
from poisonbench.contracts.kinds import check_range
from poisonbench.contracts.verdicts import Verdict, joined, of_nothing, proponents
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.registry import Table, made
from poisonbench.seeding import exact_arithmetic, generator
from poisonbench.training.given.points import check_given_labels, predicted, read_points
from poisonbench.training.trace import Trace, check_trace

Labels = Literal["predicted", "given"]
MOST_BYTES = 1 << 28  # of influence scores that a guard holds at a time


@exact_arithmetic()
def influence(
    run: Trace,
    test: object,
    estimator: Any = "gas",
    *,
    labels: Labels = "predicted",
    **hyperparameters: Any,
) -> Tensor:
    """Returns how much each training instance helped each prediction, (m, n).

    Positive = helped: without the training row the loss at the prediction would be larger. The
    numbers are those of a grid.

    Args:
        run: the training run.
        test: the m points, on any device: a `Dataset`, a pair (x, y), a `torch.utils.data.Dataset`,
            or x alone, (m, *shape) or one instance (*shape).
        estimator: a name that `poisonbench list estimators` shows, `package.module:Class`, or an
            estimator.
        labels: whose loss is explained: that of the labels which the model predicts, or that of the
            labels given with `test`.
        **hyperparameters: of the estimator, where it is given by name.

    Raises:
        ConfigError: no such estimator or hyperparameter; or labels are asked for and none given.
        DataError: `test` is in none of these forms, of another shape or on another scale than the
            training set, not finite, or has labels that are no classes.
        TypeError: `run` is no `Trace`.
    """
    check_trace(run)
    check_choice("labels", labels, get_args(Labels))
    method = method_of("estimator", estimator, hyperparameters)
    points = read_points(run, test, "the test points")
    data = points.data
    if labels == "predicted":
        data = predicted(run, data)
    elif not points.labelled:
        way = 'give a pair (x, y), or leave out labels="given"'
        raise ConfigError(['labels="given", but test has none'], way)
    else:
        check_given_labels(run, data, "the test points")
    scores: Tensor = method.fit(run)(data)
    return scores


class Guard:
    """A detector of poisoned predictions, calibrated once on points known to be clean.

    `guard(x)` judges one point or a batch, each by itself: what else is in the batch does not
    count, but to an estimator that solves for a batch at once within a tolerance (influence
    functions by conjugate gradients). A detector that needs clean points is fitted to half of the
    trusted ones; the other half sets the threshold, as in a grid. The default trains the run once
    more if it can be made again.

    Cost: that of the estimator's scorer and of the detector, which mostly grow with the training
    set: a batch costs little more than a point. `TracIn(projection=...)` keeps the gradients of the
    training set.

    Attributes:
        threshold: the suspicion above which a point is flagged, its p-value `alarm` at most.
        alarm: share of clean points that may be flagged.
        k: proponents told of each point.
    """

    @exact_arithmetic()
    def __init__(
        self,
        run: Trace,
        trusted: object,
        detector: Any = "rehearsed",
        estimator: Any = "gas",
        *,
        alarm: float = 0.05,
        k: int = 10,
        seed: int | None = 0,
    ) -> None:
        """Fits the estimator and calibrates the detector.

        Args:
            run: the training run.
            trusted: points known to be clean and not trained on, in a form that `influence` takes;
                their labels are not read.
            detector: a name that `poisonbench list detectors` shows, `package.module:Class`, or a
                detector.
            estimator: likewise.
            alarm: share in (0, 1).
            k: proponents told of each point.
            seed: draws the half of the trusted points to which the detector is fitted; None takes
                the first half.

        Raises:
            ConfigError: no such method; a detector that reads what a guard lacks, or takes pictures
                in [0, 1] where others are given; trusted points fewer than it needs, or trained on.
            TypeError: a value of another type.
            ValueError: a value out of its range.
        """
        check_trace(run)
        check_number("alarm", alarm)
        check_fraction("alarm", alarm)
        check_whole("k", k)
        check_at_least("k", k, 1)
        if seed is not None:
            check_whole("seed", seed)
        judge = method_of("detector", detector)
        method = method_of("estimator", estimator)
        read = read_points(run, trusted, "the trusted points")
        seen = {"the training set": run.train, "the trusted points": read.data}
        check_range(judge, seen)
        clean = predicted(run, read.data)
        check_trusted(len(clean), alarm, [judge])
        check_readable(judge, str(run.train.kind))
        check_unseen(clean, run.train)
        if seed is not None:
            order = torch.randperm(len(clean), generator=generator(seed, "trusted"))
            clean = clean.take(order)
        self.alarm = alarm
        self.k = k
        self._run = run
        self._calibrated = calibrate(run, method, judge, clean)
        self.threshold = alarm_threshold(self._calibrated.clean, alarm)

    @exact_arithmetic()
    def __call__(self, x: object) -> Verdict:
        """Returns the verdict on one point (*shape), or on each of m points.

        Args:
            x: the points, in a form that `influence` takes; labels are not read.

        Raises:
            DataError: `x` is in none of these forms, holds what is no number, or is of another
                shape or on another scale than the training set.
        """
        read = read_points(self._run, x, "the points")
        check_range(self._calibrated.detector, {"the points": read.data})
        points = replace(read, data=predicted(self._run, read.data))
        if not len(points.data):
            return of_nothing(len(self._run.train), self.k)
        row_bytes = len(self._run.train) * points.data.dtype.itemsize
        size = max(1, MOST_BYTES // row_bytes)
        index = torch.arange(len(points.data))
        parts = [self._judged(points.data.take(rows)) for rows in index.split(size)]
        return joined(parts, points.single)

    def _judged(self, data: Dataset) -> Verdict:
        """Judges a block of points with their predicted labels."""
        scores = self._calibrated.scorer(data)
        suspicion = self._calibrated.suspicion(data, scores)
        p = p_values(suspicion, self._calibrated.clean)
        return Verdict(
            label=data.y.cpu(),
            suspicion=suspicion,
            p_value=p,
            flag=flagged(p, self.alarm),
            proponents=proponents(scores.cpu(), self.k),
        )


def method_of(part: str, what: Any, settings: Mapping[str, Any] = {}) -> Any:
    """Returns an estimator or a detector.

    Args:
        part: "estimator" or "detector".
        what: a name, one that another package offers among them, `package.module:Class`, or a
            method.
        settings: hyperparameters, for a name.

    Raises:
        ConfigError: no such name or hyperparameter.
        ValueError: a hyperparameter out of its range.
    """
    from defenses import DETECTORS
    from estimators import ESTIMATORS

    own = {"estimator": ESTIMATORS, "detector": DETECTORS}[part]
    return made(Table(own, f"poisonbench.{part}s"), part, what, settings)
