"""Models as features followed by a linear head.

Pixels are normalised by the first layer, so that attacks work in pixel space.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonbench.errors import ConfigError
from poisonbench.model_form import Shape, check_form
from poisonbench.registry import lookup
from poisonbench.seeding import Outside, derive, drawing, exact_arithmetic


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


def _input(shape: Shape) -> nn.Module:
    return Normalize() if len(shape) == 3 else nn.Identity()


def _image(shape: Shape, name: str) -> int:
    if len(shape) != 3:
        works = "works on images (channels, height, width)"
        raise ConfigError([f"model {name!r} {works}, got shape {shape}"], "use mlp")
    return shape[0]


def _pool() -> nn.Module:
    # ceil_mode: a floor would drop odd borders, and with them a trigger in the last rows
    return nn.MaxPool2d(2, ceil_mode=True)


def linear(shape: Shape, classes: int) -> Classifier:
    """Multinomial logistic regression."""
    size = torch.Size(shape).numel()
    return Classifier(
        nn.Sequential(_input(shape), nn.Flatten()), nn.Linear(size, classes)
    )


def mlp(shape: Shape, classes: int) -> Classifier:
    """Two hidden layers of 64 rectified units."""
    size = torch.Size(shape).numel()
    layers = [
        _input(shape),
        nn.Flatten(),
        nn.Linear(size, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
    ]
    return Classifier(nn.Sequential(*layers), nn.Linear(64, classes))


def cnn(shape: Shape, classes: int) -> Classifier:
    """Two 3x3 convolutions (16, 32 channels) with pooling, and a hidden layer of 64.

    It has 14 k parameters on 8x8 images.
    """
    body = nn.Sequential(
        _input(shape),
        nn.Conv2d(_image(shape, "cnn"), 16, 3, padding=1),
        nn.ReLU(),
        _pool(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        _pool(),
        nn.Flatten(),
    )
    with torch.no_grad():
        size = body(torch.zeros(1, *shape)).shape[1]
    return Classifier(
        nn.Sequential(*body, nn.Linear(size, 64), nn.ReLU()), nn.Linear(64, classes)
    )


def _conv(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.GroupNorm(outside // 16, outside),
        nn.ReLU(),
    ]


def resnet9(shape: Shape, classes: int) -> Classifier:
    """The nine-layer ResNet of the DAWNBench entries, with GroupNorm in place of BatchNorm.

    It has 6.6 M parameters.
    """
    features = nn.Sequential(
        _input(shape),
        *_conv(_image(shape, "resnet9"), 64),
        *_conv(64, 128),
        _pool(),
        Residual(*_conv(128, 128), *_conv(128, 128)),
        *_conv(128, 256),
        _pool(),
        *_conv(256, 512),
        _pool(),
        Residual(*_conv(512, 512), *_conv(512, 512)),
        GlobalMean(),
    )
    return Classifier(features, nn.Linear(512, classes))


MODELS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "linear": linear,
    "mlp": mlp,
    "cnn": cnn,
    "resnet9": resnet9,
}


def build(
    name: str,
    shape: Shape,
    classes: int,
    seed: int,
) -> nn.Module:
    """Builds an untrained model in float32 on the CPU, in evaluation mode.

    Equal seeds give equal parameters, whatever generator the model draws from, and whether it
    draws when it is made or, if it is lazy, on its first instances.

    Args:
        name: a key of `MODELS`, or `package.module:callable` of a function
            `(shape, classes) -> nn.Module`.
        shape: shape of one instance.
        classes: number of classes C.
        seed: of the initialisation. The global generators are left as they were.

    Raises:
        ConfigError: no such name, or a model that is not of the form of `model_form.check_form`.
        TypeError: what the function returned is no `nn.Module`.
    """
    make = lookup(MODELS, name, "model")
    start = derive(seed, "model")
    with drawing(start), Outside().drawing(start):
        model = make(tuple(shape), classes)
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model {name!r} must give an nn.Module, got {type(model).__name__}"
            )
        model.eval()
        if name not in MODELS:
            check_form(model, name, shape, classes)
    return model


def predict(
    model: nn.Module,
    x: Tensor,
    batch: int = 1024,
) -> Tensor:
    """Returns the logits (m, C) of the instances x, (m, *shape), in evaluation mode.

    They are computed in blocks of `batch`.
    """
    was_training = model.training
    with torch.no_grad(), exact_arithmetic():
        model.eval()
        logits = [model(part) for part in x.split(batch)]
        model.train(was_training)
    return torch.cat(logits)
