"""Scores by dattri (Deng et al. 2024, arXiv 2410.04555), which the extra `bench` installs.

Imported only where it is installed.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from dattri.algorithm import (
    IFAttributorArnoldi,
    IFAttributorCG,
    IFAttributorEKFAC,
    TracInAttributor,
    TRAKAttributor,
)
from dattri.task import AttributionTask
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from estimators.trak import TRAK
from poisonbench.checks import check_choice
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.objectives import margins
from poisonbench.training.trace import Trace

BATCH = 128
Kind = Literal["arnoldi", "cg", "ekfac", "tracin", "trak"]
States = dict[str, Tensor]
Function = Callable[[States, tuple[Tensor, Tensor]], Tensor]


@dataclass(frozen=True)
class Dattri:
    """An attributor of dattri on our run.

    Attributes:
        kind: "cg" and "arnoldi" invert the Hessian of the training loss at the final model;
            "ekfac", for models of linear layers; "tracin" sums over the checkpoints with their
            learning rates, without its random projection; "trak" takes the models of our TRAK.
        models: of "trak" M; of more than one each was trained on a random half.
        dimensions: of "trak" k.
        regularization: what is added to the Hessian, of "trak" to the Gram matrix; dattri has 0.
        seed: of the labels, subsets and projections that are drawn.

    Raises:
        ValueError: no such kind.
    """

    kind: Kind = "cg"
    models: int = 1
    dimensions: int = 512
    regularization: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(Kind))

    @property
    def needs(self) -> tuple[str, ...]:
        """What it asks of a run."""
        if self.kind == "trak":
            return TRAK(models=self.models).needs
        if self.kind == "tracin":
            return ("checkpoints",)
        return ("final model",)

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n), which pays for all but the training."""
        models = self._models(trace)
        rates = [checkpoint.lr for checkpoint in trace.checkpoints]

        def score(test: Dataset) -> Tensor:
            with torch.random.fork_rng(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.manual_seed(self.seed)
                return self._scores(models, rates, trace.train, test)

        return score

    def _models(self, trace: Trace) -> list[nn.Module]:
        if self.kind == "trak":
            return list(TRAK(models=self.models, seed=self.seed).models_of(trace))
        if self.kind == "tracin":
            return [trace.model(k) for k in range(len(trace.checkpoints))]
        return [trace.model()]

    def _scores(
        self,
        models: list[nn.Module],
        rates: list[float],
        train: Dataset,
        test: Dataset,
    ) -> Tensor:
        model = copy.deepcopy(models[0])  # into which it loads all of them
        task = AttributionTask(
            loss_func=self._explained(model),
            model=model,
            checkpoints=[_copied(model) for model in models],
        )
        attributor = self._attributor(task, model, rates)
        size = BATCH
        if self.kind in ("cg", "arnoldi"):
            size = len(train)  # their Hessian is that of a batch
        rows = loader(train, size)
        points = loader(test, len(test))
        if self.kind != "tracin":  # which keeps nothing
            attributor.cache(rows)
        if self.kind == "trak":
            found = attributor.attribute(points)
        else:
            found = attributor.attribute(rows, points)
        scores: Tensor = found.detach().T.to(train.x)
        return scores

    def _explained(self, model: nn.Module) -> Function:
        """Returns the mean cross entropy of a batch; for "trak" the log-odds of one instance."""
        if self.kind == "trak":
            return margin_of(model)
        return loss_of(model)

    def _attributor(
        self, task: AttributionTask, model: nn.Module, rates: list[float]
    ) -> Any:
        device = str(next(model.parameters()).device)
        if self.kind == "cg":
            return IFAttributorCG(
                task, device=device, regularization=self.regularization
            )
        if self.kind == "arnoldi":
            return IFAttributorArnoldi(
                task, device=device, regularization=self.regularization
            )
        if self.kind == "ekfac":
            return IFAttributorEKFAC(task, device=device, damping=self.regularization)
        if self.kind == "tracin":
            attributor = TracInAttributor(
                task,
                weight_list=torch.tensor(rates),
                normalized_grad=False,
                device=device,
            )
            attributor.projector_kwargs = (
                None  # it projects onto 512 directions without
            )
            return attributor
        return TRAKAttributor(
            task,
            correct_probability_func=probability_of(model),
            projector_kwargs={
                "proj_dim": self.dimensions,
                "proj_seed": self.seed,
                "device": device,
            },
            device=device,
            regularization=self.regularization,
        )


def loader(data: Dataset, size: int) -> DataLoader[tuple[Tensor, ...]]:
    """Returns the instances in batches, in their order."""
    return DataLoader(TensorDataset(data.x, data.y), batch_size=size, shuffle=False)


def loss_of(model: nn.Module) -> Function:
    """Returns the mean cross entropy of a batch, or of one instance, by the parameters."""

    def loss(state: States, data: tuple[Tensor, Tensor]) -> Tensor:
        logits, y = _logits(model, state, data)
        return F.cross_entropy(logits, y)

    return loss


def margin_of(model: nn.Module) -> Function:
    """Returns the log-odds of the label of one instance, by the parameters."""

    def margin(state: States, data: tuple[Tensor, Tensor]) -> Tensor:
        logits, y = _logits(model, state, data)
        return margins(logits, y).sum()

    return margin


def probability_of(model: nn.Module) -> Function:
    """Returns the probability of the label of one instance, by the parameters."""

    def probability(state: States, data: tuple[Tensor, Tensor]) -> Tensor:
        logits, y = _logits(model, state, data)
        return torch.exp(-F.cross_entropy(logits, y))

    return probability


def _logits(
    model: nn.Module, state: States, data: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns those of a batch; one instance, as `vmap` passes it, is a batch of one."""
    x, y = data
    if y.dim() == 0:
        x = x[None]
        y = y[None]
    return functional_call(model, state, (x,)), y


def _copied(model: nn.Module) -> States:
    return {name: value.clone() for name, value in model.state_dict().items()}
