"""Gradients of parameters that no layer rule covers: by `vmap(grad)`, or one instance at a time."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from poisonbench.functional import call
from poisonbench.gradients.calls import undisturbed
from poisonbench.gradients.passes import Vectors


def by_vmap(
    model: nn.Module,
    names: tuple[str, ...],
    constants: Vectors,
    x: Tensor,
    seed: Tensor,
) -> Vectors:
    """Returns d <seed_i, logits_i> / d parameter by `vmap(grad)`, name -> (B, *shape).

    Args:
        model: in evaluation mode.
        names: of the parameters differentiated.
        constants: all parameters by name.
        x: (B, *shape).
        seed: (B, C).
    """
    fixed = {name: p for name, p in constants.items() if name not in names}
    free = {name: constants[name] for name in names}

    def scalar(
        free: Vectors,
        one: Tensor,
        row: Tensor,
    ) -> Tensor:
        out = call(model, {**fixed, **free}, one[None])
        return (out[0] * row).sum()

    each: Callable[..., Vectors] = vmap(
        grad(scalar), in_dims=(None, 0, 0), randomness="error"
    )
    # attention by plain products: the fused kernels have no rule for vmap
    with undisturbed(model), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        return each(free, x, seed)


def one_by_one(
    model: nn.Module,
    names: tuple[str, ...],
    constants: Vectors,
    x: Tensor,
    seed: Tensor,
) -> tuple[Tensor, Vectors]:
    """Returns the logits (B, C), and what `by_vmap` does, by one ordinary backward pass per row."""
    free = {name: constants[name].detach().requires_grad_() for name in names}
    logits = []
    rows = []
    with torch.enable_grad(), undisturbed(model):
        for one, row in zip(x.split(1), seed.split(1), strict=True):
            out = call(model, {**constants, **free}, one)
            logits.append(out.detach())
            rows.append(gradients_of_outputs(out, list(free.values()), row))
    columns = zip(*rows, strict=True)
    gradients = {
        name: torch.stack(column) for name, column in zip(names, columns, strict=True)
    }
    return torch.cat(logits), gradients


def gradients_of_outputs(
    out: Tensor,
    sources: Sequence[Tensor],
    seed: Tensor,
) -> list[Tensor]:
    """Returns d <seed, out> / d source of every source, zeros where out does not depend on it."""
    if not out.requires_grad:
        return [torch.zeros_like(source) for source in sources]
    found = torch.autograd.grad(out, sources, seed, materialize_grads=True)
    return [
        gradient.to_dense() for gradient in found
    ]  # those of embeddings may be sparse
