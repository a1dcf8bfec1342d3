"""What a training run carries from step to step."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

Vectors = dict[str, Tensor]  # parameter name -> values
Gradients = dict[str, Tensor]  # of the parameters that are used


@dataclass(frozen=True, eq=False)
class State:
    """An optimiser between two steps.

    Attributes:
        theta: parameter name -> value.
        buffer: parameter name -> momentum buffer; of AdamW the mean of the gradients.
        second: parameter name -> mean of their squares, of AdamW alone.
    """

    theta: Vectors
    buffer: Vectors
    second: Vectors = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Passed:
    """A step of the run on the way back.

    Attributes:
        state: before it.
        rate: eta, its learning rate.
        index: t, counted from 0.
        gradients: of the mean loss of its batch; only AdamW's derivative reads them.
    """

    state: State
    rate: float
    index: int
    gradients: Gradients = field(default_factory=dict)


class Adjoint(Protocol):
    """The derivatives of m test losses by what a run carries from step to step.

    Attributes:
        lam: dL / d theta after the step that is next on the way back, name -> (m, *shape).
    """

    lam: Vectors

    def by_descent(self, step: Passed) -> Vectors:
        """Returns dL / d gradient of a step; moves the derivatives by its buffers to it."""
        ...

    def back(self, curved: Vectors) -> None:
        """Goes back that step; `curved` is the Hessian of its batch times what was returned."""
        ...
