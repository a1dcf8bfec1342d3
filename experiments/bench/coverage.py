"""How often the intervals of evaluation cover the truth, on scores whose truth has a closed form.

A detector's scores are normal, of unit variance; victims (seeds) differ in how far attacked points
and controls lie apart, or in the rate at which attacks succeed. The truth of one seed is that of
its victim; of several, the mean over all victims.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import ndtr, ndtri

from experiments.evaluation.intervals import (
    Measured,
    auroc_measured,
    difference_measured,
    mean_interval,
    rate_measured,
)
from experiments.evaluation.metrics import Array

ATTACKED = 40
CONTROLS = 100
TARGETS = 200  # attacked test points of an attack success rate
CLEAN = 500  # clean test points of an accuracy
OWN = 0.5  # standard deviation of the noise of each of two detectors that are compared


@dataclass(frozen=True)
class Setting:
    """What is drawn.

    Attributes:
        metric: "AUROC", "attack success", "clean accuracy", "difference".
        level: the mean of the metric over victims; of a difference that of the better detector.
        spread: standard deviation over victims, of the distance or of the probit of a rate.
        seeds: of each attack.
        attacks: over which the mean is taken.
        shared: share of the variance over victims that all attacks of a seed have in common.
    """

    metric: str
    level: float
    spread: float
    seeds: int
    attacks: int = 1
    shared: float = 0.0


@dataclass(frozen=True)
class Covered:
    """How often intervals covered the truth, and their median width."""

    share: float
    width: float


def coverage(setting: Setting, runs: int, seed: int = 0) -> Covered:
    """Returns the coverage of the intervals, and their width."""
    rng = np.random.default_rng(seed)
    draw = DRAWN[setting.metric]
    hits = []
    widths = []
    for _ in range(runs):
        drawn = draw(setting, rng)
        low, high = mean_interval(drawn.measured)
        hits.append(low <= drawn.truth <= high)
        widths.append(high - low)
    return Covered(float(np.mean(hits)), float(np.median(widths)))


@dataclass(frozen=True, eq=False)
class Drawn:
    """One run.

    Attributes:
        truth: what the interval is to cover.
        measured: the scenes of each attack.
    """

    truth: float
    measured: Sequence[Sequence[Measured]]


def _victims(setting: Setting, rng: np.random.Generator) -> Array:
    """Deviations of the victims: (attacks, seeds)."""
    common = rng.normal(size=(1, setting.seeds))
    own = rng.normal(size=(setting.attacks, setting.seeds))
    mixed = np.sqrt(setting.shared) * common + np.sqrt(1 - setting.shared) * own
    return np.asarray(setting.spread * mixed)


def _auroc(setting: Setting, rng: np.random.Generator) -> Drawn:
    middle = ndtri(setting.level) * np.sqrt(2 + setting.spread**2)
    distance = middle + _victims(setting, rng)
    measured = []
    for of_attack in distance:
        groups = []
        for apart in of_attack:
            positive = apart + rng.normal(size=ATTACKED)
            negative = rng.normal(size=CONTROLS)
            groups.append(auroc_measured((positive, negative)))
        measured.append(groups)
    truth = setting.level
    if setting.seeds == 1:
        truth = float(ndtr(distance / np.sqrt(2)).mean())
    return Drawn(truth, measured)


def _difference(setting: Setting, rng: np.random.Generator) -> Drawn:
    """Two detectors that share the noise of the points; one sees them farther apart.

    Victims differ in the distance that both see, and by half as much in what one sees of it more.
    """
    variance = 2 * (1 + OWN**2)
    wide = np.sqrt(variance + 1.25 * setting.spread**2)
    better = ndtri(setting.level) * wide
    worse = 0.8 * better
    both = _victims(setting, rng)
    own = _victims(setting, rng) / 2
    distances = np.stack([better + both + own, worse + both - own])
    measured = []
    for attack in range(setting.attacks):
        groups = []
        for at in range(setting.seeds):
            positive = rng.normal(size=ATTACKED)
            negative = rng.normal(size=CONTROLS)
            pair = []
            for apart in distances[:, attack, at]:
                seen = positive + OWN * rng.normal(size=ATTACKED) + apart
                passed = negative + OWN * rng.normal(size=CONTROLS)
                pair.append((seen, passed))
            groups.append(difference_measured(pair[0], pair[1]))
        measured.append(groups)
    truth = setting.level - float(ndtr(worse / wide))
    if setting.seeds == 1:
        aurocs = ndtr(distances / np.sqrt(variance))
        truth = float((aurocs[0] - aurocs[1]).mean())
    return Drawn(truth, measured)


def _rate(setting: Setting, rng: np.random.Generator, points: int) -> Drawn:
    middle = ndtri(setting.level) * np.sqrt(1 + setting.spread**2)
    rates = ndtr(middle + _victims(setting, rng))
    measured = []
    for of_attack in rates:
        hits = [rng.random(points) < rate for rate in of_attack]
        measured.append([rate_measured(float(hit.mean()), points) for hit in hits])
    truth = setting.level if setting.seeds > 1 else float(rates.mean())
    return Drawn(truth, measured)


def _success(setting: Setting, rng: np.random.Generator) -> Drawn:
    return _rate(setting, rng, TARGETS)


def _accuracy(setting: Setting, rng: np.random.Generator) -> Drawn:
    return _rate(setting, rng, CLEAN)


DRAWN: dict[str, Callable[[Setting, np.random.Generator], Drawn]] = {
    "AUROC": _auroc,
    "attack success": _success,
    "clean accuracy": _accuracy,
    "difference": _difference,
}


# metric -> means over victims, spreads over victims
SHOWN: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "AUROC": ((0.6, 0.9, 0.99), (0.0, 0.3, 1.0)),
    "attack success": ((0.6, 0.9, 0.99), (0.0, 0.5)),
    "clean accuracy": ((0.85, 0.98), (0.0, 0.1)),
    "difference": ((0.6, 0.9, 0.99), (0.0, 0.5)),
}


def settings() -> Iterator[Setting]:
    """Yields what the page of results shows."""
    for metric, (levels, spreads) in SHOWN.items():
        for level, spread, seeds in product(levels, spreads, (1, 2, 3, 5)):
            yield Setting(metric, level, spread, seeds)
    for shared, seeds in product((0.0, 0.5), (2, 3, 5)):
        yield Setting("AUROC", 0.9, 0.5, seeds, attacks=4, shared=shared)
