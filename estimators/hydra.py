"""HyDRA (Chen et al., AAAI 2021, arXiv 2102.02515): influence as a derivative along the training.

It is the derivative of the trained parameters by the weights of the instances.

Cost: fast O(T) steps of one replay and their O(T b m p) products, O(m (n + p)) memory; exact T m
Hessian-vector products of a batch more, O(m n + m p + sqrt(T) p) memory.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from estimators.kit.adjoint import adjoint_scores, directions, products
from estimators.kit.descent.modes import changing_layers
from estimators.kit.trajectory import record
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.memory import batches, halving, room
from poisonbench.training import Recipe, replay
from poisonbench.training.trace import Trace, check_points, check_trace

SELF = 16  # instances a product of self-influence, of which only the diagonal is kept

# copies of the gradients of a test point that are held at once
COPIES_FAST = 2
COPIES_EXACT = 5
COPIES_ADAMW = 8


@dataclass(frozen=True)
class HyDRA:
    """Scores -<g_test(theta_T), d theta_T / d w_i>, w_i = 1 the weight of i in every batch's mean.

    That is, to first order, L(without i) - L(with i), had the run gone through the same batches
    with the term of i deleted and every divisor b kept. (In the paper's terms, where the mean loss
    over n instances gains eps_i l_i, h_i = d theta_T / d eps_i is n times that derivative, and the
    score is -(1/n) <g_test, h_i>.)

    Attributes:
        hessian: False drops the Hessian from the propagation, the paper's fast form: with the test
            gradients fixed at theta_T a step's weight is one number, made of learning rates,
            momentum and decay. True: exact, by the adjoint run backwards. The two can differ much.
            Where training amplifies small changes (high learning rate and momentum on a deep net)
            the exact slope says little about deleting a whole instance, and can be uncorrelated
            with the fast form: it warns.
            It follows SGD and AdamW, and takes the instances as they were presented, augmented or
            not. The fast form follows SGD alone, and takes gradients of the rows as they are.
        renormalize: the test gradient, and the gradient of i in every step that it takes part in,
            are divided by their norms; what propagates between the steps stays as it was. Computed
            on margin gradients, as for GAS.
    """

    needs: ClassVar[tuple[str, ...]] = ("steps",)

    hessian: bool = False
    renormalize: bool = False

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n).

        The exact form trains once more to keep states; the fast one pays nothing here.

        Raises:
            TypeError: `trace` is no Trace.
            ConfigError: exact, and the model has layers that train otherwise than they are
                evaluated, such as dropout or BatchNorm: there is no gradient of a single instance.
                The fast form warns and takes those of evaluation mode. Fast, and the run was
                trained by AdamW; exact, and it was trained in mixed precision.
            ReplayError: the run, repeated, does not end where it did.
        """
        check_trace(trace, self)
        self._check_recipe(trace.by_recipe)
        moody = changing_layers(trace)
        if moody:
            self._tell_moody(", ".join(moody))
        if not self.hessian:
            return self._fast(trace)
        return self._exact(trace)

    def refusal(self, recipe: Recipe) -> str:
        """Returns why this form cannot follow runs of a recipe, "" if it can."""
        if not self.hessian and recipe.optimizer != "sgd":
            return (
                "the fast form has one weight per step, and AdamW one per parameter; "
                "hessian=True follows it"
            )
        if self.hessian and recipe.mixed_precision:
            return (
                "the exact form repeats a run in one precision, and mixed_precision mixes two; "
                "hessian=False scores it"
            )
        return ""

    def _check_recipe(self, recipe: Recipe) -> None:
        why = self.refusal(recipe)
        if why:
            raise ConfigError([f"hydra: {why}"])

    def _tell_moody(self, names: str) -> None:
        found = f"the model trains otherwise than it is evaluated: {names}"
        if self.hessian:
            hint = "a single instance has no gradient there; use GroupNorm, or hessian=False"
            raise ConfigError([found], hint)
        warnings.warn(f"{found}; gradients are those of evaluation mode", stacklevel=3)

    def _fast(self, trace: Trace) -> Scorer:
        def score(part: Dataset) -> Tensor:
            return fast_scores(trace, part, self.renormalize)

        return lambda test: _in_blocks(trace, test, COPIES_FAST, score)

    def _exact(self, trace: Trace) -> Scorer:
        trajectory = record(trace)

        def score(part: Dataset) -> Tensor:
            return adjoint_scores(trajectory, part, self.renormalize)

        copies = COPIES_EXACT
        if trace.by_recipe.optimizer == "adamw":
            copies = COPIES_ADAMW
        return lambda test: _in_blocks(trace, test, copies, score)

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,), by one replay.

        Raises:
            TypeError: `trace` is no Trace.
            ValueError: exact; its adjoint would have to be run for every training instance.
            ConfigError: the run was trained by AdamW.
        """
        check_trace(trace, self)
        if self.hessian:
            raise ValueError(
                "self-influence needs hessian=False: the exact form runs an adjoint for every "
                "training instance"
            )
        self._check_recipe(trace.by_recipe)
        final = trace.model()
        scores = trace.train.zeros(len(trace.train))
        for step, weight in zip(replay(trace), step_weights(trace), strict=True):
            for rows in step.rows.split(SELF):
                part = trace.train.take(rows)
                vectors = directions(final, part, self.renormalize, trace.loss)
                dots = products(step.model, part, vectors, self.renormalize, trace.loss)
                scores[rows] += weight / len(step.rows) * dots.diag()
        return scores


def step_weights(trace: Trace) -> list[float]:
    """Returns s_t, T numbers: what a unit of gradient in step t takes from theta_T without Hessian.

    The adjoint of the run with H = 0, on scalars: without momentum and decay s_t is eta_t.
    """
    recipe = trace.by_recipe
    share = 1.0
    if recipe.nesterov:
        share = recipe.momentum
    weights = []
    lam = 1.0
    nu = 0.0
    for rate in reversed(trace.by_step.lr.tolist()):
        nu -= rate * lam * share
        sigma = nu
        if recipe.nesterov:
            sigma = nu - rate * lam
        weights.append(-sigma)
        lam += recipe.weight_decay * sigma
        nu *= recipe.momentum
    return weights[::-1]


def fast_scores(trace: Trace, test: Dataset, renormalize: bool) -> Tensor:
    """Returns the fast scores, (m, n), by one replay.

    They are the sum over the steps with i in B_t of (s_t / b) <g_i(theta_t), g_test(theta_T)>.
    """
    vectors = directions(trace.model(), test, renormalize, trace.loss)
    scores = test.zeros(len(test), len(trace.train))
    for step, weight in zip(replay(trace), step_weights(trace), strict=True):
        part = trace.train.take(step.rows)
        dots = products(step.model, part, vectors, renormalize, trace.loss)
        scores.index_add_(1, step.rows, dots, alpha=weight / len(step.rows))
    return scores


def _in_blocks(
    trace: Trace,
    test: Dataset,
    copies: int,
    score: Callable[[Dataset], Tensor],
) -> Tensor:
    """Scores as many test points together as `copies` of their gradients fit into the memory.

    Each block replays the run.
    """
    check_points(trace, test)
    if not len(test):
        return test.zeros(0, len(trace.train))
    trained = [p for p in trace.initial().parameters() if p.requires_grad]
    size = sum(p.numel() for p in trained)
    fit, _ = room(test, copies * size)

    def run(block: int) -> Tensor:
        return torch.cat([score(part) for part in batches(test, block)])

    return halving(run, min(fit, len(test)))
