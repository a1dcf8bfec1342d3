"""What estimators that retrain share: means of models with and without an instance, and what they keep of the models."""

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.models import build
from poisonbench.objectives import MEASURES
from poisonbench.training.trace import Trace


def check_measure(measure: str) -> None:
    """Refuses an unknown measure of a prediction.

    Raises:
        ValueError: `measure` is none of `objectives.MEASURES`.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")


def smaller_kept(trace: Trace) -> Dataset | None:
    """Returns the training set, if its predictions take less room than the models do, and None if not."""
    model = build(trace.recipe.model, trace.train.shape, trace.train.classes, 0)
    fewer = len(trace.train) * trace.train.classes < sum(p.numel() for p in model.parameters())
    return trace.train if fewer else None


def with_and_without(values: Tensor, masks: Tensor, paired: bool = False) -> tuple[Tensor, Tensor]:
    """Returns the mean over the models with an instance minus that over those without, and its standard error.

    Args:
        values: (K, m) utilities of K models at m points; a model that diverged is NaN at all of them, and left out.
        masks: (K, n) bool, the instances of each model.
        paired: only instance i at point i, m = n.

    Returns:
        Difference and standard error in float64, (m, n) or, paired, (n,): SE^2 = s_in^2 / K_in + s_out^2 / K_out. The
        difference is NaN where no model lacks or none holds the instance, the error where fewer than two do.
    """
    kept = (
        ~values.isnan().all(1)
        if values.shape[1]
        else torch.ones(len(values), dtype=torch.bool, device=values.device)
    )
    u, inside = values[kept].double(), masks.to(values.device)[kept].double()
    u = u - u.mean(0)  # to the order of the differences: little cancels in the squares

    def total(v: Tensor, weights: Tensor) -> Tensor:
        return (v * weights).sum(0) if paired else v.T @ weights

    k_in, k_out = inside.sum(0), (1 - inside).sum(0)
    mean_in, mean_out = total(u, inside) / k_in, total(u, 1 - inside) / k_out
    var_in = (total(u * u, inside) / k_in - mean_in**2).clamp(min=0) / (k_in - 1)  # s_in^2 / K_in
    var_out = (total(u * u, 1 - inside) / k_out - mean_out**2).clamp(min=0) / (k_out - 1)
    error = torch.where((k_in > 1) & (k_out > 1), (var_in + var_out).sqrt(), torch.nan)
    return torch.where((k_in > 0) & (k_out > 0), mean_in - mean_out, torch.nan), error
