"""Hessian-vector products of a batch, for many directions at once."""

import torch
from torch import Tensor, nn

from estimators.kit.descent.state import Vectors
from estimators.kit.trajectory import as_leaves, batch_loss
from poisonbench.data import Dataset
from poisonbench.memory import halving
from poisonbench.seeding import exact_arithmetic

# Hessian-vector products done at once: their activations take memory
DIRECTIONS_CPU = 16
DIRECTIONS_CUDA = 256


def hvps(
    model: nn.Module,
    theta: Vectors,
    batch: Dataset,
    vectors: Vectors,
    smoothing: float = 0.0,
) -> Vectors:
    """Returns the products of the Hessian of a batch's mean cross entropy with m directions.

    Args:
        model: supplies the form.
        theta: parameter name -> value, where the Hessian is taken.
        batch: b instances.
        vectors: parameter name -> (m, *shape).
        smoothing: of the labels.

    Returns:
        Parameter name -> (m, *shape).
    """
    leaves = as_leaves(theta)
    inputs = list(leaves.values())
    limit = DIRECTIONS_CPU
    if batch.x.is_cuda:
        limit = DIRECTIONS_CUDA
    with exact_arithmetic(), torch.enable_grad():
        loss = batch_loss(model, leaves, batch, smoothing)
        gradients = torch.autograd.grad(
            loss, inputs, create_graph=True, materialize_grads=True
        )
        # those that do not depend on the parameters add nothing
        linked = [
            name for name, g in zip(leaves, gradients, strict=True) if g.requires_grad
        ]
        outputs = [g for g in gradients if g.requires_grad]

        def run(size: int) -> Vectors:
            blocks = []
            directions = next(iter(vectors.values()))
            for first in range(0, len(directions), size):
                part = {name: v[first : first + size] for name, v in vectors.items()}
                products = torch.autograd.grad(
                    outputs,
                    inputs,
                    [part[name] for name in linked],
                    retain_graph=True,
                    is_grads_batched=True,
                    allow_unused=True,
                )
                blocks.append(
                    _with_zeros(part, dict(zip(leaves, products, strict=True)))
                )
            return {
                name: torch.cat([block[name] for block in blocks]) for name in leaves
            }

        return halving(run, limit)


def _with_zeros(like: Vectors, products: dict[str, Tensor | None]) -> Vectors:
    """Returns the products, zeros in the place of None."""
    filled = {}
    for name, product in products.items():
        if product is None:
            product = torch.zeros_like(like[name])
        filled[name] = product
    return filled
