"""What the study found, as arrays: kept in a file, and summed up."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from poisonbench.log import Array

TOP = 0.05  # share of the rows that are called the most memorised


@dataclass(frozen=True, eq=False)
class Found:
    """Memorisation of n rows, and what their removal does.

    Attributes:
        memorised: (n,) by models trained without the rows.
        error: (n,) standard errors.
        halves: (2, n) by each half of the models.
        names: of E estimators.
        own: (E, S, n) self-influence, on S runs.
        ways: q ways to choose rows, the last one random.
        shares: k shares of the rows.
        accuracy: (q, k, r) without them, of r trainings.
    """

    memorised: Array
    error: Array
    halves: Array
    names: tuple[str, ...]
    own: Array
    ways: tuple[str, ...]
    shares: tuple[float, ...]
    accuracy: Array

    def save(self, path: Path) -> None:
        """Writes it in the form of .npz, whatever the suffix."""
        with path.open("wb") as file:  # a path would be given the suffix
            np.savez(
                file,
                memorised=self.memorised,
                error=self.error,
                halves=self.halves,
                names=self.names,
                own=self.own,
                ways=self.ways,
                shares=self.shares,
                accuracy=self.accuracy,
            )

    @classmethod
    def read(cls, path: Path) -> "Found":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            return cls(
                memorised=data["memorised"],
                error=data["error"],
                halves=data["halves"],
                names=tuple(data["names"].tolist()),
                own=data["own"],
                ways=tuple(data["ways"].tolist()),
                shares=tuple(data["shares"].tolist()),
                accuracy=data["accuracy"],
            )


def reliability(halves: Array) -> float:
    """Returns the reliability of the mean of two halves, by Spearman and Brown.

    Args:
        halves: (2, n).
    """
    between = rank_agreement(halves[0], halves[1])
    return 2 * between / (1 + between)


def rank_agreement(scores: Array, truth: Array) -> float:
    """Returns Spearman's correlation over the rows, NaN where either is constant or no number."""
    sound = np.isfinite(scores).all() and np.isfinite(truth).all()
    if not sound or np.ptp(scores) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(stats.spearmanr(scores, truth).statistic)


def shared_top(
    scores: Array,
    truth: Array,
    share: float = TOP,
) -> float:
    """Returns the share of the rows of the highest truth among as many of the highest scores."""
    count = max(1, round(share * len(truth)))
    ours = _first(scores, count)
    theirs = _first(truth, count)
    return len(ours & theirs) / count


def _first(scores: Array, count: int) -> set[int]:
    order = np.argsort(-scores, kind="stable")
    return set(order[:count].tolist())
