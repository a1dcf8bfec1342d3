"""Residual networks with BatchNorm, as features followed by a linear head."""

from torch import Tensor, nn

from poisonbench.data import Layout
from poisonbench.models.pictures import (
    Classifier,
    GlobalMean,
    channels_of,
    first_layer,
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
