"""Vectors in parameter space as rows (m, p), and which of their entries belong to which layer."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.gradients.backprop import per_example
from poisonbench.gradients.forms import Dense, Ghost, Grad
from poisonbench.gradients.layers import layer_vectors
from poisonbench.gradients.passes import Plan
from poisonbench.gradients.planning.names import member

# model -> all that its layout depends on -> the layout
_kept: WeakKeyDictionary[nn.Module, dict[object, list[Tensor]]] = WeakKeyDictionary()


def flatten(vectors: dict[str, Tensor]) -> Tensor:
    """Returns parameter name -> (m, *shape) as rows, (m, p)."""
    rows = [v.reshape(len(v), -1) for v in vectors.values()]
    return torch.cat(rows, 1)


def unflatten(
    model: nn.Module,
    names: tuple[str, ...],
    rows: Tensor,
) -> dict[str, Tensor]:
    """Returns rows (m, p) as parameter name -> (m, *shape), the inverse of `flatten`.

    Args:
        model: whose parameters have these names.
        names: in the order in which the rows hold them.
        rows: (m, p).
    """
    parameters = dict(model.named_parameters())
    sizes = [parameters[name].numel() for name in names]
    vectors = {}
    for name, piece in zip(names, rows.split(sizes, 1), strict=True):
        shape = parameters[name].shape
        vectors[name] = piece.reshape(-1, *shape)
    return vectors


def matrix(form: Grad) -> Tensor:
    """Returns the gradients of a layer in the form `Dense` as rows, (B, p_layer)."""
    assert isinstance(form, Dense)
    if form.bias is None:
        return form.g
    return torch.cat([form.g, form.bias], 1)


def layout(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    against: int,
) -> list[Tensor]:
    """Returns which entries of a row of `flatten` each of the engine's layers holds, (p_layer,).

    They are kept for as long as the model lives, for the next product with its curvature.

    A layer in the form `Ghost` is a matrix (outputs, inputs + 1), the bias its last column; the
    others are as `Dense` has them. Parameters without a rule are one more layer, the last.

    Args:
        model: in evaluation mode.
        how: from `plan`.
        data: of which one instance is passed through the model.
        against: number of vectors, which decides the form of every layer.
    """
    kept = _kept.setdefault(model, {})
    shape = (data.x.shape[1:], data.x.dtype, data.x.device)
    key = (how.names, tuple(how.hooked), how.rest, how.size, how.pixelwise, shape)
    whole = (*key, against)
    if whole not in kept:
        kept[whole] = _layout(model, how, data, against)
    return kept[whole]


def _layout(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    against: int,
) -> list[Tensor]:
    positions = _positions(model, how.names)
    found = []
    forms = _forms(model, how, data, against)
    for form, (name, module) in zip(forms, how.hooked.items(), strict=True):
        own = {}
        for key, _ in module.named_parameters(recurse=False):
            own[key] = positions[member(name, key)]
        if isinstance(form, Ghost):
            found.append(_matrix_positions(own))
        else:
            vectors = layer_vectors(module, own, how.pixelwise)
            found.append(matrix(vectors)[0])
    if how.rest:
        rest = [positions[name].flatten() for name in how.rest]
        found.append(torch.cat(rest))
    return [index.to(data.x.device) for index in found]


def _forms(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    against: int,
) -> list[Grad]:
    """Returns the gradients of one instance, of the layers with a rule."""
    first = torch.zeros(1, dtype=torch.int64)
    one = data.take(first)
    found = per_example(model, how, one, _ones, against, rescale=False)
    forms = [form for form, _ in found]
    return forms[: len(how.hooked)]


def _ones(outputs: Tensor, _: Tensor) -> Tensor:
    """Gradients at the outputs where values do not matter."""
    return torch.ones_like(outputs)


def _positions(model: nn.Module, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Returns for each parameter where its entries lie in a row of `flatten`, (1, *shape)."""
    found = {}
    start = 0
    for name, parameter in model.named_parameters():
        if name not in names:
            continue
        end = start + parameter.numel()
        entries = torch.arange(start, end)
        found[name] = entries.view(1, *parameter.shape)
        start = end
    return found


def _matrix_positions(own: dict[str, Tensor]) -> Tensor:
    weight = own["weight"][0]
    columns = [weight.flatten(1)]
    if "bias" in own:
        columns.append(own["bias"].mT)
    return torch.cat(columns, 1).flatten()
