"""Which models train together: those that take equally many steps, as many as the memory holds."""

import math

import torch
from torch import Tensor, nn

from poisonbench.training.many.batches import Batches
from poisonbench.training.order import epoch_steps
from poisonbench.training.recipe import Recipe

# bytes of parameters, gradients and optimiser of a block; on a CPU what its cache holds
CPU = 8 << 20
CUDA = 4 << 30
COPIES = {"sgd": 3, "adamw": 4}  # parameters, gradients, and one mean or two
SMALLEST = 4  # models of a block on a CPU
LARGEST = 256


def block_size(
    model: nn.Module,
    x: Tensor,
    recipe: Recipe,
    alone: bool,
) -> int:
    """Returns how many models train together: as many as the memory holds, or 1."""
    if alone:
        return 1
    trained = [p for p in model.parameters() if p.requires_grad]
    bytes_each = COPIES[recipe.optimizer] * sum(p.nbytes for p in trained)
    if x.is_cuda:
        return max(1, CUDA // bytes_each)
    return max(SMALLEST, min(LARGEST, CPU // bytes_each))


def split_blocks(
    masks: Tensor,
    recipe: Recipe,
    batches: Batches,
    size: int,
) -> list[Tensor]:
    """Returns the models of each block, (k,) int64: up to `size` that take equally many steps.

    Models without instances, which take no step, are blocks of their own.
    """
    steps = []
    for own in masks.sum(1).tolist():
        walked = own
        if batches == "full":
            walked = masks.shape[1]
        taken = 0
        if own:
            taken = epoch_steps(walked, recipe)
        steps.append(taken)
    counts = torch.tensor(steps)
    blocks: list[Tensor] = []
    for count in counts.unique().tolist():
        group = (counts == count).nonzero().squeeze(1)
        parts = math.ceil(len(group) / size)
        blocks.extend(group.tensor_split(parts))
    return blocks
