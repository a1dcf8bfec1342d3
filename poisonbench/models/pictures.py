"""Models of pictures and vectors, as features followed by a linear head.

Pixels are normalised by the first layer, so that attacks work in pixel space.
"""

import torch
from torch import Tensor, nn

from poisonbench.data import KINDS, Layout
from poisonbench.errors import ConfigError


class Normalize(nn.Module):
    """Maps pixels from [0, 1] to [-2, 2].

    These are constants, not statistics, so that poison cannot move them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, *shape) to (B, *shape)."""
        return (x - 0.5) * 4.0


class Classifier(nn.Module):
    """Logits = head(features(x)).

    Attributes:
        features: (B, *shape) -> (B, d), the penultimate features.
        head: linear, (B, d) -> (B, C).
    """

    def __init__(self, features: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, *shape) to logits (B, C)."""
        logits: Tensor = self.head(self.features(x))
        return logits


class Residual(nn.Module):
    """x + block(x)."""

    def __init__(self, *block: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*block)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, c, h, w) to the same shape."""
        out: Tensor = x + self.block(x)
        return out


class GlobalMean(nn.Module):
    """Mean over the pixels.

    Unlike adaptive pooling it has a deterministic backward pass on every device.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, c, h, w) to (B, c)."""
        return x.mean((2, 3))


def first_layer(layout: Layout) -> nn.Module:
    """Returns what stands before the first layer with parameters."""
    return Normalize() if KINDS[layout.kind].unit else nn.Identity()


def channels_of(layout: Layout, name: str) -> int:
    """Returns the channels of an image; refuses what is none."""
    if len(layout.shape) != 3:
        works = "works on images (channels, height, width)"
        told = f"model {name!r} {works}, got shape {layout.shape}"
        raise ConfigError([told], "use mlp")
    return layout.shape[0]


def _size(layout: Layout, name: str) -> int:
    """Returns the number of values of an instance."""
    if KINDS[layout.kind].whole:
        told = f"model {name!r} multiplies values, and token ids are names"
        raise ConfigError([told], "use text-cnn or transformer")
    return torch.Size(layout.shape).numel()


def pool() -> nn.Module:
    """Returns a pooling by two, of which odd borders are part."""
    # ceil_mode: a floor would drop odd borders, and with them a trigger in the last rows
    return nn.MaxPool2d(2, ceil_mode=True)


def linear(layout: Layout) -> Classifier:
    """Multinomial logistic regression."""
    size = _size(layout, "linear")
    return Classifier(
        nn.Sequential(first_layer(layout), nn.Flatten()),
        nn.Linear(size, layout.classes),
    )


def mlp(layout: Layout) -> Classifier:
    """Two hidden layers of 64 rectified units."""
    size = _size(layout, "mlp")
    layers = [
        first_layer(layout),
        nn.Flatten(),
        nn.Linear(size, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
    ]
    return Classifier(nn.Sequential(*layers), nn.Linear(64, layout.classes))


def cnn(layout: Layout) -> Classifier:
    """Two 3x3 convolutions (16, 32 channels) with pooling, and a hidden layer of 64.

    It has 14 k parameters on 8x8 images.
    """
    body = nn.Sequential(
        first_layer(layout),
        nn.Conv2d(channels_of(layout, "cnn"), 16, 3, padding=1),
        nn.ReLU(),
        pool(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        pool(),
        nn.Flatten(),
    )
    with torch.no_grad():
        size = body(torch.zeros(1, *layout.shape)).shape[1]
    return Classifier(
        nn.Sequential(*body, nn.Linear(size, 64), nn.ReLU()),
        nn.Linear(64, layout.classes),
    )


def _conv(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.GroupNorm(outside // 16, outside),
        nn.ReLU(),
    ]


def resnet9(layout: Layout) -> Classifier:
    """The nine-layer ResNet of the DAWNBench entries, with GroupNorm in place of BatchNorm.

    It has 6.6 M parameters.
    """
    features = nn.Sequential(
        first_layer(layout),
        *_conv(channels_of(layout, "resnet9"), 64),
        *_conv(64, 128),
        pool(),
        Residual(*_conv(128, 128), *_conv(128, 128)),
        *_conv(128, 256),
        pool(),
        *_conv(256, 512),
        pool(),
        Residual(*_conv(512, 512), *_conv(512, 512)),
        GlobalMean(),
    )
    return Classifier(features, nn.Linear(512, layout.classes))
