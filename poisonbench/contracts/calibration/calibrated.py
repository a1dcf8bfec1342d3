"""A detector calibrated on clean points, ready to judge any point by itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.contracts.calibration.rules import reference_of, unseen_by
from poisonbench.contracts.protocols import (
    Detector,
    Estimator,
    LearningDetector,
    Scorer,
)
from poisonbench.contracts.scope import check_scopes, per_cosine
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset, join
from poisonbench.poison_file.origin import fingerprint
from poisonbench.training.loop import train
from poisonbench.training.trace import Trace


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A detector with the clean points that it needs, ready to judge any point by itself.

    Attributes:
        run: the training run.
        scorer: of a fitted estimator.
        detector: that judges; one that learns has learned.
        means: to train again, for a detector that does.
        reference: the clean points to which the detector is fitted, with predicted labels; none for
            a detector that needs none.
        reference_scores: (r, n), their influence.
        per_cosine: what a cosine counts in the scores, see `Evidence`.
        clean: the suspicion of the clean points that set the threshold, float64 on the CPU.
    """

    run: Trace
    scorer: Scorer
    detector: Detector
    means: Means | None
    reference: Dataset
    reference_scores: Tensor
    per_cosine: float | None
    clean: Tensor

    def suspicion(self, data: Dataset, scores: Tensor) -> Tensor:
        """Returns what the detector says of m points, (m,) float64 on the CPU.

        Args:
            data: the points with predicted labels.
            scores: (m, n), their influence.
        """
        count = len(self.reference)
        known = torch.arange(count + len(data)) < count
        evidence = evidence_for(
            self.detector,
            run=self.run,
            test=join([self.reference, data]),
            scores=torch.cat([self.reference_scores, scores]),
            reference=known,
            means=self.means,
            cosine=self.per_cosine,
        )
        return suspicion(self.detector, evidence)[count:]


def calibrate(
    run: Trace, estimator: Estimator, detector: Detector, clean: Dataset
) -> Calibrated:
    """Returns the detector calibrated on points known to be clean.

    Args:
        run: the training run.
        estimator: is fitted to it.
        detector: see `check_readable`; one that learns does so once, here.
        clean: the points with predicted labels, in random order.

    Raises:
        ConfigError: the detector reads influence that the estimator does not give.
    """
    check_scopes(estimator, detector)
    scorer = estimator.fit(run)
    everything = torch.ones(len(clean), dtype=torch.bool)
    reference = reference_of(detector, everything)
    unseen = unseen_by(detector, everything)
    scores = scorer(clean)
    cosine = per_cosine(estimator, run)
    means = None
    if "retraining" in detector.uses and run.recipe is not None:
        means = means_in_memory(run, estimator)
    evidence = evidence_for(
        detector,
        run=run,
        test=clean,
        scores=scores,
        reference=reference,
        means=means,
        cosine=cosine,
    )
    if isinstance(detector, LearningDetector):
        detector = detector.fit(evidence)
    said = suspicion(detector, evidence)
    place = reference.to(scores.device)
    return Calibrated(
        run=run,
        scorer=scorer,
        detector=detector,
        means=means,
        reference=clean.take(place),
        reference_scores=scores[place],
        per_cosine=cosine,
        clean=said[unseen],
    )


def means_in_memory(run: Trace, estimator: Estimator) -> Means:
    """Returns means to train a run's recipe again, which keep the last run in memory.

    A run holds the rows on which it was trained: all of them would be many training sets.
    """
    runs: dict[str, Trace] = {}

    def train_on(data: Dataset) -> Trace:
        digest = fingerprint(data)
        if digest not in runs:
            runs.clear()
            runs[digest] = train(data, run.by_recipe, run.seed)
        return runs[digest]

    def influence(trace: Trace, points: Dataset) -> Tensor:
        return estimator.fit(trace)(points)

    return Means(
        retrain=lambda keep: train_on(run.train.take(keep)),
        influence=influence,
        train=train_on,
    )


def evidence_for(
    detector: Detector,
    run: Trace,
    test: Dataset,
    scores: Tensor,
    reference: Tensor,
    means: Means | None,
    cosine: float | None,
) -> Evidence:
    """Returns what a detector may see: of what is there, what it declares to use.

    Args:
        detector: that is to judge.
        run: the training run.
        test: the m points with predicted labels.
        scores: (m, n), their influence.
        reference: (m,) bool, the points to which the detector is fitted.
        means: to train again.
        cosine: what one counts in the scores, see `Evidence`.
    """
    known = reference.to(scores.device)
    reads = "influence" in detector.uses
    return Evidence(
        trace=run,
        test=test,
        influence=scores if reads else None,
        trusted=known if "reference" in detector.uses else None,
        means=means if "retraining" in detector.uses else None,
        per_cosine=cosine if reads else None,
    )


def suspicion(detector: Detector, evidence: Evidence) -> Tensor:
    """Returns what a detector says of m points, (m,) float64 on the CPU."""
    said: Tensor = detector(evidence)
    return said.to(device="cpu", dtype=torch.float64)
