"""SGD with momentum: m' = mu m + d with d = gradient + w theta, theta' = theta - eta m'.

With Nesterov theta' = theta - eta (d + mu m').
"""

import torch

from estimators.kit.descent.state import Gradients, Passed, State, Vectors
from poisonbench.training import Recipe


def sgd_step(
    state: State,
    gradients: Gradients,
    recipe: Recipe,
    rate: float,
) -> State:
    """Takes a step by the operations of torch.optim.SGD in their order, bit for bit."""
    after = dict(state.theta)  # what is not used is not even decayed
    buffers = dict(state.buffer)
    for name, gradient in gradients.items():
        value = state.theta[name]
        d = gradient
        if recipe.weight_decay:
            d = gradient.add(value, alpha=recipe.weight_decay)
        buffer = state.buffer[name] * recipe.momentum + d
        move = buffer
        if recipe.nesterov:
            move = d.add(buffer, alpha=recipe.momentum)
        after[name] = value.detach().add(move, alpha=-rate)
        buffers[name] = buffer
    return State(after, buffers)


class SGDAdjoint:
    """See `Adjoint`.

    Attributes:
        lam: dL / d theta', parameter name -> (m, *shape).
        nu: dL / d m'.
    """

    def __init__(self, at_the_end: Vectors, recipe: Recipe) -> None:
        self.recipe = recipe
        self.lam = at_the_end
        self.nu = {name: torch.zeros_like(v) for name, v in at_the_end.items()}

    def by_descent(self, step: Passed) -> Vectors:
        """Returns sigma = dL / d d of a step; moves nu to it."""
        rate = step.rate
        share = 1.0
        if self.recipe.nesterov:
            share = self.recipe.momentum
        sigma = {}
        for name, v in self.nu.items():
            v.add_(self.lam[name], alpha=-rate * share)
            sigma[name] = v
            if self.recipe.nesterov:
                sigma[name] = v.sub(self.lam[name], alpha=rate)
        self.sigma = sigma
        return sigma

    def back(self, curved: Vectors) -> None:
        """See `Adjoint`."""
        for name, v in self.lam.items():
            v.add_(curved[name])
            v.add_(self.sigma[name], alpha=self.recipe.weight_decay)
            self.nu[name].mul_(self.recipe.momentum)
