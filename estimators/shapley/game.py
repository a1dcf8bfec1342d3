"""The game that retraining plays: v(S) is the utility of the model trained on the players S.

Players are instances or groups of them. Every model starts from the seed of the trace and walks the
batches of its own instances, so that v is a function of the subset: equal subsets are trained once,
and v(D) is the utility of the model under study.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.losses import check_cross_entropy, has_labels
from poisonbench.objectives import Measure, utility
from poisonbench.training import Ensemble, train_many
from poisonbench.training.trace import Trace

Empty = Literal["chance", "prior"]
Players = Literal["instances", "labels"]


def players(train: Dataset, who: Players) -> Tensor:
    """Returns the player that each instance belongs to, (n,) int64 on the CPU."""
    if who == "instances":
        return torch.arange(len(train))
    player: Tensor
    _, player = torch.unique(train.y.cpu(), return_inverse=True)
    return player


@dataclass(frozen=True, eq=False)
class Answers:
    """The models of K subsets.

    Attributes:
        ensemble: those of the distinct subsets with instances; None where there is none.
        row: (K,) int64, where the model of each subset is; -1 for a subset without instances.
        measure: of the utility.
    """

    ensemble: Ensemble | None
    row: Tensor
    measure: Measure

    def __len__(self) -> int:
        """Returns how many models were trained."""
        if self.ensemble is None:
            return 0
        return len(self.ensemble)

    @property
    def diverged(self) -> int:
        """How many models diverged; their utility is NaN."""
        if self.ensemble is None:
            return 0
        return int(self.ensemble.diverged.sum())

    def utility(self, test: Dataset, empty: Tensor) -> Tensor:
        """Returns v of the K subsets at m test points, (K, m) float64.

        Args:
            test: m points.
            empty: (m,), v of a subset without instances.
        """
        if self.ensemble is None:
            return empty.expand(len(self.row), -1)
        of_models = self.ensemble.utility(test, self.measure).double()
        values = torch.cat(
            [of_models, empty[None]]
        )  # row -1 is that of the empty subset
        return values[self.row.to(values.device)]


@dataclass(frozen=True, eq=False)
class Game:
    """What is played.

    Attributes:
        trace: gives the n instances, recipe, seed and scratch folder.
        player: (n,) int64, the player that each instance belongs to, each of 0..P-1 at least once.
        measure: of the utility.
        empty: the predictor that stands for a model without instances: "chance" gives every class
            the same probability (and is right in 1 of C cases); "prior" gives class c
            (n_c + 1) / (n + C), whatever the test point.

    Raises:
        ConfigError: the loss of the run is none of predicted probabilities, so that nothing stands
            for a model without instances.
    """

    trace: Trace
    player: Tensor
    measure: Measure
    empty: Empty

    def __post_init__(self) -> None:
        if self.measure != "correct" and not has_labels(self.trace.loss):
            check_cross_entropy(self.trace.loss, "the value of no instances")

    @property
    def players(self) -> int:
        """P."""
        return int(self.player.max()) + 1

    def whole(self) -> Answers:
        """Trains the model of all players."""
        everyone = torch.ones(1, self.players, dtype=torch.bool)
        return self.train(everyone)

    def train(self, masks: Tensor) -> Answers:
        """Trains the models of K subsets of the players, (K, P) bool on the CPU."""
        distinct, row = torch.unique(masks, dim=0, return_inverse=True)
        nonempty = distinct.any(1)
        count = nonempty.cumsum(0)
        places = (count - 1).masked_fill(~nonempty, -1)
        if not bool(nonempty.any()):
            return Answers(None, places[row], self.measure)
        instances = distinct[nonempty][:, self.player]
        ensemble = train_many(
            self.trace.train,
            instances,
            self.trace.by_recipe,
            seeds=[self.trace.seed] * len(instances),
            scratch=self.trace.scratch,
        )
        return Answers(ensemble, places[row], self.measure)

    def without_instances(self, test: Dataset) -> Tensor:
        """Returns v(empty) at m test points, (m,) float64."""
        m = len(test)
        C = test.classes
        if self.empty == "chance" and self.measure == "correct":
            return torch.full((m,), 1 / C, dtype=torch.float64, device=test.x.device)
        logits = self._constant_logits(C).to(test.x.device)
        of_points = logits.expand(m, C)
        return utility(of_points, test.y, self.measure)

    def _constant_logits(self, C: int) -> Tensor:
        """Returns what the model without instances says of any point, (C,) float64."""
        if self.empty == "chance":
            return torch.zeros(C, dtype=torch.float64)
        counts = torch.bincount(self.trace.train.y, minlength=C)
        smoothed = counts.to(torch.float64) + 1
        return smoothed.log()
