"""Descent on poison pixels within their bounds."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR
from tqdm import trange

from poisonbench.errors import ConfigError
from poisonbench.notes import attach
from poisonbench.seeding import derive, exact_arithmetic, generator

Objective = Callable[[Tensor, int], Tensor]  # poison (k, *shape), step -> scalar
# restart -> poison, objective before every step
Run = Callable[[int], tuple[Tensor, Tensor]]
BLOCK = 256  # rows crafted at a time, where each row is crafted by itself


def steps_of(count: int, what: str) -> Iterator[int]:
    """Counts steps of a long optimisation, with a bar on a terminal."""
    yield from trange(count, desc=what, unit="step", leave=False, disable=None)


def project(x: Tensor, clean: Tensor, eps: float) -> Tensor:
    """Returns the point nearest to x within eps of `clean`, in the max norm, and in [0, 1]."""
    raised = torch.maximum(x, clean - eps)
    return torch.minimum(raised, clean + eps).clamp(0, 1)


def adam_descent(
    objective: Objective,
    clean: Tensor,
    *,
    eps: float,
    steps: int,
    lr: float,
    signed: bool = False,
    start: Tensor | None = None,
    what: str = "crafting",
) -> tuple[Tensor, Tensor]:
    """Projected descent with Adam inside the max-norm ball around the clean rows and [0, 1].

    Args:
        objective: of the poison (k, *shape) and the step, to be made small; a scalar.
        clean: (k, *shape), the centres of the balls.
        eps: radius in the max norm.
        steps: number of steps.
        lr: learning rate, about the length of a step in pixel values; if `signed`, a tenth after
            3/8, 5/8 and 7/8 of the steps each.
        signed: Adam sees the signs of the gradient alone (signed Adam, Geiping et al. 2021).
        start: (k, *shape) where to begin; None for `clean`.
        what: the bar's title.

    Returns:
        The poison, and the objective before every step, (steps,).

    Raises:
        ConfigError: a gradient of the objective is not finite.
    """
    x = _begin(start, clean, eps).requires_grad_()
    adam = Adam([x], lr=lr)
    milestones = [steps * k // 8 for k in (3, 5, 7)] if signed else []
    decay = MultiStepLR(adam, milestones, gamma=0.1)
    curve = clean.new_zeros(steps)
    finite = nothing_seen(clean)
    with exact_arithmetic():
        for t in steps_of(steps, what):
            with torch.enable_grad():
                value = objective(x, t)
                (x.grad,) = torch.autograd.grad(value, x)
            curve[t] = value.detach()
            finite = finite & x.grad.isfinite().all()
            if signed:
                x.grad.sign_()
            adam.step()
            decay.step()
            with torch.no_grad():
                x.copy_(project(x, clean, eps))
    check_finite(finite)
    return x.detach(), curve


def signed_descent(
    objective: Callable[[Tensor], Tensor],
    clean: Tensor,
    *,
    eps: float,
    steps: int,
    step: float | None = None,
    decay: bool = False,
    start: Tensor | None = None,
) -> Tensor:
    """Projected gradient descent with signed steps (Madry et al., ICLR 2018, arXiv 1706.06083).

    Args:
        objective: (k, *shape) -> (k,) or a scalar, to be made small.
        clean: (k, *shape), the centres of the balls.
        eps: radius in the max norm.
        steps: number of steps.
        step: length of one; None means 2.5 eps / steps, enough to cross the ball.
        decay: let the length fall linearly to 0, so that the last steps settle.
        start: (k, *shape) where to begin; None for `clean`.

    Returns:
        (k, *shape) within the ball and in [0, 1].

    Raises:
        ConfigError: a gradient of the objective is not finite.
    """
    if step is None:
        step = 2.5 * eps / steps
    x = _begin(start, clean, eps)
    finite = nothing_seen(clean)
    with exact_arithmetic():
        for t in range(steps):
            with torch.enable_grad():
                x.requires_grad_()
                total = objective(x).sum()
                (gradient,) = torch.autograd.grad(total, x)
            finite = finite & gradient.isfinite().all()
            length = step * (1 - t / steps) if decay else step
            moved = x.detach() - length * gradient.sign()
            x = project(moved, clean, eps)
    check_finite(finite)
    return x


def nothing_seen(clean: Tensor) -> Tensor:
    """Returns that all gradients so far were finite, (), where the rows lie: it is read once."""
    return clean.new_ones((), dtype=torch.bool)


def check_finite(finite: Tensor) -> None:
    """Refuses a descent with a gradient that was not finite: the sign of nan is 0, no step."""
    if not bool(finite):
        what = "the gradient of the objective is not finite: the attacker's model diverged, or"
        way = "lower the learning rate of its recipe, or choose another `surrogate`"
        raise ConfigError([f"{what} has no slope at a row"], way)


def _begin(start: Tensor | None, clean: Tensor, eps: float) -> Tensor:
    """Returns where a descent begins: `start`, or the clean rows, within the bounds."""
    first = clean if start is None else start
    return project(first, clean, eps).detach()


def restarted(run: Run, restarts: int) -> Tensor:
    """Returns the poison of the best of several runs; all curves are logged.

    The best is the one whose objective has the least mean over its last tenth.
    """
    found = [run(k) for k in range(restarts)]
    curves = torch.stack([curve for _, curve in found])
    attach("objective", curves)
    last = max(1, curves.shape[1] // 10)
    ends = curves[:, -last:].mean(1)
    best, _ = found[int(ends.argmin())]
    return best


def noise_in_ball(
    clean: Tensor,
    eps: float,
    seed: int,
    restart: int,
) -> Tensor:
    """Returns points drawn uniformly from the balls around `clean`, (k, *shape), in [0, 1]."""
    g = generator(derive(seed, "restart", restart), "noise")
    noise = torch.rand(clean.shape, generator=g, dtype=torch.float32)
    away = 2 * noise.to(clean) - 1
    return project(clean + eps * away, clean, eps)
