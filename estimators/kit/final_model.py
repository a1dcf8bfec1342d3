"""The final model of a training run, its gradients as vectors, and products with them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from estimators.kit.curvature import Curvature
from estimators.kit.right_hand_sides import directions
from poisonbench.data import Dataset
from poisonbench.gradients import Form, gradient_vectors, parameter_names, project
from poisonbench.gradients.curvature import Kind, flatten, unflatten
from poisonbench.memory import batches, halving, room
from poisonbench.notes import note
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace

VECTORS = 8  # copies of the m vectors that a solver holds at once
# share of the trace: by the linear datamodeling score on digits, MNIST and Fashion-MNIST
DAMPING = 1e-3
PROBES = 8  # products of which the trace is the mean


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
        """Returns a thousandth of the trace of the Gauss-Newton matrix of the mean loss.

        The trace is estimated by random signs z, E z^T G z = tr G (Hutchinson, Communications in
        Statistics 1989). 1 where there is no curvature at all: then every H will do. In the log.

        Args:
            seed: of the signs.
        """
        bare = replace(self.curvature("gauss-newton", 0.0), shift=0.0)
        draws = generator(seed, "trace")
        drawn = torch.randint(2, (PROBES, len(self.theta)), generator=draws)
        signs = (2 * drawn - 1).to(self.theta)
        parts = signs.split(max(1, self.block()))
        traces = [(z * bare.product(z)).sum(1) for z in parts]
        found = DAMPING * float(torch.cat(traces).mean()) or 1.0
        note("damping", found)
        return found

    def block(self) -> int:
        """Returns how many vectors a solver may hold."""
        vectors, _ = room(self.train, VECTORS * len(self.theta))
        return vectors

    def in_blocks(self, rows: Callable[[Dataset], Tensor], data: Dataset) -> Tensor:
        """Returns rows(part) of all parts of `data`, as large as the memory allows."""

        def parts(size: int) -> Tensor:
            return torch.cat([rows(part) for part in batches(data, size)])

        return halving(parts, min(self.block(), len(data)))
