"""Models as features followed by a linear head; pixels are normalised by the first layer, so attacks work in pixel space."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonbench.errors import ConfigError
from poisonbench.registry import lookup
from poisonbench.seeding import derive, exact_arithmetic, seed_global

Shape = tuple[int, ...]


class Normalize(nn.Module):
    """Maps pixels from [0, 1] to [-2, 2]; constants, not statistics, so that poison cannot move it."""

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
    """Mean over the pixels; unlike adaptive pooling it has a deterministic backward on every device."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, c, h, w) to (B, c)."""
        return x.mean((2, 3))


def _input(shape: Shape) -> nn.Module:
    return Normalize() if len(shape) == 3 else nn.Identity()


def _image(shape: Shape, name: str) -> int:
    if len(shape) != 3:
        raise ConfigError(
            [f"model {name!r} works on images (channels, height, width), got shape {shape}"],
            "use mlp",
        )
    return shape[0]


def _pool() -> nn.Module:
    # ceil_mode: a floor would drop odd borders, and with them a trigger in the last rows
    return nn.MaxPool2d(2, ceil_mode=True)


def linear(shape: Shape, classes: int) -> Classifier:
    """Multinomial logistic regression."""
    size = torch.Size(shape).numel()
    return Classifier(nn.Sequential(_input(shape), nn.Flatten()), nn.Linear(size, classes))


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
    """Two 3x3 convolutions (16, 32 channels) with pooling and a hidden layer of 64; 14 k parameters on 8x8 images."""
    channels = _image(shape, "cnn")
    body = nn.Sequential(
        *(_input(shape), nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), _pool()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), _pool(), nn.Flatten()),
    )
    with torch.no_grad():
        size = body(torch.zeros(1, *shape)).shape[1]
    return Classifier(nn.Sequential(*body, nn.Linear(size, 64), nn.ReLU()), nn.Linear(64, classes))


def _conv(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.GroupNorm(outside // 16, outside),
        nn.ReLU(),
    ]


def resnet9(shape: Shape, classes: int) -> Classifier:
    """The nine-layer ResNet of the DAWNBench entries, with GroupNorm in place of BatchNorm; 6.6 M parameters."""
    features = nn.Sequential(
        *(_input(shape), *_conv(_image(shape, "resnet9"), 64)),
        *(*_conv(64, 128), _pool(), Residual(*_conv(128, 128), *_conv(128, 128))),
        *(*_conv(128, 256), _pool()),
        *(*_conv(256, 512), _pool(), Residual(*_conv(512, 512), *_conv(512, 512))),
        GlobalMean(),
    )
    return Classifier(features, nn.Linear(512, classes))


MODELS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "linear": linear,
    "mlp": mlp,
    "cnn": cnn,
    "resnet9": resnet9,
}


def build(name: str, shape: Shape, classes: int, seed: int) -> nn.Module:
    """Builds an untrained model in float32 on the CPU, in evaluation mode; equal seeds give equal parameters.

    Args:
        name: a key of `MODELS`, or `package.module:callable` of a function `(shape, classes) -> nn.Module`.
        shape: shape of one instance.
        classes: number of classes C.
        seed: of the initialisation. The global generator is left as it was.

    Raises:
        ConfigError: no such name; a model without `features` and `head`, or whose output is not head(features(x)).
    """
    make = lookup(MODELS, name, "model")
    with torch.random.fork_rng(devices=[]):
        seed_global(derive(seed, "model"))
        model = make(tuple(shape), classes).eval()
    if name not in MODELS:
        _check_form(model, name, shape, classes)
    return model


def _check_form(model: nn.Module, name: str, shape: Shape, classes: int) -> None:
    features, head = getattr(model, "features", None), getattr(model, "head", None)
    hint = "a model is features (x -> penultimate features) followed by head (features -> logits)"
    if not isinstance(features, nn.Module) or not isinstance(head, nn.Module):
        raise ConfigError([f"model {name!r} lacks the submodules `features` and `head`"], hint)
    with torch.no_grad():
        x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
        out = model(x)
        if out.shape != (2, classes):
            raise ConfigError(
                [f"model {name!r} gives outputs of shape {tuple(out.shape)}, not (2, {classes})"],
                hint,
            )
        if not torch.equal(out, head(features(x))):
            raise ConfigError([f"model {name!r} is not head(features(x))"], hint)


def predict(model: nn.Module, x: Tensor, batch: int = 1024) -> Tensor:
    """Returns the logits (m, C) of the instances x, (m, *shape), in evaluation mode and blocks of `batch`."""
    was_training = model.training
    with torch.no_grad(), exact_arithmetic():
        model.eval()
        logits = [model(part) for part in x.split(batch)]
        model.train(was_training)
    return torch.cat(logits)
