"""What each criterion says of the rows: larger scores are removed earlier."""

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.cleaning.material import Material
from experiments.plan.cleaning.spec import Criterion
from experiments.plan.spec import Method
from experiments.scene.cost import noted
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.notes import collecting
from poisonbench.poison_file import fingerprint
from poisonbench.roles import POISON
from poisonbench.training import train
from poisonbench.training.trace import Trace


@dataclass(frozen=True, eq=False)
class Scored:
    """What a criterion said.

    Attributes:
        scores: (n,) float64 on the CPU.
        told: what it knows beside, by the names of `poisonbench.log.names`.
        warnings: of its run.
    """

    scores: Tensor
    told: dict[str, Tensor]
    warnings: list[str]


class Judge:
    """The criteria of one training run; the influence of an estimator is computed once."""

    def __init__(self, run: Trace, material: Material) -> None:
        self.run = run
        self.material = material
        self._influence: dict[Method, Tensor] = {}
        self._runs: dict[str, Trace] = {}

    def __call__(self, criterion: Criterion) -> Scored:
        """Returns what a criterion says.

        Raises:
            ValueError: it returned something else than a score for each row.
        """
        with noted() as warnings, collecting() as told:
            found = self._scores(criterion)
        n = len(self.run.train)
        if tuple(found.shape) != (n,):
            got = tuple(found.shape)
            raise ValueError(f"{criterion.name} returned {got}, not ({n},) scores")
        scores = found.detach().to(device="cpu", dtype=torch.float64)
        finite = scores[scores.isfinite()]
        if not len(finite) or bool((finite == finite[0]).all()):
            warnings.append(f"{criterion.name}: all rows alike, removed by position")
        own = {
            name: value for name, value in told.arrays.items() if value.shape == (n,)
        }
        return Scored(scores, own, warnings)

    def _scores(self, criterion: Criterion) -> Tensor:
        estimator = criterion.estimator
        if criterion.part == "memorisation":
            assert estimator is not None
            memorised: Tensor = estimator.value.self_influence(self.run)
            return memorised
        found: Tensor = criterion.method.value(self._evidence(criterion))
        return found

    def _evidence(self, criterion: Criterion) -> Evidence:
        """The held-out points with their labels, all of them known to be clean."""
        points = self.material.held_out
        influence = None
        if criterion.estimator is not None:
            influence = self._influence_of(criterion.estimator)
        role = None
        if criterion.method.reads("oracle"):
            role = (self.material.planted * POISON).to(torch.uint8)
            role = role.to(points.x.device)
        return Evidence(
            trace=self.run,
            test=points,
            influence=influence,
            trusted=torch.ones_like(points.y, dtype=torch.bool),
            role=role,
            means=self._means(criterion.estimator),
        )

    def _influence_of(self, estimator: Method) -> Tensor:
        """The influence (h, n) on the held-out points."""
        if estimator not in self._influence:
            scorer = estimator.value.fit(self.run)
            self._influence[estimator] = scorer(self.material.held_out)
        return self._influence[estimator].clone()

    def _means(self, estimator: Method | None) -> Means:
        def influence(run: Trace, points: Dataset) -> Tensor:
            assert estimator is not None
            scores: Tensor = estimator.value.fit(run)(points)
            return scores

        def on_rows(keep: Tensor) -> Trace:
            return self._again(self.run.train.take(keep))

        return Means(
            retrain=on_rows,
            influence=influence if estimator is not None else None,
            train=self._again,
        )

    def _again(self, data: Dataset) -> Trace:
        """The run of the same recipe and seed on other data; of the same data it is made once."""
        mark = fingerprint(data)
        if mark not in self._runs:
            run = train(data, self.run.by_recipe, self.run.seed)
            self._runs[mark] = run
        return self._runs[mark]
