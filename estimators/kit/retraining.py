"""What estimators that retrain share: means with and without an instance, and what is kept."""

import torch
from torch import Tensor

from poisonbench.checks import check_choice
from poisonbench.data import Dataset
from poisonbench.models import build
from poisonbench.objectives import MEASURES
from poisonbench.training.trace import Trace


def check_measure(measure: str) -> None:
    """Refuses an unknown measure of a prediction.

    Raises:
        ValueError: `measure` is none of `objectives.MEASURES`.
    """
    check_choice("measure", measure, MEASURES)


def smaller_kept(trace: Trace) -> Dataset | None:
    """Returns the training set, if its predictions take less room than the models do, else None."""
    model = build(trace.recipe.model, trace.train.shape, trace.train.classes, 0)
    entries = len(trace.train) * trace.train.classes
    if entries < sum(p.numel() for p in model.parameters()):
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
    inside = masks.to(values.device)[kept].double()
    outside = 1 - inside
    k_in = inside.sum(0)
    k_out = outside.sum(0)
    mean_in = _total(u, inside, paired) / k_in
    mean_out = _total(u, outside, paired) / k_out
    square_in = _total(u * u, inside, paired) / k_in
    square_out = _total(u * u, outside, paired) / k_out
    spread_in = (square_in - mean_in**2).clamp(min=0) / (k_in - 1)  # s_in^2 / K_in
    spread_out = (square_out - mean_out**2).clamp(min=0) / (k_out - 1)
    two_of_each = (k_in > 1) & (k_out > 1)
    one_of_each = (k_in > 0) & (k_out > 0)
    difference = torch.where(one_of_each, mean_in - mean_out, torch.nan)
    return difference, torch.where(two_of_each, (spread_in + spread_out).sqrt(), torch.nan)


def _finished(values: Tensor) -> Tensor:
    """Returns (K,) bool: the models that did not diverge; all of them if there is no point."""
    if not values.shape[1]:
        return torch.ones(len(values), dtype=torch.bool, device=values.device)
    return ~values.isnan().all(1)


def _total(
    values: Tensor,
    weights: Tensor,
    paired: bool,
) -> Tensor:
    """Returns the sum over the models of values (K, m) times weights (K, n): (m, n), or (n,)."""
    if paired:
        return (values * weights).sum(0)
    return values.T @ weights
