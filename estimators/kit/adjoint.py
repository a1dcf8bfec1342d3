"""The adjoint of a training run: gradients of test losses with respect to the weight of every training instance.

It walks the run backwards, all test points together. Cost for m test points: T gradients more to recompute the run, T m
Hessian-vector products of a batch; O(m p + sqrt(T) p) memory whatever n.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.gradients import gradient_vectors
from poisonbench.gradients.products import Form, gradient_norms, project
from poisonbench.memory import halving
from poisonbench.objectives import Objective
from poisonbench.seeding import exact_arithmetic
from poisonbench.training.trace import Trace

Vectors = dict[str, Tensor]
AMPLIFIED = 10.0  # of dL/d theta_0 over dL/d theta_T from which a run is reported; a stable one damps it, or nearly keeps it
BLOCK = 64  # test points whose whole gradients are taken in one pass
DIRECTIONS_CPU, DIRECTIONS_CUDA = (
    16,
    256,
)  # of Hessian-vector products done at once: their activations take memory


@dataclass(frozen=True, eq=False)
class State:
    """SGD between two steps: parameter name -> value, and -> momentum buffer."""

    theta: Vectors
    buffer: Vectors


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A training run that can be walked backwards.

    Attributes:
        trace: the run.
        every: steps between two kept states, in [1, T].
        kept: states before the steps 0, every, 2 every, ...
    """

    trace: Trace
    every: int
    kept: list[State]

    def backwards(self, model: nn.Module) -> Iterator[tuple[int, Vectors]]:
        """Yields (t, theta_t) for t = T-1, ..., 0; one segment of the run is recomputed at a time. `model` supplies the form."""
        steps = len(self.trace.lr)
        for first in reversed(range(0, steps, self.every)):
            state, segment = self.kept[first // self.every], []
            for t in range(first, min(first + self.every, steps)):
                state = state if t == first else advance(model, state, self.trace, t - 1)
                segment.append(state.theta)
            while segment:
                yield first + len(segment) - 1, segment.pop()


def rows_of(trace: Trace, t: int) -> Tensor:
    """Returns the training instances of step t, (b,) int64, on the device of the data."""
    rows = trace.batches[t]
    return rows[rows >= 0].to(trace.train.y.device)


def batch_loss(model: nn.Module, theta: Vectors, batch: Dataset) -> Tensor:
    """Returns the mean cross entropy of a batch at the parameters `theta`."""
    return F.cross_entropy(functional_call(model, theta, (batch.x,)), batch.y)


def advance(model: nn.Module, state: State, trace: Trace, t: int) -> State:
    """Takes step t of the run, by the operations of torch.optim.SGD in their order, so that the result is bit-equal."""
    recipe, rate = trace.recipe, float(trace.lr[t])
    theta = {name: value.detach().requires_grad_() for name, value in state.theta.items()}
    with exact_arithmetic(), torch.enable_grad():
        loss = batch_loss(model, theta, trace.train.take(rows_of(trace, t)))
        grads = torch.autograd.grad(loss, list(theta.values()), materialize_grads=True)
    after, buffer = {}, {}
    for (name, value), g in zip(state.theta.items(), grads, strict=True):
        d = g.add(value, alpha=recipe.weight_decay) if recipe.weight_decay else g
        buffer[name] = state.buffer[name] * recipe.momentum + d
        move = d.add(buffer[name], alpha=recipe.momentum) if recipe.nesterov else buffer[name]
        after[name] = value.detach().add(move, alpha=-rate)
    return State(after, buffer)


def record(trace: Trace, every: int | None = None) -> Trajectory:
    """Trains again and keeps a state every `every` steps; None balances them against the recomputed segment.

    Warns when the run does not end where it did, such as with another number of threads or another device.
    """
    model, steps = trace.initial(), len(trace.lr)
    every = every or math.ceil(math.sqrt(2 * steps))
    theta = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    state = State(theta, {name: torch.zeros_like(p) for name, p in theta.items()})
    kept = []
    for t in range(steps):
        if t % every == 0:
            kept.append(state)
        state = advance(model, state, trace, t)
    final = trace.checkpoints[-1].state
    off = max(
        float((state.theta[name] - final[name]).abs().max() / (1 + final[name].abs().max()))
        for name in theta
    )
    if off > math.sqrt(torch.finfo(trace.train.x.dtype).eps):
        warnings.warn(
            f"the run, repeated, ends {off:.1e} away from the trained model: another device or thread count?",
            stacklevel=3,
        )
    return Trajectory(trace, every, kept)


def hvps(model: nn.Module, theta: Vectors, batch: Dataset, vectors: Vectors) -> Vectors:
    """Returns the products of the Hessian of the batch's mean cross entropy at `theta` with m directions.

    Args:
        model: supplies the form.
        theta: parameter name -> value.
        batch: b instances.
        vectors: parameter name -> (m, *shape).

    Returns:
        Parameter name -> (m, *shape).
    """
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    inputs = list(leaves.values())

    def run(size: int) -> Vectors:
        blocks: list[list[Tensor]] = []
        for part in zip(*(vectors[name].split(size) for name in leaves), strict=True):
            seeds = [v for v, g in zip(part, grads, strict=True) if g.requires_grad]
            outs = torch.autograd.grad(
                linked, inputs, seeds, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
            blocks.append(
                [
                    torch.zeros_like(v) if out is None else out
                    for v, out in zip(part, outs, strict=True)
                ]
            )
        return {
            name: torch.cat(parts)
            for name, parts in zip(leaves, zip(*blocks, strict=True), strict=True)
        }

    with exact_arithmetic(), torch.enable_grad():
        grads = torch.autograd.grad(
            batch_loss(model, leaves, batch), inputs, create_graph=True, materialize_grads=True
        )
        linked = [g for g in grads if g.requires_grad]
        return halving(run, DIRECTIONS_CUDA if batch.x.is_cuda else DIRECTIONS_CPU)


def directions(model: nn.Module, test: Dataset, renormalize: bool) -> Vectors:
    """Returns the gradients of the test losses, parameter name -> (m, *shape); renormalised: unit margin gradients."""
    objective: Objective = "margin" if renormalize else "loss"
    parts = [
        gradient_vectors(model, Dataset(x, y, test.classes), objective)
        for x, y in zip(test.x.split(BLOCK), test.y.split(BLOCK), strict=True)
    ]
    vectors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if renormalize:
        total = lengths(vectors).to(test.x.dtype)
        for v in vectors.values():
            v.div_(total.view(-1, *[1] * (v.dim() - 1)))
    return vectors


def lengths(vectors: Vectors) -> Tensor:
    """Returns the norms of m vectors, (m,) float64: the squares of small float32 gradients underflow."""
    norms = [
        torch.linalg.vector_norm(v.flatten(1), dim=1, dtype=torch.float64) for v in vectors.values()
    ]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return whole


def products(model: nn.Module, batch: Dataset, vectors: Vectors, renormalize: bool) -> Tensor:
    """Returns <v_j, g_i> for m vectors and b instances, (m, b), with loss gradients g_i or unit margin gradients."""
    if not renormalize:
        return project(model, batch, vectors)
    form = Form("margin")
    return project(model, batch, vectors, form) / gradient_norms(model, batch, form)


def adjoint_scores(trajectory: Trajectory, test: Dataset, renormalize: bool) -> Tensor:
    """Returns -d L_j(theta_T) / d w_i, (m, n), where step t descends (1/b) sum_{i in B_t} w_i l_i + (w/2) |theta|^2, all w_i = 1.

    With m_t = mu m_{t-1} + d_t, d_t = grad + w theta_t, theta_{t+1} = theta_t - eta_t m_t (Nesterov: d_t + mu m_t), it carries
    lam = dL/d theta_{t+1} and nu = dL/d m_t backwards; sigma = dL/d d_t. Warns when the run amplifies small changes.
    """
    trace = trajectory.trace
    recipe, model = trace.recipe, trace.model()
    own = dict(model.named_parameters())
    lam = directions(model, test, renormalize)
    nu = {name: torch.zeros_like(v) for name, v in lam.items()}
    before = lengths(lam)
    scores = test.x.new_zeros(len(test), len(trace.train))
    for t, theta in trajectory.backwards(model):
        rate, rows = float(trace.lr[t]), rows_of(trace, t)
        batch, sigma = trace.train.take(rows), {}
        for name, v in nu.items():
            v.add_(lam[name], alpha=-rate * (recipe.momentum if recipe.nesterov else 1.0))
            sigma[name] = v.sub(lam[name], alpha=rate) if recipe.nesterov else v
            own[name].detach().copy_(theta[name])
        scores.index_add_(
            1, rows, products(model, batch, sigma, renormalize), alpha=-1.0 / len(rows)
        )
        for name, curved in hvps(model, theta, batch, sigma).items():
            lam[name].add_(curved).add_(sigma[name], alpha=recipe.weight_decay)
            nu[name].mul_(recipe.momentum)
    if (growth := float((lengths(lam) / before).median())) > AMPLIFIED:
        found = f"training amplifies a small change of its start {growth:.0f}-fold"
        warnings.warn(
            f"{found}: exact scores are slopes for tiny changes of weights only; lower lr or momentum",
            stacklevel=2,
        )
    return scores
