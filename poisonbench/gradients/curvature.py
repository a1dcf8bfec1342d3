"""Products of curvature matrices with many vectors at once: the Hessian of the mean loss, and its
Gauss-Newton part.

For cross entropy the Gauss-Newton matrix is (1/n) sum_i sum_c p_ic g_ic g_ic^T, with p_ic the
predicted probability of class c and g_ic the loss gradient at that label (Schraudolph, Neural
Computation 2002; it equals the Fisher matrix, Martens 2014, arXiv 1412.1193), so that its products
come from the gradient engine: O(C) passes over the data and O(n C m p) flops for m vectors. Products
of the Hessian come from differentiating the gradient again (Pearlmutter 1994): O(n m) passes.
Vectors are rows (m, p), the parameters in the order of `flatten`; O(m p) memory beyond that of a
batch.
"""

from collections.abc import Callable
from typing import Literal, Protocol

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
    """Returns rows (m, p) as parameter name -> (m, *shape), the inverse of `flatten`."""
    parameters = dict(model.named_parameters())
    pieces = rows.split([parameters[name].numel() for name in names], 1)
    return {
        name: piece.reshape(-1, *parameters[name].shape)
        for name, piece in zip(names, pieces, strict=True)
    }


def layout(model: nn.Module, how: Plan, data: Dataset, against: int) -> list[Tensor]:
    """Returns which entries of a row of `flatten` each of the engine's layers holds, (p_layer,).

    A layer in the form `Ghost` is a matrix (outputs, inputs + 1), the bias its last column; the
    others are as `Dense` has them. The remaining parameters are the last layer.
    """
    positions = _positions(model, how.names)
    one = data.take(torch.zeros(1, dtype=torch.int64))
    forms = [form for form, _ in per_example(model, how, one, "loss", against, rescale=False)]
    found = []
    for form, (name, module) in zip(forms, how.hooked.items(), strict=False):  # the rest is last
        own = {
            key: positions[f"{name}.{key}" if name else key]
            for key, _ in module.named_parameters(recurse=False)
        }
        if isinstance(form, Ghost):
            found.append(_matrix_positions(own))
        else:
            found.append(matrix(layer_vectors(module, own, how.pixelwise))[0])
    if how.rest:
        found.append(torch.cat([positions[name].flatten() for name in how.rest]))
    return [index.to(data.x.device) for index in found]


def _positions(model: nn.Module, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Returns for each parameter where its entries lie in a row of `flatten`, (1, *shape)."""
    found = {}
    start = 0
    for name, parameter in model.named_parameters():
        if name in names:
            end = start + parameter.numel()
            found[name] = torch.arange(start, end).view(1, *parameter.shape)
            start = end
    return found


def _matrix_positions(own: dict[str, Tensor]) -> Tensor:
    columns = [own["weight"][0].flatten(1)]
    if "bias" in own:
        columns.append(own["bias"].mT)
    return torch.cat(columns, 1).flatten()


def matrix(form: Grad) -> Tensor:
    """Returns the gradients of a layer in the form `Dense` as rows, (B, p_layer)."""
    assert isinstance(form, Dense)
    if form.bias is None:
        return form.g
    return torch.cat([form.g, form.bias], 1)


class _LayerSum(Protocol):
    """One layer's share of a product with m vectors: the sum over classes c of w_ic g_ic."""

    def along(self, gradients: Grad) -> Tensor:
        """Returns <g_ic, v> for the layer's part of the vectors, (B, m)."""
        ...

    def add(self, gradients: Grad, weights: Tensor) -> None:
        """Adds w_ic g_ic for the weights (B, m) of a class."""
        ...

    def total(self) -> Tensor:
        """Returns the sum over all classes and instances, (m, p_layer)."""
        ...


class _DenseSum:
    """Of a layer whose gradients are held, those of one class at a time."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors
        self.sum = torch.zeros_like(vectors)

    def along(self, gradients: Grad) -> Tensor:
        return matrix(gradients) @ self.vectors.T

    def add(self, gradients: Grad, weights: Tensor) -> None:
        self.sum.addmm_(weights.T, matrix(gradients))

    def total(self) -> Tensor:
        return self.sum


class _GhostSum:
    """Of a layer kept by its factors: its inputs, the same for all classes, are multiplied once.

    Attributes:
        inputs: (B L, i + 1).
        forward: (B, m, L o), what the weight matrices that the vectors are make of the inputs.
        back: (B, m, L o), the sum of weighted output gradients.
    """

    def __init__(self, gradients: Ghost, vectors: Tensor) -> None:
        rows, places, width = gradients.a.shape
        m = len(vectors)
        outputs = gradients.d.shape[2]
        self.places = places
        self.inputs = gradients.a.reshape(-1, width)
        images = self.inputs @ vectors.view(m * outputs, width).T
        by_vector = images.view(rows, places, m, outputs).transpose(1, 2)
        self.forward = by_vector.reshape(rows, m, places * outputs)
        self.back = torch.zeros_like(self.forward)

    def along(self, gradients: Grad) -> Tensor:
        return torch.bmm(self.forward, self._outputs(gradients)[:, :, None]).squeeze(2)

    def add(self, gradients: Grad, weights: Tensor) -> None:
        self.back.addcmul_(weights[:, :, None], self._outputs(gradients)[:, None])

    def total(self) -> Tensor:
        rows, m, _ = self.back.shape
        by_place = self.back.view(rows, m, self.places, -1).transpose(1, 2)
        d = by_place.reshape(rows * self.places, -1)
        return (d.T @ self.inputs).view(m, -1)

    @staticmethod
    def _outputs(gradients: Grad) -> Tensor:
        assert isinstance(gradients, Ghost)
        return gradients.d.flatten(1)  # (B, L o)


def _layer_sum(gradients: Grad, vectors: Tensor) -> _LayerSum:
    if isinstance(gradients, Ghost):
        return _GhostSum(gradients, vectors)
    return _DenseSum(vectors)


def _batch_product(
    model: nn.Module, how: Plan, data: Dataset, vectors: list[Tensor]
) -> list[Tensor]:
    """Returns sum_i sum_c p_ic g_ic <g_ic, v> over one batch, per layer (m, p_layer), as given."""
    m = len(vectors[0])
    with torch.no_grad():
        probability = model(data.x).softmax(1)
    sums: list[_LayerSum] = []
    for c in range(probability.shape[1]):
        labelled = data.relabel(torch.full_like(data.y, c))
        found = per_example(model, how, labelled, "loss", m, rescale=False)
        gradients = [gradient for gradient, _ in found]
        if not sums:
            sums = [_layer_sum(g, v) for g, v in zip(gradients, vectors, strict=True)]
        along = probability.new_zeros(len(data), m)
        for layer, g in zip(sums, gradients, strict=True):
            along += layer.along(g)
        along *= probability[:, c, None]
        for layer, g in zip(sums, gradients, strict=True):
            layer.add(g, along)
    return [layer.total() for layer in sums]


def gauss_newton_product(
    model: nn.Module, data: Dataset, vectors: Tensor, shift: float = 0.0, layers: Layers = "all"
) -> Tensor:
    """Returns (G + shift I) v for m vectors, (m, p); G is the Gauss-Newton matrix of the mean loss.

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
                terms = _batch_product(model, how, batch, parts)
                for layer, term in zip(sums, terms, strict=True):
                    layer += term
            return sums

        sums = halving(total, room(data, how.size)[1])
        out = vectors * shift
        for i, layer in zip(index, sums, strict=True):
            out[:, i] += layer / len(data)
        return out


def hessian_product(
    model: nn.Module, data: Dataset, vectors: Tensor, shift: float = 0.0, layers: Layers = "all"
) -> Tensor:
    """Returns (H + shift I) v for m vectors, (m, p); H is the Hessian of the mean loss.

    Arguments and errors as for `gauss_newton_product`; the labels matter here.
    """
    with exact_arithmetic():
        how = plan(model, layers, data.x)
        free = {name: p.detach() for name, p in model.named_parameters() if name in how.names}
        directions = unflatten(model, how.names, vectors)

        def products(batch: Dataset) -> Tensor:
            def loss(parameters: dict[str, Tensor]) -> Tensor:
                logits = functional_call(model, parameters, (batch.x,))
                return F.cross_entropy(logits, batch.y, reduction="sum")

            # H is symmetric: the pullback of the gradient is the product, and all vectors share
            # one forward and backward pass
            pull: Callable[..., tuple[dict[str, Tensor]]] = vjp(grad(loss), free)[1]
            return flatten(vmap(pull, chunk_size=CHUNK)(directions)[0]).detach()

        def whole(size: int) -> Tensor:
            total = torch.zeros_like(vectors)
            for batch in batches(data, size):
                total += products(batch)
            return total

        return halving(whole, room(data, how.size)[1]) / len(data) + shift * vectors
