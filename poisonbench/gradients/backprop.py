"""Per-example gradients of a batch, layer by layer, and their products with given vectors."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.gradients.calls import undisturbed
from poisonbench.gradients.forms import Dense, Scaled, scaled, wide
from poisonbench.gradients.layers import (
    ghost_is_cheaper,
    layer_grad,
    layer_vectors,
    places,
)
from poisonbench.gradients.passes import (
    Layers,
    Plan,
    Vectors,
    capture,
    constants_of,
    flat_rows,
)
from poisonbench.gradients.planning.names import by_owner, member
from poisonbench.gradients.planning.plan import plan
from poisonbench.gradients.row_by_row import by_vmap, one_by_one
from poisonbench.losses import CROSS_ENTROPY, Loss, Seeds, seeds_of
from poisonbench.objectives import Objective

# is shown the inputs of layers by name, each (B, ...)
Seen = Callable[[Mapping[str, Tensor]], None]


def rest_of(
    model: nn.Module,
    how: Plan,
    constants: Vectors,
    x: Tensor,
    seed: Tensor,
) -> Vectors:
    """Returns the gradients of the parameters without a rule, name -> (B, *shape)."""
    if not how.rest:
        return {}
    if how.vectorised:
        return by_vmap(model, how.rest, constants, x, seed)
    _, gradients = one_by_one(model, how.rest, constants, x, seed)
    return gradients


@dataclass(frozen=True, eq=False)
class _Passed:
    """A batch after its forward and backward pass.

    Attributes:
        layers: layer -> (input, output gradient), each (B, ...); a consumer may drop them.
        rest: the gradients of the remaining parameters, name -> (B, *shape).
    """

    layers: dict[str, tuple[Tensor, Tensor]]
    rest: Vectors


def _pass(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    seeds: Seeds,
) -> _Passed:
    constants = constants_of(model)
    x = how.inputs(data.x)
    taken = capture(model, how, constants, x)
    logits = taken.logits.detach()
    seed = seeds(wide(logits), data.y).to(logits.dtype)
    rest = rest_of(model, how, constants, x, seed)
    layers = {}
    for name, d in taken.output_gradients(seed).items():
        if d is None:
            d = torch.zeros_like(taken.outputs[name])
        layers[name] = (taken.inputs[name], d)
    return _Passed(layers, rest)


def per_example(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    seeds: Seeds,
    against: int | None,
    rescale: bool,
    seen: Seen | None = None,
) -> Iterator[Scaled]:
    """Yields the per-example gradients, a layer at a time: a consumer may drop each when done.

    Args:
        model: in evaluation mode.
        how: from `plan`.
        data: B instances, one batch.
        seeds: give what is passed back from the outputs, such as `losses.seeds_of`.
        against: number of test gradients that they will be multiplied with, which decides the
            form of every layer; None: `Dense`.
        rescale: divide each example's layer gradient by a factor that keeps its norm far from
            under- and overflow. The layers without a rule then come one by one too, else all
            their parameters at once, in the plan's order.
        seen: is shown what each layer with a rule was given; it may not change it.

    Yields:
        The layer's gradients, and the factors (B,) in float64 by which they were divided (None
        without `rescale`).
    """
    passed = _pass(model, how, data, seeds)
    if seen is not None:
        seen({name: a for name, (a, _) in passed.layers.items()})
    for name, module in how.hooked.items():
        a, d = passed.layers.pop(name)
        ghost = ghost_is_cheaper(module, places(module, d), against)
        yield layer_grad(module, a, d, ghost, rescale, how.pixelwise)
    for names in _parts(how.rest, rescale):
        yield scaled(flat_rows(passed.rest, names), rescale)


def _parts(
    rest: tuple[str, ...],
    layerwise: bool,
) -> list[tuple[str, ...]]:
    """Returns the names of the remaining parameters, those of a layer together or all at once."""
    if layerwise:
        return by_owner(rest)
    return [rest] if rest else []


def projections(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    vectors: Vectors,
    seeds: Seeds,
) -> Tensor:
    """Returns <g_i, v> for the B instances of one batch and m vectors in parameter space, (B, m).

    Args:
        model: in evaluation mode.
        how: from `plan`.
        data: B instances.
        vectors: parameter name -> (m, *shape), for all parameters of the plan.
        seeds: give what is passed back from the outputs.
    """
    passed = _pass(model, how, data, seeds)
    parts = []
    for name, module in how.hooked.items():
        a, d = passed.layers.pop(name)
        gradient, _ = layer_grad(module, a, d, False, False, how.pixelwise)
        own = {
            key: vectors[member(name, key)]
            for key, _ in module.named_parameters(recurse=False)
        }
        parts.append(gradient.dot(layer_vectors(module, own, how.pixelwise)))
    if how.rest:
        gradients = Dense(flat_rows(passed.rest, how.rest))
        parts.append(gradients.dot(Dense(flat_rows(vectors, how.rest))))
    return torch.stack(parts).sum(0)


def gradient_vectors(
    model: nn.Module,
    data: Dataset,
    objective: Objective,
    layers: Layers = "all",
    loss: Loss = CROSS_ENTROPY,
) -> Vectors:
    """Returns whole gradients, parameter name -> (m, *shape).

    For the few test points, never for training sets.

    Args:
        model: in evaluation mode.
        data: m points.
        objective: what is differentiated.
        layers: "all" parameters, or "last" for the head's.
        loss: of the objective "loss".

    Raises:
        ConfigError: the margin, of a loss other than cross entropy.
    """
    seeds = seeds_of(objective, loss)
    how = plan(model, layers, data.x, rules=False)
    constants = constants_of(model)
    with torch.no_grad(), undisturbed(model):
        seed = seeds(model(data.x), data.y)
    return rest_of(model, how, constants, data.x, seed)
