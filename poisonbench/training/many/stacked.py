"""K models of one shape as one: parameters stacked along a first dimension, and a forward pass that keeps the models apart.

Cost: a pass is a batched product a layer, where one model after another pays the overhead of every small operation K times.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from poisonbench.data import Dataset
from poisonbench.memory import halving
from poisonbench.models import Classifier, predict
from poisonbench.seeding import exact_arithmetic
from poisonbench.training.many.chain import Chain, is_chain, patch_entries
from poisonbench.training.recipe import Recipe, starting_model

PATCHES = (
    1 << 20
)  # bytes of patches of a model's batch up to which products with them are faster than convolutions (measured)
PREDICTIONS = 1 << 15  # instances x models a pass


class Network(Protocol):
    """K models on stacked states, which it reads anew at every call."""

    def prepare(self, x: Tensor) -> Tensor:
        """Returns what all models see of the instances x (m, *shape), so that it is computed once."""
        ...

    def logits(self, prepared: Tensor) -> Tensor:
        """Returns the outputs (K, B, C) for prepared instances (K, B, ...), valid until the next call."""
        ...

    def backward(self, d: Tensor) -> None:
        """Sets the `grad` of the states from the gradients d (K, B, C) at the last outputs."""
        ...


class Mapped:
    """Any model that is a function of its state and instances, by `torch.func.vmap` and autograd."""

    def __init__(self, model: nn.Module, states: Mapping[str, Tensor]) -> None:
        self.model, self.states = model, dict(states)

    def prepare(self, x: Tensor) -> Tensor:
        """See `Network`."""
        return x

    def logits(self, prepared: Tensor) -> Tensor:
        """See `Network`."""
        with torch.enable_grad():
            logits: Tensor = vmap(lambda state, rows: functional_call(self.model, state, (rows,)))(
                self.states, prepared
            )
        self.last = logits
        return logits.detach()

    def backward(self, d: Tensor) -> None:
        """See `Network`."""
        for state in self.states.values():
            state.grad = None
        torch.autograd.backward(self.last, d)


def _survives_vmap(model: nn.Module, x: Tensor) -> bool:
    """Whether the model is a function of state and instances alone: no dropout, no statistics of the batch.

    Tried in training mode on two models, since no list of layers tells of what a foreign model does in its `forward`.
    """
    twice = x.expand(2, *x.shape).clone()
    states = {name: p.expand(2, *p.shape).clone() for name, p in model.state_dict().items()}
    try:
        moody = Mapped(model.train(), states).logits(twice)
        calm = Mapped(model.eval(), states).logits(twice)
        alone = torch.stack([model(row[None])[0] for row in x])
    except (
        RuntimeError,
        NotImplementedError,
        ValueError,
    ):  # randomness, changed buffers, control flow by value
        return False
    finally:
        model.eval()
    return torch.allclose(moody, calm, equal_nan=True) and torch.allclose(
        calm[0], alone, rtol=1e-3, atol=1e-4, equal_nan=True
    )


def way_of(
    model: nn.Module, x: Tensor, batch: int
) -> Callable[[nn.Module, Mapping[str, Tensor]], Network] | None:
    """Returns the fastest exact way through K models of this kind at once, or None where one after another is best.

    The one place of this choice, measured on a CPU: `Chain` for linear layers, rectifiers, pooling and convolutions of small
    images in a row; `vmap` for other models; on a CPU one by one for others with convolutions, which `vmap` turns into grouped
    ones, slow there; and for those with dropout or statistics of the batch, which are no function of state and instances.

    Args:
        model: in evaluation mode, on its device.
        x: (m, *shape) some instances, to try the model on.
        batch: instances a pass.
    """
    if is_chain(model) and batch * patch_entries(model, x) * x.element_size() <= PATCHES:
        return Chain
    if not x.is_cuda and any(
        isinstance(module, nn.modules.conv._ConvNd) for module in model.modules()
    ):
        return None
    with torch.no_grad():
        return Mapped if _survives_vmap(model, x[:2]) else None


def split(recipe: Recipe, data: Dataset, seed: int) -> tuple[nn.Module, nn.Module]:
    """Returns the starting model in two: what is frozen, whose outputs are computed once for all models, and what is trained."""
    model = starting_model(recipe, data, seed)
    if recipe.start is None or recipe.start.trained == "all":
        return nn.Identity(), model
    head = model.get_submodule("head")
    return model.get_submodule("features"), Classifier(nn.Identity(), cast(nn.Linear, head)).eval()


def stacked(model: Callable[[int], nn.Module], seeds: Sequence[int]) -> dict[str, Tensor]:
    """Returns the states of the models of K seeds as (K, *shape); what is trained requires gradients."""
    # states and not models are kept: many modules alive make each garbage collection slow
    states = {
        seed: {name: value.detach() for name, value in model(seed).state_dict().items()}
        for seed in dict.fromkeys(seeds)
    }
    trained = {name for name, p in model(seeds[0]).named_parameters() if p.requires_grad}
    rows = [states[seed] for seed in seeds]
    return {
        name: torch.stack([row[name] for row in rows]).requires_grad_(name in trained)
        for name in rows[0]
    }


def logit_gradients(logits: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Returns d / d logits of the sum of weights x cross entropy, (K, B, C) for logits (K, B, C), y and weights (K, B)."""
    p = logits.mT.contiguous().softmax(
        1
    )  # classes before instances: a softmax over few entries is slow in the last dimension
    weights = weights[:, None]
    return p.mul_(weights).scatter_add_(1, y[:, None], -weights).mT


def predictions(model: nn.Module, states: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Returns the logits (k, m, C) of k models in evaluation mode.

    Args:
        model: of their kind, on the device of x; its own parameters are overwritten where there is no faster way.
        states: state name -> (k, *shape), on any device.
        x: (m, *shape) instances.
    """
    k = len(next(iter(states.values())))
    there = {name: value.to(x.device) for name, value in states.items()}
    way = way_of(model, x, len(x)) if len(x) else None
    if way is None:
        return torch.stack([predict(_with_state(model, there, row), x) for row in range(k)])

    network = way(model, there)

    def run(size: int) -> Tensor:
        parts = [
            network.logits(part.expand(k, *part.shape)).clone()
            for part in network.prepare(x).split(size)
        ]
        return torch.cat(parts, 1)

    with torch.no_grad(), exact_arithmetic():
        return halving(run, max(1, PREDICTIONS // k))


def _with_state(model: nn.Module, states: Mapping[str, Tensor], row: int) -> nn.Module:
    model.load_state_dict({name: value[row] for name, value in states.items()})
    return model
