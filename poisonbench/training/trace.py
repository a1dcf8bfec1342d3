"""What a training run leaves behind: all that an influence estimator may know of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from poisonbench.checks import check_type
from poisonbench.data import Dataset
from poisonbench.errors import ReplayError
from poisonbench.training.recipe import Recipe, starting_model


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model on its way.

    Attributes:
        step: number of optimiser steps taken, in [1, T].
        lr: learning rate of the last of them.
        state: state dict, parameters and buffers.
    """

    step: int
    lr: float
    state: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Trace:
    """A finished training run.

    Attributes:
        train: the n training instances.
        recipe: hyperparameters.
        seed: of initialisation and batch order.
        batches: (T, B) int64 on the CPU, the training instances of each step, -1 pads.
        lr: (T,) float64 on the CPU, the learning rate of each step.
        checkpoints: ascending in step; the last is the final model.
        losses: (epochs,) mean training loss of each epoch, as seen by the steps.
        scratch: folder in which a long fit may keep restart blocks, or None; no part of the
            configuration.
    """

    train: Dataset
    recipe: Recipe
    seed: int
    batches: Tensor
    lr: Tensor
    checkpoints: tuple[Checkpoint, ...]
    losses: Tensor
    scratch: Path | None = None

    def initial(self) -> nn.Module:
        """Returns the model before the first step, rebuilt from the seed.

        It lies on the device of the training set, in its dtype. Parameters that are not trained
        (frozen features, in transfer) have requires_grad=False.
        """
        return starting_model(self.recipe, self.train, self.seed)

    def model(self, k: int = -1) -> nn.Module:
        """Returns a fresh copy of the model of checkpoint `k`, in evaluation mode.

        It has the parameters and the running statistics of the checkpoint.
        """
        model = self.initial()
        model.load_state_dict(self.checkpoints[k].state)
        return model


def check_trace(trace: object) -> None:
    """Refuses what is no finished run.

    Raises:
        TypeError: `trace` is no Trace; a model alone does not tell how it was trained.
    """
    check_type(
        "trace", trace, Trace, "a Trace, such as `poisonbench.training.train` returns"
    )


def check_points(trace: Trace, points: object) -> None:
    """Refuses what cannot be scored by a run: no data set, or one of other instances.

    Raises:
        TypeError: `points` is no Dataset.
        ValueError: its instances have another shape or number of classes than the training set.
    """
    check_type("points", points, Dataset, "a poisonbench.data.Dataset")
    assert isinstance(points, Dataset)
    found = points.layout
    wanted = trace.train.layout
    if found != wanted:
        raise ValueError(
            f"points must be instances as the training set, {wanted}, got {found}"
        )


def check_final(trace: Trace, state: Mapping[str, Tensor]) -> None:
    """Compares the state in which a run was repeated with its last checkpoint, bit for bit.

    Args:
        trace: the run.
        state: name of a parameter or buffer -> value after the last step.

    Raises:
        ReplayError: a value differs, and by how much.
    """
    final = trace.checkpoints[-1].state
    for name, value in state.items():
        want = final[name].to(value.device)
        unknown = value.isnan() & want.isnan()
        same = (value == want) | unknown
        if not bool(same.all()):
            difference = value.to(torch.float64) - want.to(torch.float64)
            off = float(difference.abs().max())
            raise ReplayError(name, f"is off by {off:.1e}")
