"""The final model of a training run, its gradients as vectors, and products with them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from estimators.kit.curvature import Curvature, default_damping
from estimators.kit.right_hand_sides import directions
from poisonbench.data import Dataset
from poisonbench.gradients import Form, gradient_vectors, parameter_names, project
from poisonbench.gradients.curvature import Kind, flatten, unflatten
from poisonbench.memory import batches, halving, room
from poisonbench.training.trace import Trace

VECTORS = 8  # copies of the m vectors that a solver holds at once


@dataclass(frozen=True, eq=False)
class FinalModel:
    """What influence functions read of a run.

    Attributes:
        model: in evaluation mode.
        train: n instances.
        decay: weight decay w of the regulariser (w/2)|theta|^2.
        form: which gradients.
        unit: gradients are divided by their norms.
        names: of the p parameters differentiated.
        theta: (p,), their values.
    """

    model: nn.Module
    train: Dataset
    decay: float
    form: Form
    unit: bool
    names: tuple[str, ...]
    theta: Tensor

    @classmethod
    def of(cls, trace: Trace, form: Form, unit: bool) -> "FinalModel":
        """Returns that of a trace."""
        model = trace.model()
        names = parameter_names(model, form.layers)
        parameters = dict(model.named_parameters())
        theta = {name: parameters[name].detach()[None] for name in names}
        return cls(
            model=model,
            train=trace.train,
            decay=trace.weight_decay,
            form=form,
            unit=unit,
            names=names,
            theta=flatten(theta)[0],
        )

    def vectors(self, part: Dataset) -> Tensor:
        """Returns the gradients of the instances, or their unit vectors, (k, p)."""
        gradients = gradient_vectors(
            self.model, part, self.form.objective, self.form.layers, self.form.loss
        )
        rows = flatten(gradients)
        if not self.unit:
            return rows
        unit, _ = directions(rows)
        return unit

    def products(self, rows: Tensor) -> Tensor:
        """Returns <v_j, g_i> for m rows and the whole gradients of the training set, (m, n)."""
        named = unflatten(self.model, self.names, rows)
        return project(self.model, self.train, named, self.form)

    def curvature(self, kind: Kind, damping: float) -> Curvature:
        """Returns the curvature of the objective, with damping on its diagonal."""
        return Curvature(
            model=self.model,
            train=self.train,
            kind=kind,
            shift=self.decay + damping,
            layers=self.form.layers,
            loss=self.form.loss,
        )

    def damping(self, seed: int) -> float:
        """Returns the default damping, see `default_damping`; `seed` is that of the signs."""
        curvature = self.curvature("gauss-newton", 0.0)
        return default_damping(curvature, self.theta, seed, self.block())

    def block(self) -> int:
        """Returns how many vectors a solver may hold."""
        vectors, _ = room(self.train, VECTORS * len(self.theta))
        return vectors

    def in_blocks(self, rows: Callable[[Dataset], Tensor], data: Dataset) -> Tensor:
        """Returns rows(part) of all parts of `data`, as large as the memory allows."""

        def parts(size: int) -> Tensor:
            return torch.cat([rows(part) for part in batches(data, size)])

        return halving(parts, min(self.block(), len(data)))
