"""Models on which rules trusted by a layer's type go wrong, and ordinary ones: a row each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm
from torchvision import models

IMAGE = (3, 8, 8)
CLASSES = 4
PIXELS = 3 * 8 * 8


class Net(nn.Module):
    """head(features(x)), as all models of the library."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def dense(*layers: nn.Module, width: int = 12) -> Net:
    """An input layer, the given ones of that width, and a head."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, width), nn.Tanh(), *layers)
    return Net(body, nn.Linear(width, CLASSES))


def maps(*layers: nn.Module, width: int = 6) -> Net:
    """A convolution, the given layers on maps of that width, and a head on their means."""
    body = [nn.Conv2d(3, width, 3, padding=1), nn.Tanh(), *layers]
    return Net(
        nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(width, CLASSES),
    )


class Standardised(nn.Conv2d):
    """Weight standardisation, as of ResNets with GroupNorm."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Cosine(nn.Linear):
    """A head of cosines."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x), F.normalize(self.weight)) * 5 + self.bias


class LayerNorm2d(nn.LayerNorm):
    """torchvision's, over the channels of maps."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class LoRA(nn.Linear):
    """A frozen weight and a low-rank update that starts at zero."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside)
        self.weight.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(2, inside) * 0.3)
        self.up = nn.Parameter(torch.zeros(outside, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.down.T @ self.up.T


class Adapter(nn.Module):
    """LoRA around a layer, all of it trained."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))


class Scaled(nn.Linear):
    """Nothing but the factor tells it from a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.01 * super().forward(x)


class ReadTwice(nn.Module):
    """Its weight is read a second time, outside the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) @ self.layer.weight


class NoGrad(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inside(x)


class Detached(NoGrad):
    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x).detach()


class Merged(nn.Module):
    """A layer on rows and places merged into one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x.reshape(-1, 8))).reshape(len(x), -1)


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(PIXELS, 12)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(input=x.flatten(1)))


class Sequence(nn.Module):
    """A recurrent layer over the rows of an image, its last output."""

    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.layer = kind(8, 6, **options)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)
        if self.layer.batch_first:
            return self.layer(x)[0][:, -1]
        return self.layer(x.transpose(0, 1))[0][-1]


class Encoder(nn.Module):
    """A transformer layer over the rows of an image."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.enter = nn.Linear(8, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x.flatten(1, 2))
        if self.batch_first:
            return self.encoder(x).mean(1)
        return self.encoder(x.transpose(0, 1)).mean(0)


class Words(nn.Module):
    """Pixels as tokens: 20 places of a vocabulary of 9, small beside them, or of a large one."""

    def __init__(self, count: int = 9, **options: object) -> None:
        super().__init__()
        self.table = nn.Embedding(count, 6, **options)

    def forward(self, x: Tensor) -> Tensor:
        ids = (x.flatten(1)[:, :20] * 8).long()
        places = torch.arange(20, dtype=x.dtype) + 1
        found = torch.tanh(self.table(ids)) * places[:, None]
        return found.mean(1)


class Places(Words):
    """Vectors of places, the same for all rows, beside those of words.

    `how` says what the table of places is read at, and what is made of what it gives.
    """

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.places = nn.Embedding(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        ids = (x.flatten(1)[:, :20] * 8).long()
        order = torch.arange(20)
        if self.how != "no axis":
            order = order[None]
        places = self.places(order)
        if self.how == "first row":
            places = places[0]
        if self.how == "view":
            places = places.view(20, 6)
        if self.how == "in place":
            places.mul_(2)
        return torch.tanh(self.table(ids) + places).mean(1)


class Tied(nn.Module):
    """The head's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = Words()
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 9)
        self.head.weight = self.features.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.features(x)))


class InPlace(nn.Module):
    """A residual block that adds and scales in place, as torchvision's, and rectifies so."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.rectify = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        out += x
        out *= 2
        return self.rectify(out)


class InputInPlace(nn.Module):
    """What the layer was given is changed afterwards; no backward pass of its own needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12)
        self.layer.weight.requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        given = x.clone()
        out = self.layer(given.clone())
        given.mul_(2)
        return out + given


class View(nn.Module):
    """Asks for a view of its maps, which channels last do not give."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


class Raw(nn.Module):
    """Parameters of no layer, one of them without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.shift = nn.Parameter(torch.randn(12))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Gated(nn.Module):
    """A branch that starts at zero, and whose layer is scaled by what stands behind the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = Scaled(12, 12)
        self.gate = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * self.branch(x)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, args, out: 3 * out)
    return layer


def prehooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    return layer


def pruned(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", amount=0.6)


def overridden(layer: nn.Linear) -> nn.Linear:
    """Its forward function is set on the object."""
    layer.forward = lambda x: F.linear(x, layer.weight.square(), layer.bias)
    return layer


def twice() -> Net:
    layer = nn.Linear(12, 12)
    return dense(layer, nn.Tanh(), layer, nn.Tanh())


def tied_layers() -> Net:
    first = nn.Linear(12, 12)
    second = nn.Linear(12, 12)
    second.weight = first.weight
    return dense(first, nn.Tanh(), second, nn.Tanh())


def alias() -> Net:
    """The head is a layer of the features too: one module, two names, one run."""
    net = dense()
    net.features.last = net.head
    net.features.forward = nn.Sequential(*list(net.features)[:-1]).forward
    return net


def bias_alone() -> Net:
    net = dense(nn.Linear(12, 12), nn.Tanh())
    net.features[3].weight.requires_grad_(False)
    return net


def lazy() -> Net:
    net = Net(
        nn.Sequential(nn.Flatten(), nn.LazyLinear(12), nn.Tanh()),
        nn.LazyLinear(CLASSES),
    )
    net(torch.zeros(2, *IMAGE))
    return net


def unused() -> Net:
    net = dense()
    net.aside = nn.Linear(3, 3)
    return net


def running(net: Net) -> Net:
    """Gives batch normalisation statistics of its own."""
    for module in net.modules():
        if (
            isinstance(module, nn.modules.batchnorm._NormBase)
            and module.running_mean is not None
        ):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return net


@dataclass(frozen=True)
class Row:
    """A model of the table.

    Attributes:
        make: returns it, at random parameters.
        moved: layers whose rule is not right, told in the log.
        one_by_one: in float64, the remaining parameters are differentiated a row at a time.
        classes: number of its outputs.
    """

    make: Callable[[], nn.Module]
    moved: tuple[str, ...] = ()
    one_by_one: bool = False
    classes: int = CLASSES

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return running(self.make()).double().eval()


MODELS = {
    "dense": Row(lambda: dense(nn.Linear(12, 12), nn.ReLU())),
    "convolutions": Row(
        lambda: maps(nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.ReLU())
    ),
    "spectral norm": Row(
        lambda: dense(parametrizations.spectral_norm(nn.Linear(12, 12)))
    ),
    "weight norm": Row(lambda: dense(parametrizations.weight_norm(nn.Linear(12, 12)))),
    "orthogonal": Row(lambda: dense(parametrizations.orthogonal(nn.Linear(12, 12)))),
    "old spectral norm": Row(lambda: dense(spectral_norm(nn.Linear(12, 12)))),
    "pruned": Row(lambda: dense(pruned(nn.Linear(12, 12)))),
    "pruned convolution": Row(lambda: maps(pruned(nn.Conv2d(6, 6, 3)))),
    "weight standardisation": Row(lambda: maps(Standardised(6, 6, 3)), ("features.2",)),
    "cosine head": Row(
        lambda: Net(
            nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 6)), Cosine(6, CLASSES)
        ),
        ("head",),
    ),
    "layer norm of channels": Row(lambda: maps(LayerNorm2d(6)), ("features.2",)),
    "LoRA in a subclass": Row(lambda: dense(LoRA(12, 12))),
    "LoRA around a layer": Row(lambda: dense(Adapter(nn.Linear(12, 12)))),
    "scaled subclass": Row(lambda: dense(Scaled(12, 12)), ("features.3",)),
    "scaled behind a closed gate": Row(lambda: dense(Gated()), ("features.3.branch",)),
    "forward set on the object": Row(
        lambda: dense(overridden(nn.Linear(12, 12))), ("features.3",)
    ),
    "weight read twice": Row(lambda: dense(ReadTwice()), ("features.3.layer",)),
    "forward hook that scales": Row(lambda: dense(hooked(nn.Linear(12, 12)))),
    "forward pre-hook that scales": Row(lambda: dense(prehooked(nn.Linear(12, 12)))),
    "backbone under no_grad": Row(
        lambda: Net(NoGrad(dense().features), nn.Linear(12, CLASSES)),
    ),
    "layer under no_grad": Row(
        lambda: Net(
            NoGrad(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 12))),
            nn.Linear(12, CLASSES),
        )
    ),
    "backbone detached": Row(
        lambda: Net(Detached(dense().features), nn.Linear(12, CLASSES))
    ),
    "merged axes": Row(
        lambda: Net(Merged(), nn.Linear(96, CLASSES)), ("features.layer",)
    ),
    "keyword call": Row(lambda: Net(Keyword(), nn.Linear(12, CLASSES))),
    "LSTM": Row(
        lambda: Net(Sequence(nn.LSTM, batch_first=True), nn.Linear(6, CLASSES)),
        one_by_one=True,
    ),
    "LSTM of two layers and directions": Row(
        lambda: Net(
            Sequence(nn.LSTM, num_layers=2, bidirectional=True), nn.Linear(12, CLASSES)
        ),
        one_by_one=True,
    ),
    "GRU": Row(lambda: Net(Sequence(nn.GRU), nn.Linear(6, CLASSES)), one_by_one=True),
    "encoder, batch first": Row(
        lambda: Net(Encoder(True), nn.Linear(8, CLASSES)),
        ("features.encoder.self_attn.out_proj",),
    ),
    "encoder, batch second": Row(
        lambda: Net(Encoder(False), nn.Linear(8, CLASSES)),
        (
            "features.encoder.self_attn.out_proj",
            "features.encoder.linear1",
            "features.encoder.linear2",
            "features.encoder.norm1",
            "features.encoder.norm2",
        ),
    ),
    "embedding": Row(lambda: Net(Words(), nn.Linear(6, CLASSES))),
    "sparse embedding": Row(lambda: Net(Words(sparse=True), nn.Linear(6, CLASSES))),
    "large embedding": Row(lambda: Net(Words(200), nn.Linear(6, CLASSES))),
    "large embedding with padding": Row(
        lambda: Net(Words(200, padding_idx=3), nn.Linear(6, CLASSES))
    ),
    "places of all rows": Row(lambda: Net(Places("axis"), nn.Linear(6, CLASSES))),
    "places without an axis of rows": Row(
        lambda: Net(Places("no axis"), nn.Linear(6, CLASSES))
    ),
    "places of which a row is taken": Row(
        lambda: Net(Places("first row"), nn.Linear(6, CLASSES)), ("features.places",)
    ),
    "places of which a view is asked": Row(
        lambda: Net(Places("view"), nn.Linear(6, CLASSES)), ("features.places",)
    ),
    "places changed in place": Row(
        lambda: Net(Places("in place"), nn.Linear(6, CLASSES))
    ),
    "tied head": Row(Tied, classes=9),
    "tied layers": Row(tied_layers),
    "module under two names": Row(twice, ("features.3",)),
    "alias of the head": Row(alias),
    "bias alone": Row(bias_alone),
    "lazy layers": Row(lazy),
    "batch norm": Row(lambda: maps(nn.BatchNorm2d(6), nn.ReLU())),
    "instance norm": Row(lambda: maps(nn.InstanceNorm2d(6, affine=True), nn.Tanh())),
    "group norm": Row(lambda: maps(nn.GroupNorm(2, 6), nn.Tanh())),
    "grouped convolution": Row(lambda: maps(nn.Conv2d(6, 6, 3, groups=3))),
    "circular padding": Row(
        lambda: maps(nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"))
    ),
    "transposed convolution": Row(lambda: maps(nn.ConvTranspose2d(6, 6, 3, stride=2))),
    "changed in place": Row(lambda: maps(InPlace(), InPlace())),
    "input changed in place": Row(lambda: dense(InputInPlace())),
    "a view of the maps": Row(
        lambda: Net(
            nn.Sequential(nn.Conv2d(3, 4, 3), View(), nn.Linear(144, 12)),
            nn.Linear(12, CLASSES),
        )
    ),
    "raw parameters": Row(lambda: dense(Raw())),
    "layer that never runs": Row(unused, ("aside",)),
    "pooled twice": Row(lambda: maps(nn.MaxPool2d(2), nn.Conv2d(6, 6, 1, bias=False))),
}


class BatchOfOne(nn.Module):
    """Works on one row at a time only, as its name says: for a batch the first row is taken."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:1].expand_as(x)


class Centred(nn.Module):
    """Subtracts the mean over the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Broken(nn.Module):
    """Breaks off the tape by a way through numpy, which refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() * 2)


class Rotated(nn.Module):
    """Complex weights, of which the sizes are returned."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 12, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.weight.dtype) @ self.weight).abs()


class Untracked(Net):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Inferred(Net):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Decided(Net):
    """Gives its decision in the place of logits."""

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(super().forward(x).argmax(1), CLASSES).to(x.dtype)


class Pair(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


def training_layer() -> Net:
    net = dense(nn.Dropout(0.5)).eval()
    net.features[3].train()
    return net


def headless() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, (1, PIXELS)),
        nn.Conv1d(1, CLASSES, PIXELS),
        nn.Flatten(),
    )


def frozen() -> Net:
    return dense().requires_grad_(False)


# name -> model, layers, and what the refusal names
REFUSED = {
    "embedding of bounded norm": (
        lambda: Net(Words(200, max_norm=0.5), nn.Linear(6, CLASSES)).eval(),
        "all",
        r"layer 'features\.table' \(Embedding\) shortens its vectors.*max_norm=None",
    ),
    "embedding scaled by frequency": (
        lambda: Net(Words(scale_grad_by_freq=True), nn.Linear(6, CLASSES)).eval(),
        "all",
        r"layer 'features\.table' \(Embedding\) divides gradients by how often",
    ),
    "batch norm without running statistics": (
        lambda: maps(nn.BatchNorm2d(6, track_running_stats=False)).eval(),
        "all",
        r"layer 'features\.2' \(BatchNorm2d\) has no running statistics.*GroupNorm",
    ),
    "the same before the head alone": (
        lambda: maps(nn.BatchNorm2d(6, track_running_stats=False)).eval(),
        "last",
        r"layer 'features\.2' \(BatchNorm2d\)",
    ),
    "training mode": (dense, "all", r"evaluation mode, got training mode.*model\.eval"),
    "a layer in training mode": (
        training_layer,
        "all",
        r"layer 'features\.3' \(Dropout\)",
    ),
    "centred on the batch": (
        lambda: dense(Centred()).eval(),
        "all",
        r"layer 'features\.3' \(Centred\) gives a row another result when other rows",
    ),
    "the first row for all": (
        lambda: dense(BatchOfOne()).eval(),
        "all",
        r"rows are beside it",
    ),
    "a random layer": (
        lambda: dense(Noisy()).eval(),
        "last",
        r"layer 'features\.3' \(Noisy\)",
    ),
    "no way back": (
        lambda: dense(Broken()).eval(),
        "all",
        r"layer 'features\.3' \(Broken\) cannot be differentiated.*requires_grad_\(False\)",
    ),
    "a wrong width": (
        lambda: dense(nn.Linear(7, 12)).eval(),
        "all",
        r"layer 'features\.3' \(Linear\) cannot be run on the data",
    ),
    "not logits": (
        lambda: Pair(nn.Flatten(), nn.Linear(PIXELS, CLASSES)).eval(),
        "all",
        r"the model \(Pair\) must return logits \(rows, classes\), got tuple",
    ),
    "no head": (
        lambda: headless().eval(),
        "last",
        r"has no head: no nn\.Linear gives its logits .*head='...'",
    ),
    "complex weights": (
        lambda: dense(Rotated()).eval(),
        "all",
        r"layer 'features\.3' \(Rotated\) has a complex parameter 'weight'.*view_as_real",
    ),
    "all frozen": (
        lambda: frozen().eval(),
        "all",
        r"no parameter that requires a gradient",
    ),
}

for _kind in (Untracked, Inferred, Decided):
    REFUSED[f"cut off: {_kind.__name__}"] = (
        lambda kind=_kind: kind(nn.Flatten(), nn.Linear(PIXELS, CLASSES)).eval(),
        "all",
        rf"the model \({_kind.__name__}\) gives logits that autograd does not follow back",
    )


def torchvision_model(name: str, **options: object) -> Net:
    """A model of torchvision as it is called there, on small images."""
    built = models.get_model(name, weights=None, num_classes=CLASSES, **options)
    return Net(built, nn.Identity())


TORCHVISION = {
    "resnet18": {},
    "convnext_tiny": {},
    "vit_b_16": {"image_size": 32},
    "swin_t": {},
}


def small_convnext() -> nn.Module:
    setting = models.convnext.CNBlockConfig
    return models.ConvNeXt([setting(6, 8, 1), setting(8, None, 1)], num_classes=CLASSES)


def small_vit() -> nn.Module:
    return models.VisionTransformer(
        image_size=8,
        patch_size=4,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=12,
        num_classes=CLASSES,
    )


def small_swin() -> nn.Module:
    return models.SwinTransformer(
        patch_size=[2, 2],
        embed_dim=8,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=[2, 2],
        num_classes=CLASSES,
    )


def small_resnet() -> nn.Module:
    return models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)


# the classes of the former, with little to compute
TORCHVISION_SMALL = {
    "ResNet": small_resnet,
    "ConvNeXt": small_convnext,
    "VisionTransformer": small_vit,
    "SwinTransformer": small_swin,
}
