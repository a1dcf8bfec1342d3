"""The adjoint of a training run: gradients of test losses by the weight of every training instance.

It walks the run backwards, all test points together. Cost for m test points: T gradients more to
recompute the run, T m Hessian-vector products of a batch; O(m p + sqrt(T) p) memory whatever n.
"""

import warnings

import torch
from torch import Tensor, nn

from estimators.kit.descent.adamw import AdamWAdjoint
from estimators.kit.descent.sgd import SGDAdjoint
from estimators.kit.descent.state import Adjoint, Gradients, Passed, State, Vectors
from estimators.kit.hessian import hvps
from estimators.kit.trajectory import Trajectory, batch_gradients, rows_of
from poisonbench.data import Dataset
from poisonbench.gradients import Form, gradient_norms, project
from poisonbench.gradients.backprop import gradient_vectors
from poisonbench.losses import CROSS_ENTROPY, Loss, direction
from poisonbench.objectives import Objective
from poisonbench.training.recipe import Recipe
from poisonbench.training.trace import Trace

# of dL/d theta_0 over dL/d theta_T, from which a run is reported: a stable one damps it, or nearly
# keeps it
AMPLIFIED = 10.0
BLOCK = 64  # test points whose whole gradients are taken in one pass


def directions(
    model: nn.Module,
    test: Dataset,
    renormalize: bool,
    loss: Loss = CROSS_ENTROPY,
) -> Vectors:
    """Returns the gradients of the test losses; renormalised: of the margins, divided by norms.

    Args:
        model: in evaluation mode.
        test: m points.
        renormalize: see `HyDRA`.
        loss: of the run; one other than cross entropy has no margin, and is divided itself.

    Returns:
        Parameter name -> (m, *shape).
    """
    objective: Objective = "loss"
    if renormalize:
        objective = direction(loss)
    parts = []
    for first in range(0, len(test), BLOCK):
        part = slice(first, first + BLOCK)
        block = test.rows(test.x[part], test.y[part])
        parts.append(gradient_vectors(model, block, objective, loss=loss))
    vectors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if renormalize:
        total = lengths(vectors).to(test.dtype)
        for v in vectors.values():
            ones = [1] * (v.dim() - 1)
            v.div_(total.view(-1, *ones))
    return vectors


def lengths(vectors: Vectors) -> Tensor:
    """Returns the norms of m vectors, (m,) float64: the squares of small float32 ones underflow."""
    norms = [
        torch.linalg.vector_norm(v.flatten(1), dim=1, dtype=torch.float64)
        for v in vectors.values()
    ]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return whole


def products(
    model: nn.Module,
    batch: Dataset,
    vectors: Vectors,
    renormalize: bool,
    loss: Loss = CROSS_ENTROPY,
) -> Tensor:
    """Returns <v_j, g_i> for m vectors and b instances, (m, b).

    The g_i are gradients of the loss or, renormalised, of the margin, divided by their norms.
    """
    if not renormalize:
        return project(model, batch, vectors, Form(loss=loss))
    form = Form(direction(loss), loss=loss)
    return project(model, batch, vectors, form) / gradient_norms(model, batch, form)


def adjoint_of(at_the_end: Vectors, recipe: Recipe) -> Adjoint:
    """Returns the adjoint of a run's optimiser; it begins with the gradients at theta_T."""
    if recipe.optimizer == "adamw":
        return AdamWAdjoint(at_the_end, recipe)
    return SGDAdjoint(at_the_end, recipe)


def _passed(
    trace: Trace,
    model: nn.Module,
    batch: Dataset,
    state: State,
    t: int,
) -> Passed:
    """Returns step t of the run, with what its derivative reads."""
    recipe = trace.by_recipe
    gradients: Gradients = {}
    if recipe.optimizer == "adamw":
        gradients = batch_gradients(model, state.theta, batch, recipe.label_smoothing)
    return Passed(state, float(trace.by_step.lr[t]), t, gradients)


def adjoint_scores(
    trajectory: Trajectory,
    test: Dataset,
    renormalize: bool,
) -> Tensor:
    """Returns -d L_j(theta_T) / d w_i, (m, n), with all w_i = 1.

    Step t descends (1/b) sum_{i in B_t} w_i l_i, by SGD with (w/2) |theta|^2 added, l_i the loss of
    the instance as it was presented. Warns when the run amplifies small changes.

    Args:
        trajectory: the run.
        test: m points.
        renormalize: see `HyDRA`.
    """
    trace = trajectory.trace
    model = trace.model()
    own = dict(model.named_parameters())
    at_the_end = directions(model, test, renormalize, trace.loss)
    smoothing = trace.by_recipe.label_smoothing
    adjoint = adjoint_of(at_the_end, trace.by_recipe)
    before = lengths(adjoint.lam)
    scores = test.zeros(len(test), len(trace.train))
    for t, state in trajectory.backwards(model):
        rows = rows_of(trace, t)
        batch = trajectory.batch(t)
        step = _passed(trace, model, batch, state, t)
        sigma = adjoint.by_descent(step)
        for name, value in state.theta.items():
            own[name].detach().copy_(value)
        dots = products(model, batch, sigma, renormalize, trace.loss)
        scores.index_add_(1, rows, dots, alpha=-1.0 / len(rows))
        curved = hvps(model, state.theta, batch, sigma, smoothing)
        adjoint.back(curved)
    _tell_amplified(lengths(adjoint.lam) / before)
    return scores


def _tell_amplified(growth: Tensor) -> None:
    median = float(growth.median())
    if median > AMPLIFIED:
        warnings.warn(
            f"training amplifies a small change of its start {median:.0f}-fold: exact scores are "
            "slopes for tiny changes of weights only; lower lr or momentum",
            stacklevel=3,
        )
