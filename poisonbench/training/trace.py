"""What a training run leaves behind: all that an influence estimator may know of it."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from poisonbench.data import Dataset
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
        scratch: folder in which a long fit may keep restart blocks, or None; no part of the configuration.
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
        """Returns the model before the first step, rebuilt from the seed, on the device and in the dtype of the training set.

        Parameters that are not trained (frozen features, in transfer) have requires_grad=False.
        """
        return starting_model(self.recipe, self.train, self.seed)

    def model(self, k: int = -1) -> nn.Module:
        """Returns a fresh copy of the model of checkpoint `k` in evaluation mode, parameters and running statistics."""
        model = self.initial()
        model.load_state_dict(self.checkpoints[k].state)
        return model
