"""K models of one shape as one: parameters stacked along a first dimension, the models kept apart.

Cost: a pass is a batched product a layer, where one model after another pays the overhead of every
small operation K times.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import vmap

from poisonbench.data import Dataset
from poisonbench.functional import call, places, whole_state
from poisonbench.memory import halving
from poisonbench.models import Classifier, predict
from poisonbench.models.head import body_of, head_of
from poisonbench.seeding import exact_arithmetic
from poisonbench.training.recipe import Recipe, starting_model

PREDICTIONS = 1 << 15  # instances x models a pass

States = dict[str, Tensor]  # name in `whole_state` -> (K, *shape)


class Network(Protocol):
    """K models on stacked states, which it reads anew at every call."""

    def prepare(self, x: Tensor) -> Tensor:
        """Returns what all models see of the instances x (m, *shape), computed once."""
        ...

    def logits(self, prepared: Tensor) -> Tensor:
        """Returns the outputs (K, B, C) for prepared instances (K, B, ...), until the next call."""
        ...

    def backward(self, d: Tensor) -> None:
        """Sets the `grad` of the states from the gradients d (K, B, C) at the last outputs.

        That of a parameter that is not used stays None.
        """
        ...


Way = Callable[[nn.Module, Mapping[str, Tensor]], Network]


class Mapped:
    """Any model that is a function of its state and instances, by `torch.func.vmap`."""

    def __init__(self, model: nn.Module, states: Mapping[str, Tensor]) -> None:
        self.model = model
        self.states = dict(states)
        self.where = places(model)

    def prepare(self, x: Tensor) -> Tensor:
        """See `Network`."""
        return x

    def logits(self, prepared: Tensor) -> Tensor:
        """See `Network`."""

        def one(state: States, rows: Tensor) -> Tensor:
            return call(self.model, state, rows, self.where)

        with torch.enable_grad(), _quiet():
            self.last: Tensor = vmap(one)(self.states, prepared)
        return self.last.detach()

    def backward(self, d: Tensor) -> None:
        """See `Network`."""
        for state in self.states.values():
            state.grad = None
        with _quiet():
            torch.autograd.backward(self.last, d)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Passes over PyTorch's remark that an operation is taken one model after another."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def split(
    recipe: Recipe,
    data: Dataset,
    seed: int,
) -> tuple[nn.Module, nn.Module]:
    """Returns the starting model in two: what is frozen, and what is trained.

    The outputs of the frozen part are computed once for all models. Where instances are augmented
    they change from step to step, and nothing is set apart.
    """
    model = starting_model(recipe, data, seed)
    start = recipe.start
    if start is None or start.trained == "all" or recipe.augment != "none":
        return nn.Identity(), model
    alone = Classifier(nn.Identity(), head_of(model))
    return body_of(model), alone.eval()


def outputs_of(frozen: nn.Module, x: Tensor) -> Tensor:
    """Returns what the frozen part gives for the instances x, which where there is none are x."""
    if isinstance(frozen, nn.Identity):
        return x
    return predict(frozen, x)


def stacked(model: Callable[[int], nn.Module], seeds: Sequence[int]) -> States:
    """Returns the states of the models of K seeds; what is trained requires gradients."""
    # states and not models are kept: many modules alive make each garbage collection slow
    states: dict[int, States] = {}
    trained: set[str] = set()
    for seed in dict.fromkeys(seeds):
        made = model(seed)
        states[seed] = {
            name: value.detach() for name, value in whole_state(made).items()
        }
        trained = {name for name, p in made.named_parameters() if p.requires_grad}
    together = joined([states[seed] for seed in seeds], torch.stack)
    for name in trained:
        together[name].requires_grad_()
    return together


def joined(parts: Sequence[States], how: Callable[[list[Tensor]], Tensor]) -> States:
    """Returns states by name: those of all parts, stacked (`torch.stack`) or in a row."""
    together = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        together[name] = how(values)
    return together


def set_state(
    model: nn.Module,
    states: Mapping[str, Tensor],
    row: int,
) -> None:
    """Gives `model` the state of the model in `row`, in place."""
    with torch.no_grad():
        for name, value in whole_state(model).items():
            value.copy_(states[name][row])


def logit_gradients(
    logits: Tensor,
    y: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
) -> Tensor:
    """Returns d / d logits of the sum of weights x cross entropy, (K, B, C).

    Args:
        logits: (K, B, C).
        y: (K, B) labels.
        weights: (K, B).
        smoothing: share of a label's weight that all classes have in equal parts.
    """
    # classes before instances: a softmax over few entries is slow in the last dimension
    gradients = logits.mT.contiguous().softmax(1)
    weights = weights[:, None]
    if smoothing:
        gradients.sub_(smoothing / gradients.shape[1])
    gradients.mul_(weights)
    gradients.scatter_add_(1, y[:, None], -(1 - smoothing) * weights)
    return gradients.mT


def predictions(
    model: nn.Module,
    way: Way | None,
    states: Mapping[str, Tensor],
    x: Tensor,
) -> Tensor:
    """Returns the logits (k, m, C) of k models in evaluation mode.

    Args:
        model: of their kind, on the device of x; its own state is overwritten where `way` is None.
        way: what `choice.way_of` says of it.
        states: name -> (k, *shape), on any device.
        x: (m, *shape) instances.
    """
    k = len(next(iter(states.values())))
    there = {name: value.to(x.device) for name, value in states.items()}
    if way is None:
        alone = []
        for row in range(k):
            set_state(model, there, row)
            alone.append(predict(model, x))
        return torch.stack(alone)
    network = way(model, there)

    def run(size: int) -> Tensor:
        parts = []
        for part in network.prepare(x).split(size):
            logits = network.logits(part.expand(k, *part.shape))
            parts.append(logits.clone())
        return torch.cat(parts, 1)

    with torch.no_grad(), exact_arithmetic():
        return halving(run, max(1, PREDICTIONS // k))
