"""Which models train together: those that take equally many steps, as many as the memory holds."""

import math

import torch
from torch import Tensor, nn

from poisonbench.training.many.batches import Batches
from poisonbench.training.many.chain import Chain, patch_entries
from poisonbench.training.many.stacked import Way
from poisonbench.training.order import epoch_steps
from poisonbench.training.recipe import Recipe

# bytes of parameters, gradients and optimiser of a block; on a CPU what its cache holds
CPU = 8 << 20
# on a GPU, with the activations of a batch: of its whole memory one part in so many, so that the
# blocks of a job that goes on are those that it began with
CUDA_SHARE = 4
COPIES = {"sgd": 3, "adamw": 4}  # parameters, gradients, and one mean or two
SMALLEST = 4  # models of a block on a CPU
LARGEST = 256
ROWS = 4  # on which activations are measured
PASSES = 2  # activations, and as much again for what goes back


def block_size(
    model: nn.Module,
    x: Tensor,
    recipe: Recipe,
    way: Way | None,
) -> int:
    """Returns how many models train together: as many as the memory holds, or 1.

    Args:
        model: one of them.
        x: (n, *shape), the instances that they see.
        recipe: hyperparameters.
        way: through many models at once; None for one after another.
    """
    if way is None:
        return 1
    trained = [p for p in model.parameters() if p.requires_grad]
    bytes_each = COPIES[recipe.optimizer] * sum(p.nbytes for p in trained)
    if x.is_cuda:
        held = saved_bytes(model, x)
        if way is Chain:
            held = max(held, patch_entries(model, x) * x.element_size())
        bytes_each += PASSES * recipe.batch_size * held
        total = torch.cuda.get_device_properties(x.device).total_memory
        return max(1, min(LARGEST, total // CUDA_SHARE // bytes_each))
    return max(SMALLEST, min(LARGEST, CPU // bytes_each))


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """Returns the bytes of an instance that a forward pass keeps for the way back.

    Args:
        model: in evaluation mode.
        x: (n, *shape), some instances.
    """
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    # a copy, or the storage would be that of all instances
    rows = x[:ROWS].clone()
    saved = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.enable_grad(), saved:
        model(rows)
    return sum(found.values()) // len(rows)


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
