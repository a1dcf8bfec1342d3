"""What the study found, as arrays: kept in a file, and summed up by kinds of instances."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from poisonbench.log import Array

TRUTH = "training again"


@dataclass(frozen=True, eq=False)
class Found:
    """The effects of copies by training again, first, and by every estimator.

    Attributes:
        kinds: of the I instances.
        counts: s numbers of copies.
        names: of the E sources, `TRUTH` the first.
        one: (E, I, s, m), the influence of one copy.
        every: (E, I, s, m), that of all.
    """

    kinds: tuple[str, ...]
    counts: tuple[int, ...]
    names: tuple[str, ...]
    one: Array
    every: Array

    def save(
        self,
        path: Path,
    ) -> None:
        """Writes it in the form of .npz, whatever the suffix."""
        with path.open("wb") as file:  # a path would be given the suffix
            np.savez(
                file,
                kinds=self.kinds,
                counts=self.counts,
                names=self.names,
                one=self.one,
                every=self.every,
            )

    @classmethod
    def read(
        cls,
        path: Path,
    ) -> "Found":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            return cls(
                kinds=tuple(data["kinds"].tolist()),
                counts=tuple(data["counts"].tolist()),
                names=tuple(data["names"].tolist()),
                one=data["one"],
                every=data["every"],
            )

    def of(
        self,
        name: str,
        kind: str,
    ) -> tuple[Array, Array]:
        """Returns the influence of one and of all copies, means over points: (i, s) each."""
        source = self.names.index(name)
        rows = np.array([own == kind for own in self.kinds])
        one = self.one[source, rows].mean(-1)
        every = self.every[source, rows].mean(-1)
        return one, every

    def known_kinds(self) -> list[str]:
        """Returns the kinds of instances, in their order."""
        return list(dict.fromkeys(self.kinds))


def joined(parts: Sequence[Found]) -> Found:
    """Returns the instances of studies with the same counts and sources as those of one."""
    first = parts[0]
    return Found(
        kinds=sum((part.kinds for part in parts), ()),
        counts=first.counts,
        names=first.names,
        one=np.concatenate([part.one for part in parts], axis=1),
        every=np.concatenate([part.every for part in parts], axis=1),
    )


def beyond_members(
    one: Array,
    every: Array,
    counts: Sequence[int],
) -> Array:
    """Returns the share of a group's influence that the sum over its members lacks, (s,).

    1 - c x one / all, of the means over instances: 0 where influence is additive, positive where
    the group is worth more than its members one by one.

    Args:
        one: (i, s), of one of c copies.
        every: (i, s), of all c.
        counts: the s numbers c.
    """
    members = np.asarray(counts) * one.mean(0)
    share: Array = 1 - members / every.mean(0)
    return share


def agreement(
    estimate: Array,
    truth: Array,
) -> Array:
    """Returns Spearman's correlation over instances and points for each count, (s,).

    NaN where either is constant.

    Args:
        estimate: (I, s, m).
        truth: (I, s, m).
    """
    found = []
    for k in range(truth.shape[1]):
        ours = estimate[:, k].ravel()
        theirs = truth[:, k].ravel()
        if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
            found.append(np.nan)
            continue
        found.append(float(stats.spearmanr(ours, theirs).statistic))
    return np.array(found)
