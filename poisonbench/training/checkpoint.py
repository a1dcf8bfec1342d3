"""A model on its way: its state after a number of steps."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model on its way.

    Attributes:
        step: number of optimiser steps taken, in [1, T]; of a loop of someone else's, the number
            that it gives, or that of the checkpoint.
        lr: learning rate of the last of them; NaN where nobody knows it.
        state: state dict, parameters and buffers.
    """

    step: int
    lr: float
    state: dict[str, Tensor] = field(repr=False)
