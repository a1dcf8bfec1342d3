"""What gradient-matching attacks share: the wanted gradient, and its cosine with the poison's."""

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
WIDEST = 1 / 8  # of an image's side, by which an augmentation moves it at most


def mean_gradient(
    model: nn.Module, x: Tensor, y: Tensor, create_graph: bool = False
) -> list[Tensor]:
    """Returns the gradient of the mean cross entropy in the trained parameters, a tensor each.

    Cross entropy is written as softplus(-margin), whose direction is right in float32 at any
    confidence.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad():
        loss = F.softplus(-margins(model(x), y)).mean()
        return list(torch.autograd.grad(loss, trained, create_graph=create_graph))


def wanted_gradient(model: nn.Module, data: Dataset, batch: int = 512) -> list[Tensor]:
    """Returns the gradient of the mean cross entropy over `data`, whose labels are the wanted ones.

    It is scaled to norm 1 over all parameters together.
    """
    parts = []
    with exact_arithmetic():
        for x, y in zip(data.x.split(batch), data.y.split(batch), strict=True):
            share = len(x) / len(data)
            parts.append([g * share for g in mean_gradient(model, x, y)])
    total = [torch.stack(column).sum(0) for column in zip(*parts, strict=True)]
    size = norm(total)
    return [(g / size).detach() for g in total]


def norm(gradient: list[Tensor]) -> Tensor:
    """Returns the Euclidean norm over all parameters, a scalar; small numbers do not underflow."""
    tiny = torch.finfo(gradient[0].dtype).tiny
    largest = torch.stack([g.detach().abs().max() for g in gradient]).max().clamp(min=tiny)
    squares = torch.stack([(g / largest).square().sum() for g in gradient])
    return squares.sum().sqrt() * largest


def misalignment(
    models: list[nn.Module], goals: list[list[Tensor]], x: Tensor, y: Tensor
) -> Tensor:
    """Returns 1 - cos(wanted gradient, gradient of the poison), the mean over the models: a scalar.

    That is equation (3) of Geiping et al. (ICLR 2021).

    Args:
        models: in evaluation mode.
        goals: of each, from `wanted_gradient`.
        x: (k, *shape), the poison.
        y: (k,) its labels.
    """
    parts = []
    for model, goal in zip(models, goals, strict=True):
        own = mean_gradient(model, x, y, create_graph=True)
        products = [(a * b).sum() for a, b in zip(own, goal, strict=True)]
        cosine = torch.stack(products).sum() / norm(own)
        parts.append(1 - cosine)
    return torch.stack(parts).mean()


def augmenting(kind: Augmentation, seed: int) -> Augment:
    """Returns the augmentation of the poison that `kind` names: the identity, or `shifting`."""
    if kind == "none":
        return lambda x, _: x
    return shifting(seed, flip=kind == "shift-flip")


def shifting(seed: int, flip: bool) -> Augment:
    """Returns a differentiable augmentation: images move by up to an eighth of a side.

    They are read bilinearly, and may be flipped. The draws follow from the seed and the step alone;
    on CUDA the gradient is right, but not bit-equal from run to run.
    """

    def augment(x: Tensor, step: int) -> Tensor:
        g = generator(seed, "augment", step)
        k = len(x)
        # frames reach from -1 to 1, two a side
        move = (torch.rand((k, 2), generator=g) * 2 - 1) * (2 * WIDEST)
        zero = torch.zeros(k)
        one = torch.ones(k)
        sign = torch.randint(2, (k,), generator=g) * 2.0 - 1 if flip else one
        across = torch.stack([sign, zero, move[:, 0]], 1)
        down = torch.stack([zero, one, move[:, 1]], 1)
        frames = torch.stack([across, down], 1).to(x)
        grid = F.affine_grid(frames, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    return augment
