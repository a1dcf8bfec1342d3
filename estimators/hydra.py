"""HyDRA (Chen et al., AAAI 2021, arXiv 2102.02515): influence as the derivative of the trained parameters by instance weights.

Needs: every step (by replay).

Cost: fast O(T) steps of one replay and their O(T b m p) products, O(m (n + p)) memory; exact T m Hessian-vector products of a
batch more, O(m n + m p + sqrt(T) p) memory.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from estimators.kit.adjoint import adjoint_scores, directions, products, record
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.memory import batches, halving, room
from poisonbench.seeding import exact_arithmetic
from poisonbench.training import replay, training_mode
from poisonbench.training.trace import Trace

SELF = 16  # instances a product of self-influence, of which only the diagonal is kept


@dataclass(frozen=True)
class HyDRA:
    """Scores -<g_test(theta_T), d theta_T / d w_i>, where w_i = 1 weighs the loss of instance i in every batch's mean.

    That is, to first order, L(without i) - L(with i), had the run gone through the same batches with the term of i deleted and
    every divisor b kept. (In the paper's terms, where the mean loss over n instances gains eps_i l_i, h_i = d theta_T / d eps_i
    is n times that derivative, and the score is -(1/n) <g_test, h_i>.)

    Attributes:
        hessian: False drops the Hessian from the propagation, the paper's fast form: with the test gradients fixed at theta_T a
            step's weight is one number, made of learning rates, momentum and decay. True: exact, by the adjoint run backwards.
            The two can differ much. Where training amplifies small changes (high learning rate and momentum on a deep net) the
            exact slope says little about deleting a whole instance, and can be uncorrelated with the fast form: it warns.
        renormalize: the test gradient, and the gradient of i in every step that it takes part in, are divided by their norms;
            what propagates between the steps stays as it was. Computed on margin gradients, as for GAS.
    """

    hessian: bool = False
    renormalize: bool = False

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n). The exact form trains once more to keep states; the fast one pays nothing here.

        Raises:
            ConfigError: exact, and the model has layers that train otherwise than they are evaluated, such as dropout or
                BatchNorm: there is no gradient of a single instance. The fast form warns and takes those of evaluation mode.
        """
        if moody := changing_layers(trace):
            found = f"the model trains otherwise than it is evaluated: {', '.join(moody)}"
            if self.hessian:
                raise ConfigError(
                    [found],
                    "a single instance has no gradient there; use GroupNorm, or hessian=False",
                )
            warnings.warn(f"{found}; gradients are those of evaluation mode", stacklevel=2)
        if self.hessian:
            trajectory = record(trace)
            return lambda test: _in_blocks(
                trace, test, 5, lambda part: adjoint_scores(trajectory, part, self.renormalize)
            )
        return lambda test: _in_blocks(
            trace, test, 2, lambda part: fast_scores(trace, part, self.renormalize)
        )

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,), by one replay, without the scores of the others.

        Raises:
            ValueError: exact; its adjoint would have to be run for every training instance.
        """
        if self.hessian:
            raise ValueError(
                "self-influence needs hessian=False: the exact form runs an adjoint for every training instance"
            )
        final, scores = trace.model(), trace.train.x.new_zeros(len(trace.train))
        for step, weight in zip(replay(trace), step_weights(trace), strict=True):
            for rows in step.rows.split(SELF):
                part = trace.train.take(rows)
                dots = products(
                    step.model, part, directions(final, part, self.renormalize), self.renormalize
                )
                scores[rows] += weight / len(step.rows) * dots.diag()
        return scores


def step_weights(trace: Trace) -> list[float]:
    """Returns s_t, T numbers: what a unit of gradient in step t takes from theta_T when the Hessian is dropped.

    The adjoint of the run with H = 0, on scalars: without momentum and decay s_t is eta_t.
    """
    recipe, weights = trace.recipe, []
    lam, nu = 1.0, 0.0
    for rate in reversed(trace.lr.tolist()):
        nu -= rate * lam * (recipe.momentum if recipe.nesterov else 1.0)
        sigma = nu - rate * lam if recipe.nesterov else nu
        weights.append(-sigma)
        lam += recipe.weight_decay * sigma
        nu *= recipe.momentum
    return weights[::-1]


def fast_scores(trace: Trace, test: Dataset, renormalize: bool) -> Tensor:
    """Returns sum over the steps with i in B_t of (s_t / b) <g_i(theta_t), g_test(theta_T)>, (m, n), by one replay."""
    vectors = directions(trace.model(), test, renormalize)
    scores = test.x.new_zeros(len(test), len(trace.train))
    for step, weight in zip(replay(trace), step_weights(trace), strict=True):
        dots = products(step.model, trace.train.take(step.rows), vectors, renormalize)
        scores.index_add_(1, step.rows, dots, alpha=weight / len(step.rows))
    return scores


def _in_blocks(
    trace: Trace, test: Dataset, copies: int, score: Callable[[Dataset], Tensor]
) -> Tensor:
    """Scores as many test points together as `copies` of their gradients fit into the memory; each block replays the run."""
    if not len(test):
        return test.x.new_zeros(0, len(trace.train))
    size = sum(p.numel() for p in trace.initial().parameters() if p.requires_grad)
    fit, _ = room(test, copies * size)
    return halving(
        lambda block: torch.cat([score(part) for part in batches(test, block)]), min(fit, len(test))
    )


def changing_layers(trace: Trace, probes: int = 64) -> list[str]:
    """Names the layers of the final model that give other outputs in training mode, by trying each on `probes` rows."""
    model, x = trace.model(), trace.train.x[:probes]

    def moved(modules: list[nn.Module]) -> bool:
        calm = model(x)  # anew each time: training mode may move running statistics
        for module in modules:
            module.training = True
        got = model(x)
        for module in modules:
            module.training = False
        return not torch.allclose(got, calm, equal_nan=True)

    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices=devices), exact_arithmetic(), torch.no_grad():
        torch.manual_seed(0)
        training_mode(model, trace.recipe)
        live = {name: module for name, module in model.named_modules() if module.training}
        model.eval()
        if not moved(list(live.values())):
            return []
        names = [
            f"{name} ({type(module).__name__})" for name, module in live.items() if moved([module])
        ]
    return names or [type(model).__name__]
