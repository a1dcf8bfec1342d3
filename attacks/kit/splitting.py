"""Forward-backward splitting, row by row, by which feature collision moves its poison."""

from collections.abc import Callable

import torch
from torch import Tensor

from attacks.kit.descent import check_finite, nothing_seen, steps_of
from poisonbench.notes import attach
from poisonbench.seeding import exact_arithmetic


class Splitting:
    """Forward-backward splitting (algorithm 1) of |f(x) - f(t)|^2 + beta |x - b|^2, row by row.

    A row's step is halved wherever its objective would rise, and grows by a fifth where it fell.

    Args:
        distance: the first term, (k, *shape) -> (k,).
        bounded: keeps rows within their bounds.
        base: b, (k, *shape).
        beta: weight of the second term.
        lr: the largest step.
    """

    def __init__(
        self,
        distance: Callable[[Tensor], Tensor],
        bounded: Callable[[Tensor], Tensor],
        base: Tensor,
        *,
        beta: float,
        lr: float,
    ) -> None:
        self.distance = distance
        self.bounded = bounded
        self.base = base
        self.beta = beta
        self.lr = lr

    def descend(self, steps: int) -> Tensor:
        """Returns the rows after so many steps from the base, and logs the mean objective.

        Raises:
            ConfigError: a step leads to no finite objective: its slope is none.
        """
        x = self.base.clone()
        rate = self.base.new_full((len(x),), self.lr)
        curve = []
        with exact_arithmetic(), torch.no_grad():
            now = self._objective(x)
            finite = nothing_seen(x)
            for _ in steps_of(steps, "feature collision"):
                curve.append(now.mean())
                moved = self._step(x, rate)
                then = self._objective(moved)
                finite = finite & then.isfinite().all()
                better = then <= now
                x = torch.where(_per_row(better, x), moved, x)
                now = torch.where(better, then, now)
                longer = (1.2 * rate).clamp(max=self.lr)
                rate = torch.where(better, longer, rate / 2)
            curve.append(now.mean())
        check_finite(finite)
        attach("objective", torch.stack(curve)[None])
        return x

    def _objective(self, x: Tensor) -> Tensor:
        """Returns equation (1), (k,)."""
        away = (x - self.base).square().flatten(1).sum(1)
        return self.distance(x) + self.beta * away

    def _step(self, x: Tensor, rate: Tensor) -> Tensor:
        """Returns the rows after one step of length `rate`, (k,), within their bounds."""
        with torch.enable_grad():
            free = x.detach().requires_grad_()
            total = self.distance(free).sum()
            (slope,) = torch.autograd.grad(total, free)
        length = _per_row(rate, x)
        forward = x - length * slope
        weight = 2 * self.beta * length
        return self.bounded(backward_step(forward, self.base, weight))


def _per_row(values: Tensor, x: Tensor) -> Tensor:
    """Returns (k,) values in the shape (k, 1, ..., 1), to meet rows x, (k, *shape)."""
    ones = [1] * (x.dim() - 1)
    return values.view(-1, *ones)


def backward_step(x: Tensor, base: Tensor, weight: Tensor) -> Tensor:
    """Returns (x + weight base) / (1 + weight), which minimises |z - x|^2 + weight |z - base|^2.

    With weight = 2 beta rate that is the proximal step of equation (1); algorithm 1 leaves out the
    2.
    """
    return (x + weight * base) / (1 + weight)
