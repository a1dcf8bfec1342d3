"""The gradients of a batch at each term of the curvature at its outputs.

All terms share a forward pass, and what it made of the layers' inputs. Cost: a forward pass, and a
backward pass a term.
"""

from collections.abc import Iterator

import torch
from torch import nn

from poisonbench.data import Dataset
from poisonbench.gradients.backprop import rest_of
from poisonbench.gradients.curvature.outputs import Term, curvature_terms
from poisonbench.gradients.forms import Dense, Ghost, Grad
from poisonbench.gradients.layers import (
    at_places,
    ghost_is_cheaper,
    layer_grad,
    places,
)
from poisonbench.gradients.passes import Plan, capture, constants_of, flat_rows
from poisonbench.losses import Loss


def term_gradients(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    loss: Loss,
    against: int,
) -> Iterator[tuple[Term, list[Grad]]]:
    """Yields the terms, each with the per-example gradients of every layer at its seeds.

    Args:
        model: in evaluation mode.
        how: from `plan`.
        data: B instances, one batch.
        loss: whose second derivative is the sum of the terms.
        against: number of vectors, which decides the form of every layer.
    """
    constants = constants_of(model)
    taken = capture(model, how, constants, data.x)
    outputs = taken.logits.detach()
    terms = curvature_terms(loss, outputs, data.y)
    before: dict[str, Grad] = {}
    for number, term in enumerate(terms, 1):
        seed = term.seeds(outputs, data.y)
        found = taken.output_gradients(seed, again=number < len(terms))
        for name, module in how.hooked.items():
            d = found[name]
            if d is None:
                d = torch.zeros_like(taken.outputs[name])
            known = before.get(name)
            if isinstance(known, Ghost):
                before[name] = Ghost(known.a, at_places(module, d), known.words)
                continue
            a = taken.inputs[name]
            ghost = ghost_is_cheaper(module, places(module, d), against)
            before[name], _ = layer_grad(module, a, d, ghost, False, how.pixelwise)
        gradients = [before[name] for name in how.hooked]
        if how.rest:
            rest = rest_of(model, how, constants, data.x, seed)
            gradients.append(Dense(flat_rows(rest, how.rest)))
        yield term, gradients
