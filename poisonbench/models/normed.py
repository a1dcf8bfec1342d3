"""Networks of pictures with BatchNorm, as features followed by a linear head."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Layout
from poisonbench.models.pictures import (
    Classifier,
    GlobalMean,
    channels_of,
    first_layer,
    pool,
)

WIDTHS = (64, 128, 256, 512)  # channels of the four stages
BLOCKS = 2  # of each stage


class BasicBlock(nn.Module):
    """relu(shortcut(x) + block(x)), two 3x3 convolutions deep.

    Attributes:
        block: the two convolutions.
        shortcut: the identity, or a 1x1 convolution where channels or places change.
    """

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *_conv(inside, outside, 3, stride),
            nn.ReLU(),
            *_conv(outside, outside, 3, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(*_conv(inside, outside, 1, stride))
        self.rectifier = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, c, h, w) to (B, c', h', w')."""
        out: Tensor = self.rectifier(self.shortcut(x) + self.block(x))
        return out


def _conv(inside: int, outside: int, side: int, stride: int) -> list[nn.Module]:
    kernel = nn.Conv2d(
        inside, outside, side, stride=stride, padding=side // 2, bias=False
    )
    return [kernel, nn.BatchNorm2d(outside)]


def resnet18(layout: Layout) -> Classifier:
    """ResNet-18 (He et al., CVPR 2016) with the stem of the CIFAR papers, and BatchNorm.

    The stem is one 3x3 convolution of stride 1 without pooling. It has 11.2 M parameters.
    """
    stages: list[nn.Module] = []
    inside = WIDTHS[0]
    for stage, outside in enumerate(WIDTHS):
        for block in range(BLOCKS):
            stride = 2 if stage and not block else 1
            stages.append(BasicBlock(inside, outside, stride))
            inside = outside
    features = nn.Sequential(
        first_layer(layout),
        *_conv(channels_of(layout, "resnet18"), WIDTHS[0], 3, 1),
        nn.ReLU(),
        *stages,
        GlobalMean(),
    )
    return Classifier(features, nn.Linear(WIDTHS[-1], layout.classes))


# Standard deviations of the cosine components of 2x2 patches of natural pictures, in pixels of
# [-2, 2]: brightness, then two differences of colours; each by down and along. Measured on
# CIFAR-10, and constants, so that poison cannot move them.
SPREADS = (
    ((3.2, 0.60), (0.60, 0.24)),
    ((0.93, 0.13), (0.13, 0.05)),
    ((0.42, 0.07), (0.07, 0.03)),
)
GROUPS = (64, 192, 256)  # channels, each of two convolutions
DAMPED = 1 / 9  # of the features that enter the head


class Whitened(nn.Module):
    """The cosine components of 2x2 patches, each divided by its spread, and their negatives.

    Attributes:
        kernel: (8 c, c, 2, 2), the components of c channels.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", _whitening(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, c, h, w) to (B, 8 c, h - 1, w - 1)."""
        return F.conv2d(x, self.kernel)


class GlobalMax(nn.Module):
    """The largest value over the pixels, times a constant."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, c, h, w) to (B, c)."""
        largest: Tensor = x.amax((2, 3))
        return largest * self.scale


def _cosines(n: int) -> Tensor:
    """Returns the orthonormal cosine basis of n values, (n, n), the constant one first."""
    frequency = torch.arange(n, dtype=torch.float64)[:, None]
    place = torch.arange(n, dtype=torch.float64) + 0.5
    waves = torch.cos(math.pi * frequency * place / n)
    lengths: Tensor = waves.norm(dim=1, keepdim=True)
    return waves / lengths


def _whitening(channels: int) -> Tensor:
    """Returns the kernel of `Whitened`."""
    sides = _cosines(2)
    basis = torch.einsum("ac,ui,vj->auvcij", _cosines(channels), sides, sides)
    spreads = torch.tensor(SPREADS, dtype=torch.float64)
    colours = torch.arange(channels).clamp(max=len(SPREADS) - 1)
    scaled = basis / spreads[colours][..., None, None, None]
    kernel = scaled.reshape(4 * channels, channels, 2, 2).float()
    return torch.cat([kernel, -kernel])


def _block(inside: int, outside: int, between: nn.Module | None = None) -> nn.Module:
    """Returns a convolution, what stands between it and the norm, the norm, and its GELU."""
    kernel = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
    # the first filters pass their channel on (Zagoruyko and Komodakis 2017, DiracNets)
    nn.init.dirac_(kernel.weight.data[:inside])
    layers = [kernel, nn.BatchNorm2d(outside), nn.GELU()]
    if between is not None:
        layers.insert(1, between)
    return nn.Sequential(*layers)


def cnn7(layout: Layout) -> Classifier:
    """Six 3x3 convolutions with BatchNorm behind a fixed whitening, and a head.

    It follows the network of "airbench94" (Jordan 2024, arXiv 2404.00498), which is right on 94 %
    of CIFAR-10 after ten epochs. Here the whitening is of natural pictures, not of the training
    set. It has 1.5 M parameters.
    """
    channels = channels_of(layout, "cnn7")
    blocks: list[nn.Module] = []
    inside = 8 * channels
    for outside in GROUPS:
        blocks.append(_block(inside, outside, pool()))
        blocks.append(_block(outside, outside))
        inside = outside
    features = nn.Sequential(
        first_layer(layout),
        Whitened(channels),
        nn.GELU(),
        *blocks,
        GlobalMax(DAMPED),
    )
    return Classifier(features, nn.Linear(GROUPS[-1], layout.classes))
