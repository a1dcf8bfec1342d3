"""Groups of training rows whose joint influence a grid measures: top rows, the poison, random rows.

Cost: none; the stage retrains once per group.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.roles import POISON
from poisonbench.seeding import generator


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of training rows, and on which probe points they are judged.

    Attributes:
        rows: (s, n) bool, the rows of each group.
        pairs: (s, p) bool, which of the points each group is judged on.
    """

    rows: Tensor
    pairs: Tensor


@dataclass(frozen=True)
class TopRows:
    """For each point the k rows that the estimator holds for the most helpful ones.

    Attributes:
        k: rows of a group.
        points: how many probe points: the first ones, which are attacked as far as there are any.
    """

    k: int = 10
    points: int = 5

    uses = ("influence",)

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_at_least("points", self.points, 1)

    def choose(self, evidence: Evidence, points: int, seed: int) -> Groups:  # noqa: ARG002
        """Returns one group per point, judged on it alone; of tied rows the first ones.

        Raises:
            ValueError: k leaves no row to train on.
        """
        assert evidence.influence is not None
        influence = evidence.influence[:points].cpu()
        check_some_stay("k", self.k, influence.shape[1])
        order = influence.argsort(dim=1, descending=True, stable=True)
        rows = torch.zeros(influence.shape, dtype=torch.bool)
        rows.scatter_(1, order[:, : self.k], True)
        return Groups(rows, torch.eye(points, dtype=torch.bool))


@dataclass(frozen=True)
class PoisonRows:
    """All poison rows (an oracle).

    Attributes:
        points: how many probe points, see `TopRows`.
    """

    points: int = 5

    uses = ("oracle",)

    def __post_init__(self) -> None:
        check_at_least("points", self.points, 1)

    def choose(self, evidence: Evidence, points: int, seed: int) -> Groups:  # noqa: ARG002
        """Returns one group, judged on all points; none where there is no poison."""
        poison = poison_rows(evidence)
        groups = min(1, int(poison.sum()))
        rows = poison.expand(groups, len(poison))
        return Groups(rows, torch.ones(groups, points, dtype=torch.bool))


@dataclass(frozen=True)
class RandomRows:
    """Random rows, of all training rows: what a group of that size gives by chance.

    Attributes:
        k: rows of a group; None: as many as there is poison (an oracle).
        draws: groups.
        points: how many probe points, see `TopRows`.
    """

    k: int | None = 10
    draws: int = 5
    points: int = 5

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_at_least("draws", self.draws, 1)
        check_at_least("points", self.points, 1)

    @property
    def uses(self) -> tuple[str, ...]:
        """The ground truth where it gives the size."""
        return ("oracle",) if self.k is None else ()

    def choose(self, evidence: Evidence, points: int, seed: int) -> Groups:
        """Returns the groups, each judged on all points; none of no rows.

        Raises:
            ValueError: k leaves no row to train on.
        """
        n = len(evidence.trace.train)
        k = int(poison_rows(evidence).sum()) if self.k is None else self.k
        check_some_stay("k", k, n)
        draws = self.draws if k else 0
        rows = torch.zeros(draws, n, dtype=torch.bool)
        g = generator(seed, "group")
        for row in rows:
            row[torch.randperm(n, generator=g)[:k]] = True
        return Groups(rows, torch.ones(draws, points, dtype=torch.bool))


GROUPS: dict[str, type] = {"top": TopRows, "poison": PoisonRows, "random": RandomRows}


def poison_rows(evidence: Evidence) -> Tensor:
    """Returns the poison rows, (n,) bool on the CPU, of evidence that holds the ground truth."""
    assert evidence.role is not None
    return evidence.role.cpu() == POISON


def check_some_stay(name: str, size: int, rows: int) -> None:
    """Raises ValueError unless a group of that size leaves a row to train on."""
    if size >= rows:
        raise ValueError(f"{name} must be below {rows}, the training rows, got {size}")
