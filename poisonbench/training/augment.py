"""Augmentation: instances mirrored and shifted at random, drawn by the seed and the step.

Any replay draws the same. A draw belongs to a place in the batch, not to an instance, so that
paired runs, which lack some instances of a batch, present the others alike.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.models.passing import faster_layout
from poisonbench.seeding import exact_arithmetic, generator
from poisonbench.training.recipe import Recipe

# a side is padded by one part in this many: 4 pixels of 32, as usual for CIFAR
PADDED = 8
# and shifted by at most one part in this many
SHIFTED = {"crop-flip": PADDED, "shift-flip": 16}


def presented(
    data: Dataset,
    rows: Tensor,
    recipe: Recipe,
    seed: int,
    step: int,
    layout: torch.memory_format,
    places: Tensor | None = None,
) -> Tensor:
    """Returns the instances of a batch as the model sees them in a step, (b, *shape).

    Whoever takes a step of a run again must take these: how images lie in memory decides how a
    convolution rounds.

    Args:
        data: n training instances.
        rows: (b,) int64, those of the batch.
        recipe: says whether and how they are augmented.
        seed: of the run.
        step: t.
        layout: how they lie in memory: `training_layout` of the model at its start.
        places: see `Plan`.
    """
    x = data.x[rows]
    if recipe.augment != "none":
        draws = drawn(data, recipe, seed, step)
        if places is not None:
            draws = draws[places[step]]
        x = moved(x, draws[: len(rows)])
    return x.contiguous(memory_format=layout)


def training_layout(start: nn.Module, data: Dataset) -> torch.memory_format:
    """Returns how images lie in memory in every step of a run.

    Args:
        start: the model before the first step, in evaluation mode.
        data: the training instances.
    """
    with exact_arithmetic():
        return faster_layout(start, data.x)


def drawn(
    data: Dataset,
    recipe: Recipe,
    seed: int,
    step: int,
) -> Tensor:
    """Returns how the places of a batch are augmented in a step, (batch_size, 3) int64.

    A row holds 1 to mirror or 0, and the first row and column of the crop in the padded image.
    """
    g = generator(seed, "augment", step)
    size = recipe.batch_size
    mirrored = torch.randint(0, 2, (size,), generator=g)
    _, height, width = data.shape
    sides = torch.tensor([height, width])
    corner = (sides // PADDED).expand(size, 2)
    if recipe.augment in SHIFTED:
        farthest = sides // SHIFTED[recipe.augment]
        share = torch.rand((size, 2), generator=g, dtype=torch.float64)
        corner = corner + (share * (2 * farthest + 1)).long() - farthest
    return torch.cat([mirrored[:, None], corner], 1)


def moved(x: Tensor, draws: Tensor) -> Tensor:
    """Returns images (b, c, h, w) padded with zeros, cropped and mirrored by `draws`, (b, 3)."""
    count, channels, height, width = x.shape
    vertical = height // PADDED
    horizontal = width // PADDED
    padded = F.pad(x, (horizontal, horizontal, vertical, vertical))
    draws = draws.to(
        x.device, non_blocking=True
    )  # else the host waits for the step before
    down = draws[:, 1:2] + torch.arange(height, device=x.device)
    along = torch.arange(width, device=x.device).expand(count, width)
    mirrored = draws[:, :1].bool()
    along = draws[:, 2:] + torch.where(mirrored, along.flip(1), along)
    image = torch.arange(count, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[:, None, None]
    return padded[image, channel, down[:, None, :, None], along[:, None, None, :]]
