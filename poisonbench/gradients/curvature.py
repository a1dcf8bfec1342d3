"""Products of curvature matrices with many vectors at once: the Hessian of the mean loss, and its Gauss-Newton part.

For cross entropy the Gauss-Newton matrix is (1/n) sum_i sum_c p_ic g_ic g_ic^T, with p_ic the predicted probability of class c
and g_ic the loss gradient at that label (Schraudolph, Neural Computation 2002; it equals the Fisher matrix, Martens 2014,
arXiv 1412.1193), so that its products come from the gradient engine: O(C) passes over the data and O(n C m p) flops for m
vectors. Products of the Hessian come from differentiating the gradient again (Pearlmutter 1994): O(n m) passes.
Vectors are rows (m, p), the parameters in the order of `flatten`; O(m p) memory beyond that of a batch.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.gradients.backprop import per_example
from poisonbench.gradients.forms import Dense, Ghost, Grad
from poisonbench.gradients.layers import layer_vectors
from poisonbench.gradients.passes import Layers, Plan
from poisonbench.gradients.planning import plan
from poisonbench.memory import batches, halving, room
from poisonbench.seeding import exact_arithmetic

Kind = Literal["hessian", "gauss-newton"]
CHUNK = 16  # vectors that second derivatives take together: more leave the cache


def flatten(vectors: dict[str, Tensor]) -> Tensor:
    """Returns parameter name -> (m, *shape) as rows, (m, p)."""
    return torch.cat([v.reshape(len(v), -1) for v in vectors.values()], 1)


def unflatten(model: nn.Module, names: tuple[str, ...], rows: Tensor) -> dict[str, Tensor]:
    """Returns rows (m, p) as parameter name -> (m, *shape), the inverse of `flatten` for the parameters `names` of `model`."""
    parameters = dict(model.named_parameters())
    pieces = rows.split([parameters[name].numel() for name in names], 1)
    return {
        name: piece.reshape(-1, *parameters[name].shape)
        for name, piece in zip(names, pieces, strict=True)
    }


def layout(model: nn.Module, how: Plan, data: Dataset, against: int) -> list[Tensor]:
    """Returns for each of the engine's layers which entries of a row of `flatten` it holds, in the engine's order, (p_layer,).

    A layer in the form `Ghost` is a matrix (outputs, inputs + 1), the bias its last column; the others are as `Dense` has them.
    """
    places, start = {}, 0
    for name, parameter in model.named_parameters():
        if name in how.names:
            places[name] = torch.arange(start, start + parameter.numel()).view(1, *parameter.shape)
            start += parameter.numel()
    one = data.take(torch.zeros(1, dtype=torch.int64))
    found, forms = (
        [],
        [grads for grads, _ in per_example(model, how, one, "loss", against, rescale=False)],
    )
    for form, (name, module) in zip(
        forms, how.hooked.items(), strict=False
    ):  # without that of the remaining parameters
        own = {
            k: places[f"{name}.{k}" if name else k]
            for k, _ in module.named_parameters(recurse=False)
        }
        if isinstance(form, Ghost):
            columns = [own["weight"][0].flatten(1)] + ([own["bias"].mT] if "bias" in own else [])
            found.append(torch.cat(columns, 1).flatten())
        else:
            dense = layer_vectors(module, own, how.pixelwise)
            found.append(torch.cat([dense.g[0]] + ([] if dense.bias is None else [dense.bias[0]])))
    if how.rest:
        found.append(torch.cat([places[name].flatten() for name in how.rest]))
    return [index.to(data.x.device) for index in found]


def _images(form: Grad, vectors: Tensor) -> Tensor:
    """Returns what the weight matrices `vectors` (m, o (i + 1)) make of the inputs of a layer, (B, m, L o)."""
    assert isinstance(form, Ghost)
    (b, places, inputs), outputs, m = form.a.shape, form.d.shape[2], len(vectors)
    z = form.a.reshape(-1, inputs) @ vectors.view(m * outputs, inputs).T
    return z.view(b, places, m, outputs).transpose(1, 2).reshape(b, m, places * outputs)


def _pull_back(form: Grad, d: Tensor) -> Tensor:
    """Returns sum over instances and places of output gradients d (B, m, L o) times the layer's inputs, (m, o (i + 1))."""
    assert isinstance(form, Ghost)
    (b, places, inputs), m = form.a.shape, d.shape[1]
    d = d.view(b, m, places, -1).transpose(1, 2).reshape(b * places, -1)
    return (d.T @ form.a.reshape(-1, inputs)).view(m, -1)


def _outputs(form: Grad) -> Tensor:
    assert isinstance(form, Ghost)
    return form.d.flatten(1)  # (B, L o)


def _dense(form: Grad) -> Tensor:
    assert isinstance(form, Dense)
    return form.g if form.bias is None else torch.cat([form.g, form.bias], 1)


def _batch_product(
    model: nn.Module, how: Plan, data: Dataset, vectors: list[Tensor]
) -> list[Tensor]:
    """Returns sum_i sum_c p_ic g_ic <g_ic, v> over one batch: a layer's vectors (m, p_layer) each, in and out.

    A layer kept as `Ghost` is multiplied with its inputs once for all classes; of a `Dense` one the gradients of one class are
    held at a time.
    """
    m = len(vectors[0])
    with torch.no_grad():
        probability = model(data.x).softmax(1)
    out = [torch.zeros_like(v) for v in vectors]
    forward: list[Tensor | None] = []
    back: list[Tensor] = []
    grads: list[Grad] = []
    for c in range(probability.shape[1]):
        grads = [
            g
            for g, _ in per_example(
                model, how, data.relabel(torch.full_like(data.y, c)), "loss", m, rescale=False
            )
        ]
        if not forward:
            forward = [
                _images(g, v) if isinstance(g, Ghost) else None
                for g, v in zip(grads, vectors, strict=True)
            ]
            back = [torch.zeros(0) if z is None else torch.zeros_like(z) for z in forward]
        along = probability.new_zeros(len(data), m)
        for g, v, z in zip(grads, vectors, forward, strict=True):
            along += (
                _dense(g) @ v.T if z is None else torch.bmm(z, _outputs(g)[:, :, None]).squeeze(2)
            )
        along *= probability[:, c, None]
        for k, g in enumerate(grads):
            if forward[k] is None:
                out[k].addmm_(along.T, _dense(g))
            else:
                back[k].addcmul_(along[:, :, None], _outputs(g)[:, None])
    return [
        _pull_back(g, d) if isinstance(g, Ghost) else o
        for g, d, o in zip(grads, back, out, strict=True)
    ]


def gauss_newton_product(
    model: nn.Module, data: Dataset, vectors: Tensor, shift: float = 0.0, layers: Layers = "all"
) -> Tensor:
    """Returns (G + shift I) v for m vectors, (m, p); G is the Gauss-Newton matrix of the mean cross entropy over the data.

    Args:
        model: in evaluation mode, on the device and in the dtype of the data.
        data: n instances; the labels have no influence on G.
        vectors: (m, p).
        shift: weight decay and damping, added to the diagonal.
        layers: "all" parameters, or "last" for the head's.

    Raises:
        ValueError: the model is in training mode or has nothing to differentiate.
    """
    with exact_arithmetic(), torch.no_grad():
        how = plan(model, layers, data.x)
        index = layout(model, how, data, len(vectors))
        parts = [vectors[:, i] for i in index]

        def total(size: int) -> list[Tensor]:
            sums = [torch.zeros_like(part) for part in parts]
            for batch in batches(data, size):
                for accumulator, term in zip(
                    sums, _batch_product(model, how, batch, parts), strict=True
                ):
                    accumulator += term
            return sums

        out = vectors * shift
        for i, part in zip(index, halving(total, room(data, how.size)[1]), strict=True):
            out[:, i] += part / len(data)
        return out


def hessian_product(
    model: nn.Module, data: Dataset, vectors: Tensor, shift: float = 0.0, layers: Layers = "all"
) -> Tensor:
    """Returns (H + shift I) v for m vectors, (m, p); H is the Hessian of the mean cross entropy over the data.

    Arguments and errors as for `gauss_newton_product`; the labels matter here.
    """
    with exact_arithmetic():
        how = plan(model, layers, data.x)
        free = {name: p.detach() for name, p in model.named_parameters() if name in how.names}
        directions = unflatten(model, how.names, vectors)

        def products(batch: Dataset) -> Tensor:
            def loss(parameters: dict[str, Tensor]) -> Tensor:
                return F.cross_entropy(
                    functional_call(model, parameters, (batch.x,)), batch.y, reduction="sum"
                )

            # H is symmetric, so the pullback of the gradient is the product, and all vectors share one forward and backward pass
            pull: Callable[..., tuple[dict[str, Tensor]]] = vjp(grad(loss), free)[1]
            return flatten(vmap(pull, chunk_size=CHUNK)(directions)[0]).detach()

        def whole(size: int) -> Tensor:
            total = torch.zeros_like(vectors)
            for batch in batches(data, size):
                total += products(batch)
            return total

        return halving(whole, room(data, how.size)[1]) / len(data) + shift * vectors
