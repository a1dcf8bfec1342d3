"""Products of curvature matrices with many vectors at once: the Hessian of the mean loss, and its
Gauss-Newton part.

For cross entropy the Gauss-Newton matrix is (1/n) sum_i sum_c p_ic g_ic g_ic^T, with p_ic the
predicted probability of class c and g_ic the loss gradient at that label (Schraudolph, Neural
Computation 2002; it equals the Fisher matrix, Martens 2014, arXiv 1412.1193); for other losses p_ic
and g_ic come from the eigenvalues and eigenvectors of the loss's second derivative at the outputs.
So its products come from the gradient engine: O(C) passes over the data and O(n C m p) flops for m
vectors. Products of the Hessian come from differentiating the gradient again (Pearlmutter 1994):
O(n m) passes, and no layer's rule is relied on. Vectors are rows (m, p), the parameters in the
order of `flatten`; O(m p) memory beyond that of a batch.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import grad, vjp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from poisonbench.data import Dataset
from poisonbench.functional import call
from poisonbench.gradients.calls import undisturbed
from poisonbench.gradients.curvature.layer_sums import LayerSum, layer_sum
from poisonbench.gradients.curvature.layout import flatten, layout, unflatten
from poisonbench.gradients.curvature.terms import term_gradients
from poisonbench.gradients.passes import Layers, Plan, Vectors
from poisonbench.gradients.planning.plan import plan
from poisonbench.losses import CROSS_ENTROPY, Loss, each
from poisonbench.memory import SMALLEST, batches, halving, room
from poisonbench.seeding import exact_arithmetic

Kind = Literal["hessian", "gauss-newton"]
CHUNK = 16  # vectors that second derivatives take together: more leave the cache


def gauss_newton_product(
    model: nn.Module,
    data: Dataset,
    vectors: Tensor,
    shift: float = 0.0,
    layers: Layers = "all",
    loss: Loss = CROSS_ENTROPY,
) -> Tensor:
    """Returns (G + shift I) v for m vectors, (m, p); G is the Gauss-Newton matrix of the mean loss.

    Args:
        model: in evaluation mode, on the device and in the dtype of the data.
        data: n instances; for cross entropy the labels have no influence on G.
        vectors: (m, p).
        shift: weight decay and damping, added to the diagonal.
        layers: "all" parameters, or "last" for the head's.
        loss: of which G is the curvature.

    Raises:
        ModelError: (a ValueError) as `plan` raises it.
    """
    with exact_arithmetic(), torch.no_grad():
        how = plan(model, layers, data.x)
        index = layout(model, how, data, len(vectors))
        parts = [vectors[:, i] for i in index]

        def total(size: int) -> list[Tensor]:
            sums = [torch.zeros_like(part) for part in parts]
            for batch in batches(data, size):
                terms = _batch_product(model, how, batch, parts, loss)
                for layer, term in zip(sums, terms, strict=True):
                    layer += term
            return sums

        _, batch_size = room(data, how.size, held=how.held)
        sums = halving(total, batch_size)
        out = vectors * shift
        for i, layer in zip(index, sums, strict=True):
            out[:, i] += layer / len(data)
        return out


def _batch_product(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    vectors: list[Tensor],
    loss: Loss,
) -> list[Tensor]:
    """Returns sum_i sum_c w_ic g_ic <g_ic, v> over one batch, layer by layer, (m, p_layer) each."""
    m = len(vectors[0])
    sums: list[LayerSum] = []
    for term, gradients in term_gradients(model, how, data, loss, m):
        if not sums:
            sums = [layer_sum(g, v) for g, v in zip(gradients, vectors, strict=True)]
        along = term.weight.new_zeros(len(data), m)
        for layer, g in zip(sums, gradients, strict=True):
            along += layer.along(g)
        along *= term.weight[:, None]
        for layer, g in zip(sums, gradients, strict=True):
            layer.add(g, along)
    return [layer.total() for layer in sums]


def hessian_product(
    model: nn.Module,
    data: Dataset,
    vectors: Tensor,
    shift: float = 0.0,
    layers: Layers = "all",
    loss: Loss = CROSS_ENTROPY,
) -> Tensor:
    """Returns (H + shift I) v for m vectors, (m, p); H is the Hessian of the mean loss.

    Arguments and errors as for `gauss_newton_product`; the labels matter here.
    """
    with exact_arithmetic(), _twice_differentiable(model):
        how = plan(model, layers, data.x)
        parameters = dict(model.named_parameters())
        free = {name: parameters[name].detach() for name in how.names}
        directions = unflatten(model, how.names, vectors)

        def whole(size: int) -> Tensor:
            total = torch.zeros_like(vectors)
            for batch in batches(data, size):
                total += _second_derivatives(model, free, batch, directions, loss)
            return total

        _, batch_size = room(data, how.size, held=how.held)
        if (
            data.x.is_cuda
        ):  # every instance's activations are held for all vectors of a chunk
            batch_size = max(SMALLEST, batch_size // CHUNK)
        mean = halving(whole, batch_size) / len(data)
        return mean + shift * vectors


def _second_derivatives(
    model: nn.Module,
    free: Vectors,
    batch: Dataset,
    directions: Vectors,
    loss: Loss,
) -> Tensor:
    """Returns the Hessian of the summed loss of one batch times m directions, (m, p)."""

    def total(parameters: Vectors) -> Tensor:
        outputs = call(model, parameters, batch.x)
        if loss == CROSS_ENTROPY:
            return F.cross_entropy(outputs, batch.y, reduction="sum")
        return each(loss, outputs, batch.y).sum()

    # H is symmetric: the pullback of the gradient is the product, and all vectors share one
    # forward and backward pass
    pull: Callable[..., tuple[Vectors]] = vjp(grad(total), free)[1]
    (products,) = vmap(pull, chunk_size=CHUNK)(directions)
    return flatten(products).detach()


@contextlib.contextmanager
def _twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Attention by plain products while it lasts: the fused kernels have no second derivative."""
    with undisturbed(model), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield
