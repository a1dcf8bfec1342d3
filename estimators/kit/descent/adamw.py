"""AdamW (Loshchilov & Hutter, ICLR 2019, arXiv 1711.05101), step t counted from 0.

m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, theta' = (1 - eta w) theta - eta a / (r + eps)
with a = m' / (1 - b1^(t+1)) and r = sqrt(v' / (1 - b2^(t+1))).
"""

import torch
from torch import Tensor

from estimators.kit.descent.state import Gradients, Passed, State, Vectors
from poisonbench.training import Recipe
from poisonbench.training.optimizer import optimizer_of


def adamw_step(
    state: State,
    gradients: Gradients,
    recipe: Recipe,
    rate: float,
    t: int,
) -> State:
    """Takes step t by torch.optim.AdamW itself."""
    leaves = {name: value.detach().clone() for name, value in state.theta.items()}
    means = {name: value.clone() for name, value in state.buffer.items()}
    seconds = {name: value.clone() for name, value in state.second.items()}
    optimizer = optimizer_of(leaves.values(), recipe)
    for name, gradient in gradients.items():
        leaf = leaves[name]
        leaf.grad = gradient
        optimizer.state[leaf] = {
            "step": torch.tensor(float(t), device=leaf.device),
            "exp_avg": means[name],
            "exp_avg_sq": seconds[name],
        }
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()
    after = {name: leaf.detach() for name, leaf in leaves.items()}
    return State(after, means, seconds)


class AdamWAdjoint:
    """See `Adjoint`.

    Attributes:
        lam: dL / d theta', parameter name -> (m, *shape).
        nu: dL / d m'.
        kappa: dL / d v'.
    """

    def __init__(self, at_the_end: Vectors, recipe: Recipe) -> None:
        self.recipe = recipe
        self.lam = at_the_end
        self.nu = {name: torch.zeros_like(v) for name, v in at_the_end.items()}
        self.kappa = {name: torch.zeros_like(v) for name, v in at_the_end.items()}

    def by_descent(self, step: Passed) -> Vectors:
        """Returns sigma = dL / d g of a step; moves nu and kappa to it."""
        first, second = self.recipe.betas
        state = step.state
        sigma = {}
        for name, lam in self.lam.items():
            g = step.gradients.get(name, torch.zeros_like(state.theta[name]))
            mean = first * state.buffer[name] + (1 - first) * g
            square = second * state.second[name] + (1 - second) * g**2
            by_mean, by_square = self._slopes(mean, square, step.index)
            self.nu[name].sub_(step.rate * by_mean * lam)
            self.kappa[name].sub_(step.rate * by_square * lam)
            along_mean = (1 - first) * self.nu[name]
            sigma[name] = along_mean + 2 * (1 - second) * g * self.kappa[name]
            lam.mul_(1 - step.rate * self.recipe.weight_decay)
        return sigma

    def _slopes(
        self,
        mean: Tensor,
        square: Tensor,
        t: int,
    ) -> tuple[Tensor, Tensor]:
        """Returns the derivatives of a / (r + eps) by m' and by v', the latter 0 where v' is."""
        first, second = self.recipe.betas
        part = 1 - first ** (t + 1)
        share = 1 - second ** (t + 1)
        root = (square / share).sqrt()
        below = root + self.recipe.eps
        slope = -(mean / part) / (2 * share * root * below**2)
        return 1 / (part * below), torch.where(square > 0, slope, 0.0)

    def back(self, curved: Vectors) -> None:
        """See `Adjoint`."""
        first, second = self.recipe.betas
        for name, lam in self.lam.items():
            lam.add_(curved[name])
            self.nu[name].mul_(first)
            self.kappa[name].mul_(second)
