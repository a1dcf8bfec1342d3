"""Models of many kinds on instances of shape (1, 4, 6), for tests of training and replay.

One function each, a row in KINDS.
"""

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from poisonbench.models import Classifier

SHAPE = (1, 4, 6)
INPUTS = 24
WIDTH = 12
Shape = tuple[int, ...]


def network(*features: nn.Module, classes: int = 3, width: int = WIDTH) -> Classifier:
    """The library's own class, whose layers may train as a chain of stacked ones."""
    return Classifier(nn.Sequential(nn.Flatten(), *features), nn.Linear(width, classes))


def lazy(shape: Shape, classes: int) -> nn.Module:
    return network(nn.LazyLinear(WIDTH), nn.Tanh(), nn.LazyLinear(WIDTH), nn.ReLU())


def lazy_convolution(shape: Shape, classes: int) -> nn.Module:
    return network(
        nn.Unflatten(1, SHAPE),
        nn.LazyConv2d(2, 3),
        nn.Flatten(),
        nn.LazyLinear(WIDTH),
        nn.ReLU(),
    )


def shared_module(shape: Shape, classes: int) -> nn.Module:
    layer = nn.Linear(WIDTH, WIDTH)
    return network(
        nn.Linear(INPUTS, WIDTH), nn.Tanh(), layer, nn.Tanh(), layer, nn.Tanh()
    )


def shared_rectifiers(shape: Shape, classes: int) -> nn.Module:
    act = nn.ReLU()
    return network(nn.Linear(INPUTS, WIDTH), act, nn.Linear(WIDTH, WIDTH), act)


def shared_between_rectifiers(shape: Shape, classes: int) -> nn.Module:
    layer = nn.Linear(WIDTH, WIDTH)
    return network(
        nn.Linear(INPUTS, WIDTH), nn.ReLU(), layer, nn.ReLU(), layer, nn.ReLU()
    )


def tied_weights(shape: Shape, classes: int) -> nn.Module:
    one, other = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    other.weight = one.weight
    return network(
        nn.Linear(INPUTS, WIDTH), nn.ReLU(), one, nn.Tanh(), other, nn.ReLU()
    )


def dropout(shape: Shape, classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Dropout(0.4))


def little_dropout(shape: Shape, classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Dropout(0.001))


def batch_norm(shape: Shape, classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU())


def group_norm(shape: Shape, classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), nn.GroupNorm(3, WIDTH), nn.ReLU())


def spectral_norm(shape: Shape, classes: int) -> nn.Module:
    return network(parametrizations.spectral_norm(nn.Linear(INPUTS, WIDTH)), nn.ReLU())


def weight_norm(shape: Shape, classes: int) -> nn.Module:
    return network(parametrizations.weight_norm(nn.Linear(INPUTS, WIDTH)), nn.ReLU())


def pruned(shape: Shape, classes: int) -> nn.Module:
    return network(
        prune.random_unstructured(nn.Linear(INPUTS, WIDTH), "weight", amount=0.4),
        nn.ReLU(),
    )


def parameter_free(shape: Shape, classes: int) -> nn.Module:
    return network(nn.AvgPool1d(2), width=INPUTS // 2)


class Count(nn.Module):
    """Scales by a mean of the batches seen in training, which it keeps in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.mul_(0.9).add_(0.1 * x.detach().abs().mean())
        return x / self.seen


def buffers(shape: Shape, classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), Count(), nn.ReLU())


class Fourier(nn.Module):
    """Random features in a buffer that the state dict leaves out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("direction", torch.randn(WIDTH, INPUTS), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.direction.T).cos()


def hidden_buffer(shape: Shape, classes: int) -> nn.Module:
    return network(Fourier())


class Masked(nn.Module):
    """A mask of minus infinity in a buffer, as causal attention has."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((WIDTH, WIDTH), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.mask + x[:, None] * x[:, :, None]).softmax(-1)
        return (weights @ x[:, :, None]).squeeze(-1)


def infinite_mask(shape: Shape, classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), Masked())


def numpy_init(shape: Shape, classes: int) -> nn.Module:
    net = network(nn.Linear(INPUTS, WIDTH), nn.ReLU())
    with torch.no_grad():
        drawn = np.random.normal(0, 0.2, (WIDTH, INPUTS))  # noqa: NPY002 - the global generator
        net.features[1].weight.copy_(torch.as_tensor(drawn))
        net.head.bias.fill_(random.random())
    return net


class NumpyNoise(nn.Module):
    """Draws from the global generators of NumPy and Python while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = np.random.normal(1, 0.1, x.shape)  # noqa: NPY002 - the global generator
        return x * torch.as_tensor(noise, dtype=x.dtype) * random.choice((0.5, 1.5))


def numpy_noise(shape: Shape, classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), nn.ReLU(), NumpyNoise())


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.view(-1, 4, 6)).flatten(1)


def transformer(shape: Shape, classes: int) -> nn.Module:
    return network(Encoder(), nn.Linear(INPUTS, WIDTH))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(6, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.view(-1, 4, 6))[0][:, -1]


def lstm(shape: Shape, classes: int) -> nn.Module:
    return network(Recurrent())


def unused_parameter(shape: Shape, classes: int) -> nn.Module:
    net = network(nn.Linear(INPUTS, WIDTH), nn.Tanh())
    net.unused = nn.Linear(3, 3)
    return net


def frozen_layer(shape: Shape, classes: int) -> nn.Module:
    net = network(
        nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
    )
    net.features[1].requires_grad_(False)
    return net


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def convolutions(shape: Shape, classes: int) -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(1, 3, (2, 3), stride=(1, 2), padding=(1, 2)),
        nn.ReLU(),
        nn.Conv2d(3, 2, 3, padding="same"),
        nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(2, 2, 2, stride=2, bias=False),
        nn.Flatten(),
    )
    return Classifier(features, nn.LazyLinear(classes))


def own_forward(shape: Shape, classes: int) -> nn.Module:
    return network(Doubled(INPUTS, WIDTH), nn.ReLU())


def hooked(shape: Shape, classes: int) -> nn.Module:
    net = network(nn.Linear(INPUTS, WIDTH), nn.ReLU())
    net.features[1].register_forward_hook(lambda module, inputs, out: 3 * out)
    return net


def rarely_noisy(shape: Shape, classes: int) -> nn.Module:
    """Draws at every step of training, and once in a thousand that changes the outputs."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out * (torch.rand(()) > 0.001) if module.training else out

    net = network(nn.Linear(INPUTS, WIDTH), nn.ReLU())
    net.features[2].register_forward_hook(hook)
    return net


def hooked_input(shape: Shape, classes: int) -> nn.Module:
    net = network(nn.Linear(INPUTS, WIDTH), nn.ReLU())
    net.features.register_forward_pre_hook(lambda module, inputs: (inputs[0] ** 2,))
    return net


class Remembering(nn.Module):
    """Reads a weight through a list, which is no submodule's."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(INPUTS, WIDTH)
        self.held = [self.layer.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(x, self.held[0]).tanh()


def read_twice(shape: Shape, classes: int) -> nn.Module:
    return network(Remembering())


KINDS = {
    make.__name__: make
    for make in (
        *(
            lazy,
            lazy_convolution,
            shared_module,
            shared_rectifiers,
            shared_between_rectifiers,
        ),
        *(tied_weights, dropout, little_dropout, batch_norm, group_norm, spectral_norm),
        *(
            weight_norm,
            pruned,
            parameter_free,
            buffers,
            hidden_buffer,
            infinite_mask,
            numpy_init,
        ),
        *(
            numpy_noise,
            transformer,
            lstm,
            unused_parameter,
            frozen_layer,
            own_forward,
            hooked,
            convolutions,
        ),
        *(rarely_noisy, hooked_input, read_twice),
    )
}
