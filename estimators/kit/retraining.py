"""What estimators that retrain share: means with and without an instance, and what is kept."""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.checks import check_choice
from poisonbench.data import Dataset
from poisonbench.objectives import MEASURES
from poisonbench.training.trace import Trace


def check_measure(measure: str) -> None:
    """Refuses an unknown measure of a prediction.

    Raises:
        ValueError: `measure` is none of `objectives.MEASURES`.
    """
    check_choice("measure", measure, MEASURES)


def random_subsets(
    count: int,
    n: int,
    size: int,
    draws: torch.Generator,
) -> Tensor:
    """Returns random subsets of `size` of n rows, (count, n) bool."""
    orders = [torch.randperm(n, generator=draws) for _ in range(count)]
    return torch.stack([order < size for order in orders])


def smaller_kept(trace: Trace) -> Dataset | None:
    """Returns the training set, if its predictions take less room than the models do, else None."""
    model = trace.model()
    predictions = len(trace.train) * trace.train.classes
    parameters = sum(p.numel() for p in model.parameters())
    if predictions < parameters:
        return trace.train
    return None


def with_and_without(
    values: Tensor,
    masks: Tensor,
    paired: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns the mean over the models with an instance minus that over those without.

    Args:
        values: (K, m) utilities of K models at m points; a model that diverged is NaN at all of
            them, and left out.
        masks: (K, n) bool, the instances of each model.
        paired: only instance i at point i, m = n.

    Returns:
        Difference and standard error in float64, (m, n) or, paired, (n,):
        SE^2 = s_in^2 / K_in + s_out^2 / K_out. The difference is NaN where no model lacks or none
        holds the instance, the error where fewer than two do.
    """
    kept = _finished(values)
    u = values[kept].double()
    u = u - u.mean(0)  # to the order of the differences: little cancels in the squares
    masks = masks.to(values.device)
    inside = masks[kept].double()
    outside = 1 - inside
    with_it = _Group.of(u, inside, paired)
    without = _Group.of(u, outside, paired)
    difference = with_it.mean - without.mean
    error = (with_it.square + without.square).sqrt()
    fewer = torch.minimum(with_it.models, without.models)
    return _where(fewer > 0, difference), _where(fewer > 1, error)


def _where(known: Tensor, values: Tensor) -> Tensor:
    """Returns the values, NaN where they are not known."""
    return torch.where(known, values, torch.nan)


@dataclass(frozen=True, eq=False)
class _Group:
    """The models that hold each instance, or those that lack it.

    Attributes:
        models: their number K, by instance.
        mean: of their utilities.
        square: s^2 / K, the squared standard error of the mean.
    """

    models: Tensor
    mean: Tensor
    square: Tensor

    @classmethod
    def of(cls, values: Tensor, members: Tensor, paired: bool) -> "_Group":
        """Returns it for utilities (K, m) and who is in it, (K, n) float64."""
        models = members.sum(0)
        mean = _total(values, members, paired) / models
        squares = _total(values * values, members, paired) / models
        spread = (squares - mean**2).clamp(min=0)
        return cls(models, mean, spread / (models - 1))


def _finished(values: Tensor) -> Tensor:
    """Returns (K,) bool: the models that did not diverge; all of them if there is no point."""
    if not values.shape[1]:
        return torch.ones(len(values), dtype=torch.bool, device=values.device)
    diverged = values.isnan().all(1)
    return ~diverged


def _total(
    values: Tensor,
    weights: Tensor,
    paired: bool,
) -> Tensor:
    """Returns the sum over the models of values (K, m) times weights (K, n): (m, n), or (n,)."""
    if paired:
        return (values * weights).sum(0)
    return values.T @ weights
