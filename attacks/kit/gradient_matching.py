"""What gradient-matching attacks share: the gradient that the attacker wants, and its cosine with the poison's own."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.objectives import margins
from poisonbench.seeding import exact_arithmetic, generator

Augmentation = Literal["none", "shift", "shift-flip"]
Augment = Callable[[Tensor, int], Tensor]  # images (k, c, h, w), step -> the same, differentiable


def mean_gradient(
    model: nn.Module, x: Tensor, y: Tensor, create_graph: bool = False
) -> list[Tensor]:
    """Returns the gradient of the mean cross entropy in the trained parameters, a tensor each.

    Cross entropy is written as softplus(-margin), whose direction is right in float32 at any confidence.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad():
        loss = F.softplus(-margins(model(x), y)).mean()
        return list(torch.autograd.grad(loss, trained, create_graph=create_graph))


def wanted_gradient(model: nn.Module, data: Dataset, batch: int = 512) -> list[Tensor]:
    """Returns the gradient of the mean cross entropy over `data`, whose labels are the wanted ones, scaled to norm 1."""
    with exact_arithmetic():
        parts = [
            [g * (len(x) / len(data)) for g in mean_gradient(model, x, y)]
            for x, y in zip(data.x.split(batch), data.y.split(batch), strict=True)
        ]
    total = [torch.stack(column).sum(0) for column in zip(*parts, strict=True)]
    size = norm(total)
    return [(g / size).detach() for g in total]


def norm(gradient: list[Tensor]) -> Tensor:
    """Returns the Euclidean norm over all parameters, a scalar; the squares of small float32 numbers do not underflow."""
    size = (
        torch.stack([g.detach().abs().max() for g in gradient])
        .max()
        .clamp(min=torch.finfo(gradient[0].dtype).tiny)
    )
    return torch.stack([(g / size).square().sum() for g in gradient]).sum().sqrt() * size


def misalignment(
    models: list[nn.Module], goals: list[list[Tensor]], x: Tensor, y: Tensor
) -> Tensor:
    """Returns 1 - cos(wanted gradient, gradient of the poison), the mean over the models: a scalar (equation 3).

    Args:
        models: in evaluation mode.
        goals: of each, from `wanted_gradient`.
        x: (k, *shape), the poison.
        y: (k,) its labels.
    """
    parts = []
    for model, goal in zip(models, goals, strict=True):
        own = mean_gradient(model, x, y, create_graph=True)
        parts.append(
            1
            - torch.stack([(a * b).sum() for a, b in zip(own, goal, strict=True)]).sum() / norm(own)
        )
    return torch.stack(parts).mean()


def shifting(seed: int, flip: bool) -> Augment:
    """Returns a differentiable augmentation: each image is moved by up to an eighth of its side, bilinearly, and maybe flipped.

    The draws follow from the seed and the step alone; on CUDA the gradient is right, but not bit-equal from run to run.
    """

    def augment(x: Tensor, step: int) -> Tensor:
        g = generator(seed, "augment", step)
        move = (torch.rand((len(x), 2), generator=g) * 2 - 1) / 4  # in units of half a side
        sign = torch.randint(2, (len(x),), generator=g) * 2.0 - 1 if flip else torch.ones(len(x))
        zero, one = torch.zeros(len(x)), torch.ones(len(x))
        frames = torch.stack(
            [torch.stack([sign, zero, move[:, 0]], 1), torch.stack([zero, one, move[:, 1]], 1)], 1
        ).to(x)
        grid = F.affine_grid(frames, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    return augment
