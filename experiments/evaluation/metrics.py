"""Metrics of scores and rates, and their 95 % intervals: pure numbers, no logs. One that cannot be computed says why."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]
LEVELS = (0.001, 0.01, 0.05)  # false-positive rates at which the true-positive rate is read


@dataclass(frozen=True)
class Metric:
    """A number, or None and the `reason` why it is undefined; a mean has one too if part of it is.

    `interval` has 95 % confidence; `defined` counts what entered the mean.
    """

    value: float | None
    reason: str = ""
    interval: tuple[float, float] | None = None
    defined: int = 1


@dataclass(frozen=True, eq=False)
class Sample:
    """Scores of one detector in one scene: (a,) of successfully attacked points, (c,) of controls, (c,) bool which match."""

    attacked: Array
    controls: Array
    matched: NDArray[np.bool_]
    failed: int = 0
    noun: str = "attacked points"

    def against(self, matched: bool) -> Array:
        """Scores of the matched controls, or of all."""
        return self.controls[self.matched] if matched else self.controls

    def undefined(self, matched: bool = False) -> str:
        """Why no ranking metric is defined, or an empty text."""
        controls = self.against(matched)
        scores = np.concatenate([self.attacked, controls])
        if not len(self.attacked):
            return f"none of {self.failed} attacks succeeded" if self.failed else f"no {self.noun}"
        if not len(controls):
            return (
                "no matched controls"
                if matched
                else "no controls"
                if self.noun == "attacked points"
                else "no clean rows"
            )
        if bad := int((~np.isfinite(scores)).sum()):
            return f"{bad} non-finite scores"
        return "constant scores" if (scores == scores[0]).all() else ""

    def ranked(self, matched: bool = False) -> tuple[Array, Array]:
        """Truth and dense ranks of the scores, both (a + c,); no metric changes by it, and no difference overflows."""
        controls = self.against(matched)
        ranks = np.unique(np.concatenate([self.attacked, controls]), return_inverse=True)[1].astype(
            float
        )
        return np.repeat([1.0, 0.0], [len(self.attacked), len(controls)]), ranks


def mean_metric(
    values: Collection[Metric], each: str = "scenes", of: Callable[[list[float]], Any] = np.mean
) -> Metric:
    """Mean (or what `of` takes) of the defined values; the reason counts and names those that are not."""
    defined = [m.value for m in values if m.value is not None]
    reasons = "; ".join(dict.fromkeys(m.reason for m in values if m.reason))
    if defined and reasons:
        reasons = (
            f"over {len(defined)} of {len(values)} {each}: {reasons}"
            if len(defined) < len(values)
            else reasons
        )
    return Metric(float(of(defined)) if defined else None, reasons, defined=len(defined))


def rate(hits: NDArray[Any], none: str, bad: str = "") -> Metric:
    """Share of `hits`, undefined for the reason `bad`, or for the reason `none` if there are none to count."""
    return (
        Metric(None, bad or none, defined=0) if bad or not len(hits) else Metric(float(hits.mean()))
    )


def ranking(sample: Sample, matched: bool = False) -> dict[str, Metric]:
    """AUROC, AUPRC, and the largest true-positive rate whose false-positive rate does not exceed each of `LEVELS`."""
    names = [
        name + "_matched" * matched
        for name in ("auroc", "auprc", *(f"tpr_at_{level}" for level in LEVELS))
    ]
    if reason := sample.undefined(matched):
        return dict.fromkeys(names, Metric(None, reason, defined=0))
    truth, scores = sample.ranked(matched)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    values = [roc_auc_score(truth, scores), average_precision_score(truth, scores)]
    values += [tpr[fpr <= level].max() for level in LEVELS]
    return {name: Metric(float(value)) for name, value in zip(names, values, strict=True)}


def ties(sample: Sample) -> Metric:
    """Share of the successful attacked points and controls whose score another of them has too."""
    if sample.undefined() not in ("", "constant scores"):
        return Metric(None, sample.undefined(), defined=0)
    _, counts = np.unique(sample.ranked()[1], return_counts=True)
    return Metric(float(counts[counts > 1].sum() / counts.sum()))


def wilson(rates: Sequence[float], n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the mean of the seeds' `rates` over n points in all.

    Points of one victim succeed together, so n is cut to p(1 - p) over the squared standard error of the mean between the seeds
    where that is less (the design effect of clustered samples): two seeds with 0 % and 100 % count as one point.
    """
    p, z, size = float(np.mean(rates)), 1.959963984540054, float(n)
    if len(rates) > 1 and (error := float(np.var(rates, ddof=1)) / len(rates)) > 0:
        size = min(size, max(1.0, p * (1 - p) / error))
    centre, half = (
        p + z * z / (2 * size),
        z * np.sqrt(p * (1 - p) / size + z * z / (4 * size * size)),
    )
    scale = 1 + z * z / size
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries, hence once


def _wins(attacked: Array, controls: Array) -> Array:
    """Which attacked point outscores which control, (a, c): 1, or 0.5 for a tie; its mean is the AUROC."""
    result: Array = (attacked[:, None] > controls) + 0.5 * (attacked[:, None] == controls)
    return result


def _resampled(wins: Array, size: int, rng: np.random.Generator) -> Array:
    """Mean of `wins` (a, c) in `size` resamples of its rows and columns, (size,): counts x wins x counts, no sorting."""
    drawn = []
    for n in wins.shape:  # multinomial counts: how often each point was drawn
        cell = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        drawn.append(
            np.bincount(cell.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        )
    result: Array = ((drawn[0] @ wins) * drawn[1]).sum(1) / wins.size
    return result


def bootstrap(
    groups: Sequence[Sequence[tuple[Array, Array]]], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Hierarchical 95 % percentile interval of the mean over groups of the mean AUROC over scenes.

    Within each group the scenes are drawn with replacement (a single one stands); within every scene drawn, its attacked points
    and its controls, separately and anew. With two or three seeds it is rough. Cost: draws x scenes x a x c multiplications.

    Args:
        groups: for each group its scenes: scores (a,) of attacked points and (c,) of controls.
        draws: resamples.
        seed: of the generator; equal seeds give equal intervals.
    """
    return _interval([[_wins(*scene) for scene in scenes] for scenes in groups], draws, seed)


def paired_bootstrap(
    groups: Sequence[Sequence[tuple[tuple[Array, Array], tuple[Array, Array]]]],
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The same for the difference of two detectors' AUROC, with every draw of scenes and points shared by both.

    Args:
        groups: for each group its scenes: the scores of one detector, (a,) and (c,), and of the other on the same points.
        draws: resamples.
        seed: of the generator.
    """
    return _interval(
        [[_wins(*one) - _wins(*other) for one, other in scenes] for scenes in groups], draws, seed
    )


def _interval(groups: Sequence[Sequence[Array]], draws: int, seed: int) -> tuple[float, float]:
    """The bootstrap itself, of the mean over groups of the mean over scenes of the mean of a scene's matrix (a, c)."""
    rng, total = np.random.default_rng(seed), np.zeros(draws)
    with _libraries().limit(
        limits=1, user_api="blas"
    ):  # products so small cost more to share among threads than to do
        for scenes in groups:
            pick = rng.integers(len(scenes), size=(draws, len(scenes)))
            value = np.empty(pick.shape)
            for s, wins in enumerate(scenes):
                value[pick == s] = _resampled(wins, int((pick == s).sum()), rng)
            total += value.mean(1)
    low, high = np.quantile(total / len(groups), (0.025, 0.975))
    return float(low), float(high)
