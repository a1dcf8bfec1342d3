"""Models: features and head, every pixel seen, equal seeds equal parameters, clear refusals."""

import pytest
import torch
from conftest import random_data
from torch import nn

from poisonbench.data import Layout
from poisonbench.errors import ConfigError
from poisonbench.models import MODELS, build, predict
from poisonbench.models.normed import GlobalMax, Whitened
from poisonbench.models.pictures import GlobalMean, Normalize, Residual

SENTENCES = {"text-cnn", "transformer"}
PICTURES = sorted(MODELS.keys() - SENTENCES)
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 7, 9)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PICTURES)
def test_every_pixel_reaches_the_logits(name: str, shape: tuple[int, ...]):
    model = build(name, Layout(shape, 5, "image"), 0)
    x = torch.rand(
        (24, *shape), generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    (g,) = torch.autograd.grad(model(x).square().sum(), x)
    assert bool((g.abs().sum(0) > 0).all()), (
        "a trigger on an unseen pixel could never work"
    )


@pytest.mark.parametrize("name", PICTURES)
def test_logits_are_the_head_of_the_features(name: str):
    model, x = (
        build(name, Layout((1, 8, 8), 10, "image"), 0),
        random_data(3, (1, 8, 8), dtype=torch.float32).x,
    )
    assert model.features(x).dim() == 2
    assert torch.equal(model(x), model.head(model.features(x)))


def test_equal_seeds_give_equal_parameters_and_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    a, b, c = (
        build("cnn", Layout((1, 8, 8), 10, "image"), seed).state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])


def test_no_group_or_batch_statistics_of_the_training_set():
    for name in set(PICTURES) - {"cnn7", "resnet18"}:
        assert not list(build(name, Layout((3, 32, 32), 10, "image"), 0).buffers())


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("cnnn", "did you mean 'cnn'"),
        ("test_models:absent", "has no 'absent'"),
        ("no_such_module:thing", "cannot import"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason(name: str, match: str):
    with pytest.raises(ConfigError, match=match):
        build(name, Layout((1, 8, 8), 10, "image"), 0)


def test_image_models_refuse_vectors():
    with pytest.raises(ConfigError, match="works on images"):
        build("cnn", Layout((12,), 10, "vector"), 0)
    assert build("mlp", Layout((12,), 10, "vector"), 0)(torch.zeros(2, 12)).shape == (
        2,
        10,
    )


def test_pixels_are_mapped_to_two_on_either_side_of_zero():
    assert Normalize()(torch.tensor([0.0, 0.25, 0.5, 1.0])).tolist() == [
        -2.0,
        -1.0,
        0.0,
        2.0,
    ]


def test_a_residual_block_adds_what_it_computes_and_the_mean_is_over_the_pixels():
    x = torch.arange(12.0).view(1, 3, 2, 2)
    assert torch.equal(Residual(nn.Identity(), nn.Identity())(x), 2 * x)
    assert GlobalMean()(x).tolist() == [[1.5, 5.5, 9.5]]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("linear", [(10, 64), (10,)]),
        ("mlp", [(64, 64), (64,), (64, 64), (64,), (10, 64), (10,)]),
        (
            "cnn",
            [
                (16, 1, 3, 3),
                (16,),
                (32, 16, 3, 3),
                (32,),
                (64, 128),
                (64,),
                (10, 64),
                (10,),
            ],
        ),
    ],
)
def test_a_model_has_the_layers_that_it_names(name: str, sizes: list[tuple[int, ...]]):
    assert [
        tuple(p.shape)
        for p in build(name, Layout((1, 8, 8), 10, "image"), 0).parameters()
    ] == sizes


def test_resnet9_has_eight_convolutions_a_head_and_groups_of_sixteen_channels():
    model = build("resnet9", Layout((3, 32, 32), 10, "image"), 0)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.GroupNorm)]
    assert [m.out_channels for m in convolutions] == [
        64,
        128,
        128,
        128,
        256,
        512,
        512,
        512,
    ]
    assert [(m.num_channels, m.num_channels // m.num_groups) for m in norms] == [
        (m.out_channels, 16) for m in convolutions
    ]
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == 3
    assert 6.5e6 < sum(p.numel() for p in model.parameters()) < 6.7e6


def test_resnet18_is_that_of_torchvision_with_a_stem_of_one_3x3_convolution():
    """Equal states give equal outputs, in evaluation with moved statistics and in training."""
    torchvision = pytest.importorskip("torchvision")
    other = torchvision.models.resnet18(num_classes=10).double()
    other.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False).double()
    other.maxpool = nn.Identity()
    model = build("resnet18", Layout((3, 32, 32), 10, "image"), 0).double()
    keys = list(other.state_dict())
    other.load_state_dict(dict(zip(keys, model.state_dict().values(), strict=True)))
    x = random_data(4, (3, 32, 32)).x
    for training in (True, False):
        model.train(training)
        other.train(training)
        got, want = model(x), other((x - 0.5) * 4)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_cnn7_has_six_convolutions_each_with_a_norm_and_begins_with_the_identity():
    model = build("cnn7", Layout((3, 32, 32), 10, "image"), 0)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    widths = [m.out_channels for m in convolutions]
    assert widths == [64, 64, 192, 192, 256, 256]
    assert [m.num_features for m in norms] == widths
    for convolution in convolutions:
        inside = convolution.in_channels
        x = torch.rand(1, inside, 5, 5)
        torch.testing.assert_close(convolution(x)[:, :inside], x)
    assert 1.5e6 < sum(p.numel() for p in model.parameters()) < 1.6e6


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_whitening_keeps_the_directions_of_patches_apart_and_has_both_signs(
    channels: int,
):
    kernel = Whitened(channels).kernel.double().flatten(1)
    assert torch.equal(kernel[: 4 * channels], -kernel[4 * channels :])
    products = kernel[: 4 * channels] @ kernel[: 4 * channels].T
    spreads = products.diagonal().rsqrt()
    torch.testing.assert_close(
        products * spreads * spreads[:, None], torch.eye(4 * channels).double()
    )
    assert float(spreads.max()) == pytest.approx(3.2)


def test_whitening_is_of_brightness_and_differences_in_units_of_their_spread():
    """On a patch by hand: of one colour, of a step to the right, and of one colour alone."""
    whitened = Whitened(3)
    grey = torch.ones(1, 3, 2, 2)
    found = whitened(grey).flatten()[:12]
    assert float(found[0]) == pytest.approx(12**0.5 / 3.2, rel=1e-5)
    torch.testing.assert_close(found[1:], torch.zeros(11), atol=1e-5, rtol=0.0)
    step = torch.tensor([1.0, -1.0]).expand(1, 3, 2, 2)
    found = whitened(step).flatten()[:12]
    assert float(found[1]) == pytest.approx(12**0.5 / 0.6, rel=1e-5)
    red = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    found = whitened(red).flatten()[:12]
    assert float(found[4]) == pytest.approx(8**0.5 / 0.93, rel=1e-5)


def test_the_whitening_is_not_trained_and_the_same_for_every_seed():
    layout = Layout((3, 8, 8), 10, "image")
    models = [build("cnn7", layout, seed) for seed in (0, 1)]
    kernels = [dict(model.named_buffers())["features.1.kernel"] for model in models]
    assert torch.equal(*kernels)
    assert not any("kernel" in name for name, _ in models[0].named_parameters())


def test_the_largest_value_over_the_pixels_is_scaled():
    x = torch.arange(12.0).view(1, 3, 2, 2)
    assert GlobalMax(2.0)(x).tolist() == [[6.0, 14.0, 22.0]]


class Shapes(nn.Module):
    """Remembers how the images of each pass lie in memory."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside
        self.pixelwise: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last
        self.pixelwise.append(x.is_contiguous(memory_format=layout))
        return self.inside(x)


class Viewed(nn.Module):
    """Needs maps that lie channel by channel: a view refuses others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(len(x), -1)


class AsItLies(nn.Module):
    """Reads the values in the order in which they lie in memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.as_strided((len(x), x[0].numel()), (x[0].numel(), 1))


def _images(n: int) -> torch.Tensor:
    return torch.rand((n, 3, 16, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["cnn", "cnn7", "resnet9", "resnet18"])
def test_many_images_get_the_logits_of_each_alone(name: str):
    model = build(name, Layout((3, 16, 16), 10, "image"), 0)
    x = _images(70)
    with torch.no_grad():
        apart = torch.cat([model(one[None]) for one in x])
    many = Shapes(model)
    torch.testing.assert_close(predict(many, x, batch=32), apart, rtol=1e-4, atol=1e-5)
    assert all(many.pixelwise[-3:]), "the passes should be those that take half as long"
    few = Shapes(model)
    torch.testing.assert_close(predict(few, x), apart, rtol=1e-4, atol=1e-5)
    assert few.pixelwise == [False], "a trial costs more than it saves on few images"


@pytest.mark.parametrize("flat", [Viewed(), AsItLies()], ids=["viewed", "as it lies"])
def test_a_model_that_needs_maps_channel_by_channel_gets_them(flat: nn.Module):
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    model = nn.Sequential(convolution, flat, nn.Linear(4 * 16 * 16, 5))
    x = _images(70)
    with torch.no_grad():
        apart = torch.cat([model(one[None]) for one in x])
    torch.testing.assert_close(predict(model, x, batch=32), apart, rtol=1e-4, atol=1e-5)
