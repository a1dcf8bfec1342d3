"""The steps of a training run: those to be taken, and one about to be taken."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Step:
    """A step about to be taken.

    Attributes:
        index: t in [0, T).
        model: theta_t, live: read it before asking for the next step, and do not change it.
        rows: (b,) int64, the training instances of the batch, on their device.
        lr: eta_t.
    """

    index: int
    model: nn.Module
    rows: Tensor
    lr: float


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps of a run.

    Attributes:
        batches: (T, B) int64, the training instances of each step, -1 pads; none is empty.
        lr: (T,) learning rates.
        shares: T numbers by which the mean loss of each batch is multiplied; None for 1.
        places: (T, B) int64, for each of `batches` its place in the batch by which augmentation is
            drawn; None where it stands there.
    """

    batches: Tensor
    lr: Tensor
    shares: Sequence[float] | None = None
    places: Tensor | None = None
