"""The gradient engine and the estimators on it.

Against brute-force autograd, closed forms and invariances.
"""

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.nn import functional as F

from estimators.gas import GAS
from estimators.kit.checkpoints import checkpoint_sum
from estimators.tracin import TracIn
from poisonbench.convolution import GATHERED, in_gradient_order, weight_gradient
from poisonbench.data import Dataset, Layout
from poisonbench.gradients import (
    Form,
    dot_products,
    gradient_norms,
    gradient_vectors,
    plan,
    project,
)
from poisonbench.gradients.forms import Ghost
from poisonbench.memory import CPU, SMALLEST, Budget, halving, room
from poisonbench.models import build
from poisonbench.objectives import logit_gradient, margins, utility
from poisonbench.training import Recipe, train


def brute_force(model: nn.Module, data: Dataset, form: Form) -> list[list[Tensor]]:
    """Per instance, the gradients of each layer (weight and bias together).

    By plain autograd on one instance at a time.
    """
    modules = [
        m
        for m in model.modules()
        if any(p.requires_grad for p in m.parameters(recurse=False))
    ]
    if form.layers == "last":
        modules = [m for m in modules if m is model.head]
    rows = []
    for i in range(len(data)):
        logits = model(data.x[i : i + 1])
        value = (
            F.cross_entropy(logits, data.y[i : i + 1])
            if form.objective == "loss"
            else margins(logits, data.y[i : i + 1]).sum()
        )
        params = [
            [p for p in m.parameters(recurse=False) if p.requires_grad] for m in modules
        ]
        flat = torch.autograd.grad(value, [p for ps in params for p in ps])
        it = iter(flat)
        rows.append([torch.cat([next(it).flatten() for _ in ps]) for ps in params])
    return rows


def expected(model: nn.Module, train_set: Dataset, test: Dataset, form: Form) -> Tensor:
    a, b = brute_force(model, test, form), brute_force(model, train_set, form)
    out = torch.zeros(len(a), len(b), dtype=test.x.dtype)
    for j, row in enumerate(a):
        for i, col in enumerate(b):
            if form.renormalize == "all":
                out[j, i] = F.cosine_similarity(torch.cat(row), torch.cat(col), dim=0)
            elif form.renormalize == "layer":
                out[j, i] = sum(
                    (u @ v) / (u.norm() * v.norm()) if u.norm() * v.norm() > 0 else 0.0
                    for u, v in zip(row, col, strict=True)
                )
            else:
                out[j, i] = torch.cat(row) @ torch.cat(col)
    return out


FORMS = [
    Form(),
    Form(layers="last"),
    Form("margin"),
    Form("margin", "all"),
    Form("margin", "layer"),
    Form("margin", "all", "last"),
]


@pytest.mark.parametrize("form", FORMS, ids=repr)
@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "resnet9"])
def test_engine_equals_autograd_one_instance_at_a_time(name: str, form: Form):
    train_set, test = random_data(4, seed=1), random_data(3, seed=2)
    model = build(name, Layout((2, 8, 8), 10, "image"), 0).double()
    torch.testing.assert_close(
        dot_products(model, train_set, test, form),
        expected(model, train_set, test, form),
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.parametrize("form", [FORMS[0], FORMS[4]], ids=repr)
@pytest.mark.parametrize("name", ["cnn7", "resnet18"])
def test_engine_equals_autograd_with_statistics_of_some_batches(name: str, form: Form):
    train_set, test = random_data(3, seed=1), random_data(2, seed=2)
    model = build(name, Layout((2, 8, 8), 10, "image"), 0).double()
    model.train()(random_data(8, seed=3).x)
    model.eval()
    torch.testing.assert_close(
        dot_products(model, train_set, test, form),
        expected(model, train_set, test, form),
        rtol=1e-9,
        atol=1e-9,
    )


class Zoo(nn.Module):
    """Layers with and without rules.

    Strides, dilation, groups, 'same' padding, norms, tied and raw parameters.
    """

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, (3, 5), stride=2, padding=(1, 0))
        self.grouped = nn.Conv2d(6, 6, 3, groups=2, padding=1)
        self.same = nn.Conv2d(6, 6, (2, 3), padding="same", dilation=2)
        self.point = nn.Conv2d(6, 4, 1, bias=False)
        self.batch, self.group, self.layer = (
            nn.BatchNorm2d(6),
            nn.GroupNorm(2, 6),
            nn.LayerNorm((3, 8)),
        )
        self.twice = nn.Linear(8, 8)
        self.sequence = nn.Linear(8, 5)
        self.scale, self.shift = (
            nn.Parameter(torch.full((4, 1, 1), 1.3)),
            nn.Parameter(torch.tensor(0.2)),
        )
        self.rectify = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectify(self.conv(x))
        x = self.rectify(self.group(self.grouped(x))) + self.same(self.batch(x))
        x = self.point(x) * self.scale + self.shift
        x = x.flatten(2)[:, :3, :8]
        x = self.twice(torch.tanh(self.twice(self.layer(x))))
        return self.sequence(x).flatten(1)


class ZooModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.head = Zoo(), nn.Linear(15, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def zoo() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = ZooModel().double()
        model.features.batch.running_mean.uniform_(-1, 1)
        model.features.batch.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.parametrize("form", [Form(), Form("margin", "all")], ids=repr)
def test_engine_equals_autograd_on_unusual_layers(form: Form):
    model, train_set, test = (
        zoo(),
        random_data(5, (3, 9, 13), 7, seed=1),
        random_data(4, (3, 9, 13), 7, seed=2),
    )
    torch.testing.assert_close(
        dot_products(model, train_set, test, form),
        expected(model, train_set, test, form),
        rtol=1e-9,
        atol=1e-9,
    )


def test_engine_equals_autograd_on_large_images():
    train_set, test = (
        random_data(3, (3, 28, 24), seed=1),
        random_data(2, (3, 28, 24), seed=2),
    )
    model = build("cnn", Layout((3, 28, 24), 10, "image"), 0).double()
    for form in (Form(), Form("margin", "all")):
        torch.testing.assert_close(
            dot_products(model, train_set, test, form),
            expected(model, train_set, test, form),
            rtol=1e-10,
            atol=1e-10,
        )


@pytest.mark.parametrize("objective", ["loss", "margin"])
@pytest.mark.parametrize("large", [False, True])
def test_projecting_on_the_test_gradients_gives_the_dot_products(
    objective: str, large: bool
):
    model, shape, classes = (
        (build("cnn", Layout((1, 28, 24), 10, "image"), 0).double(), (1, 28, 24), 10)
        if large
        else (zoo(), (3, 9, 13), 7)
    )
    train_set, test = (
        random_data(5, shape, classes, seed=1),
        random_data(4, shape, classes, seed=2),
    )
    vectors = gradient_vectors(model, test, objective)
    assert vectors.keys() == dict(model.named_parameters()).keys()
    got = project(model, train_set, vectors, Form(objective))
    torch.testing.assert_close(
        got,
        dot_products(model, train_set, test, Form(objective)),
        rtol=1e-10,
        atol=1e-10,
    )


CONVOLUTIONS = [
    nn.Conv2d(2, 3, 3, padding=1),
    nn.Conv2d(2, 3, (2, 5), padding=(0, 2)),
    nn.Conv2d(2, 3, (4, 3), padding="same"),
    nn.Conv2d(2, 3, 7, padding="valid"),
    nn.Conv2d(2, 3, 3, padding=1, dilation=2, stride=(1, 3)),
]


LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    "gathered", [1, 8 << 20], ids=["an image at a time", "all images"]
)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("pixelwise", [False, True])
@pytest.mark.parametrize("module", CONVOLUTIONS, ids=repr)
def test_weight_gradients_of_convolutions_are_those_of_autograd(
    module: nn.Conv2d, layout, pixelwise, gathered, monkeypatch
):
    monkeypatch.setitem(GATHERED, "cpu", gathered)
    g = torch.Generator().manual_seed(0)
    a = torch.rand((3, 2, 9, 11), generator=g, dtype=torch.float64).contiguous(
        memory_format=layout
    )
    weight = torch.rand(
        module.weight.shape, generator=g, dtype=torch.float64, requires_grad=True
    )
    out = F.conv2d(a, weight, None, module.stride, module.padding, module.dilation)
    d = torch.rand(out.shape, generator=g, dtype=torch.float64).contiguous(
        memory_format=layout
    )
    want = torch.stack(
        [
            torch.autograd.grad(out[i], weight, d[i], retain_graph=True)[0]
            for i in range(3)
        ]
    )
    torch.testing.assert_close(
        weight_gradient(module, a, d, pixelwise),
        in_gradient_order(want, pixelwise),
        rtol=1e-12,
        atol=1e-12,
    )


class Viewer(nn.Module):
    """Asks for a view of its maps, as many models from elsewhere do.

    No view of channels-last maps exists.
    """

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 26 * 22, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        return self.head(maps.view(len(maps), -1))


def test_a_model_that_needs_the_plain_layout_gets_it():
    model, x = Viewer().double().eval(), random_data(3, (3, 28, 24), 5, seed=1)
    assert not plan(model, "all", x.x).pixelwise
    assert plan(
        build("cnn", Layout((3, 28, 24), 5, "image"), 0).double(), "all", x.x
    ).pixelwise
    torch.testing.assert_close(
        dot_products(model, x, x), expected(model, x, x, Form()), rtol=1e-10, atol=1e-10
    )


def test_engine_leaves_the_model_as_it_was():
    model = zoo()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    dot_products(model, random_data(5, (3, 9, 13), 7), random_data(2, (3, 9, 13), 7))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.features.rectify.inplace
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_frozen_parameters_are_left_out():
    model, train_set, test = (
        build("cnn", Layout((2, 8, 8), 10, "image"), 0).double(),
        random_data(4, seed=1),
        random_data(3, seed=2),
    )
    for p in model.features.parameters():
        p.requires_grad_(False)
    torch.testing.assert_close(
        dot_products(model, train_set, test),
        dot_products(model, train_set, test, Form(layers="last")),
    )


BUDGETS = [
    ("cnn", Budget(1, 1)),
    *((name, Budget(1 << 20, 3)) for name in ("cnn", "resnet9")),
    ("cnn", Budget(1 << 30, 1000)),
]


@pytest.mark.parametrize(("name", "budget"), BUDGETS, ids=repr)
def test_blocks_do_not_change_the_result(name: str, budget: Budget):
    train_set, test, model = (
        random_data(8, seed=1),
        random_data(5, seed=2),
        build(name, Layout((2, 8, 8), 10, "image"), 0).double(),
    )
    whole = dot_products(model, train_set, test, Form("margin", "all"))
    torch.testing.assert_close(
        dot_products(model, train_set, test, Form("margin", "all"), budget),
        whole,
        rtol=1e-10,
        atol=1e-12,
    )


def test_out_of_memory_halves_the_block_and_goes_on():
    tried = []

    def run(size: int) -> int:
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("no room")
        return size

    assert halving(run, 20) == 2
    assert tried == [20, 10, 5, 2]
    with pytest.raises(torch.OutOfMemoryError):
        halving(lambda size: (_ for _ in ()).throw(torch.OutOfMemoryError("never")), 4)


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"):
        dot_products(
            build("cnn", Layout((2, 8, 8), 10, "image"), 0).double().train(),
            random_data(2),
            random_data(2),
        )


def test_gradient_norms_are_the_diagonal():
    data, model = (
        random_data(6),
        build("cnn", Layout((2, 8, 8), 10, "image"), 0).double(),
    )
    for form in (Form(), Form("margin"), Form(layers="last")):
        torch.testing.assert_close(
            gradient_norms(model, data, form) ** 2,
            dot_products(model, data, data, form).diag(),
            rtol=1e-10,
            atol=0,
        )


def test_cross_entropy_is_softplus_of_minus_margin():
    data = random_data(50, (12,), 12)
    logits = data.x * 20
    torch.testing.assert_close(
        F.softplus(-margins(logits, data.y)),
        F.cross_entropy(logits, data.y, reduction="none"),
        rtol=1e-12,
        atol=1e-12,
    )
    z = logits.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(z, data.y, reduction="sum"), z)
    torch.testing.assert_close(
        logit_gradient(logits, data.y, "loss"), g, rtol=1e-10, atol=1e-12
    )


# ---- TracIn and GAS ----

SMALL = Recipe(
    model="mlp",
    epochs=2,
    batch_size=16,
    lr=0.05,
    momentum=0.0,
    weight_decay=0.0,
    schedule="constant",
    checkpoints=3,
)


def test_tracin_at_checkpoints_is_the_weighted_sum_of_brute_force_products():
    data, test = random_data(20), random_data(3, seed=5)
    trace = train(data, SMALL, 0)
    want = sum(
        c.lr * expected(trace.model(k), data, test, Form())
        for k, c in enumerate(trace.checkpoints)
    )
    torch.testing.assert_close(TracIn().fit(trace)(test), want, rtol=1e-9, atol=1e-12)


def first_order_error(lr: float) -> tuple[float, float]:
    """|sum of the scores - loss change| and the loss change.

    For batch size 1 without momentum and decay.
    """
    data, test = random_data(12), random_data(5, seed=3)
    recipe = Recipe(
        model="mlp",
        epochs=1,
        batch_size=1,
        lr=lr,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        checkpoints=1,
    )
    trace = train(data, recipe, 0)
    with torch.no_grad():
        fall = sum(
            s * F.cross_entropy(m(test.x), test.y, reduction="none")
            for s, m in ((1, trace.initial()), (-1, trace.model()))
        )
    error = TracIn(mode="steps").fit(trace)(test).sum(1) - fall
    return float(error.norm()), float(fall.norm())


def test_tracin_over_steps_telescopes_to_the_loss_change():
    error, fall = first_order_error(1e-4)
    assert error < 1e-2 * fall


def test_halving_the_learning_rate_quarters_the_error_of_tracin_over_steps():
    errors = [first_order_error(lr)[0] for lr in (4e-4, 2e-4, 1e-4)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_steps_mode_weighs_by_the_batch():
    data, test = random_data(10), random_data(2, seed=4)
    recipe = Recipe(
        model="linear",
        epochs=1,
        batch_size=10,
        lr=0.1,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        checkpoints=1,
    )
    trace = train(data, recipe, 0)
    want = 0.1 / 10 * expected(trace.initial(), data, test, Form())
    torch.testing.assert_close(
        TracIn(mode="steps").fit(trace)(test), want, rtol=1e-10, atol=1e-14
    )


SELF = [
    TracIn(),
    TracIn(layers="last"),
    TracIn(mode="steps"),
    TracIn(renormalize=True),
    TracIn(mode="steps", renormalize=True),
    GAS(),
    GAS(True),
]


@pytest.mark.parametrize("estimator", SELF, ids=repr)
def test_self_influence_is_the_diagonal(estimator: TracIn | GAS):
    trace = train(random_data(20), SMALL, 0)
    torch.testing.assert_close(
        estimator.self_influence(trace),
        estimator.fit(trace)(trace.train).diag(),
        rtol=1e-10,
        atol=1e-14,
    )


@pytest.mark.parametrize("layers", ["all", "last"])
def test_projected_scores_are_unbiased_with_the_stated_standard_error(layers: str):
    data, test, d = random_data(20), random_data(3, seed=5), 64
    trace = train(data, SMALL, 0)
    exact = TracIn(layers=layers).fit(trace)(test)
    draws = torch.stack(
        [
            TracIn(layers=layers, projection=d, seed=s).fit(trace)(test)
            for s in range(30)
        ]
    )
    spread = torch.zeros_like(exact)
    for k, c in enumerate(trace.checkpoints):
        norms = [
            gradient_norms(trace.model(k), part, Form(layers=layers))
            for part in (test, data)
        ]
        spread += (c.lr * norms[0][:, None] * norms[1]) ** 2 * 2 / d
    z = (draws.mean(0) - exact) / (spread / 30).sqrt()
    assert float(z.abs().max()) < 4.5
    assert float(((draws - exact) ** 2).mean() / spread.mean()) < 1.1
    assert torch.equal(
        TracIn(projection=d).fit(trace)(test), TracIn(projection=d).fit(trace)(test)
    )


@pytest.mark.parametrize("layerwise", [False, True])
def test_gas_of_an_instance_with_itself_is_the_sum_of_the_weights_and_nothing_exceeds_it(
    layerwise: bool,
):
    data = random_data(20)
    trace = train(data, SMALL, 0)
    scores = GAS(layerwise).fit(trace)(data)
    top = sum(c.lr for c in trace.checkpoints) * (
        3 if layerwise else 1
    )  # three layers of the mlp
    torch.testing.assert_close(
        scores.diag(), torch.full((20,), top, dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert bool((scores.abs() <= top * (1 + 1e-12)).all())


@pytest.mark.parametrize("renormalize", ["all", "layer"])
def test_renormalised_scores_are_blind_to_the_scale_of_every_single_loss(
    renormalize: str,
):
    data, test, model = (
        random_data(10),
        random_data(4, seed=6),
        build("cnn", Layout((2, 8, 8), 10, "image"), 0).double(),
    )
    constants = (
        torch.rand(10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        * 100
        + 0.01
    )
    got = dot_products(model, data, test, Form("margin", renormalize))
    # the same cosines from losses, each multiplied by a constant of its own
    a, b = brute_force(model, test, Form()), brute_force(model, data, Form())
    for i in range(10):
        for j in range(4):
            u, v = a[j], [constants[i] * g for g in b[i]]
            pairs = (
                zip(u, v, strict=True)
                if renormalize == "layer"
                else [(torch.cat(u), torch.cat(v))]
            )
            want = sum((p @ q) / (p.norm() * q.norm()) for p, q in pairs)
            assert float(abs(got[j, i] - want)) < 1e-12


def confident(margin: float, dtype: torch.dtype) -> tuple[nn.Module, Dataset, Dataset]:
    """A cnn whose head is scaled until the least certain training instance has the margin.

    The margin is that of its predicted label.
    """
    shape = (1, 8, 8)
    model = build("cnn", Layout(shape, 10, "image"), 0).double()
    data, test = random_data(12, shape), random_data(5, shape, seed=6)
    for part in (data, test):
        part.y.copy_(model(part.x).argmax(1))
    with torch.no_grad():
        best = model(data.x).topk(2, dim=1).values
        scale = margin / float(
            (best[:, 0] - best[:, 1]).min()
        )  # of large logits the margin is the lead over the runner-up
        model.head.weight *= scale
        model.head.bias *= scale
    return model.to(dtype), data.to(dtype=dtype), test.to(dtype=dtype)


def test_gas_in_float32_is_right_at_margin_150_where_the_loss_form_is_lost():
    got = dot_products(*confident(150, torch.float32), Form("margin", "all"))
    want = dot_products(*confident(150, torch.float64), Form("margin", "all"))
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)
    naive_model, naive_data, naive_test = confident(150, torch.float32)
    naive = expected(naive_model, naive_data, naive_test, Form("loss", "all"))
    assert not torch.allclose(naive.double(), want, atol=0.1)


def test_gas_equals_the_loss_form_in_float64_at_moderate_margins():
    model, data, test = confident(1, torch.float64)
    torch.testing.assert_close(
        dot_products(model, data, test, Form("margin", "all")),
        expected(model, data, test, Form("loss", "all")),
        rtol=1e-6,
        atol=1e-7,
    )


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e12, 1e30])
def test_renormalised_scores_survive_tiny_and_huge_gradients_in_float32(factor: float):
    model, data, test = (
        build("linear", Layout((9,), 4, "vector"), 0),
        random_data(6, (9,), 4),
        random_data(3, (9,), 4, seed=2),
    )
    model.head.bias = None
    with torch.no_grad():
        model.head.weight.zero_()  # a linear model at zero: the gradient is proportional to x
    want = dot_products(model.double(), data, test, Form("margin", "all"))
    small = [Dataset((d.x * factor).float(), d.y, 4) for d in (data, test)]
    torch.testing.assert_close(
        dot_products(model.float(), *small, Form("margin", "all")).double(),
        want,
        rtol=1e-5,
        atol=1e-6,
    )


def test_empty_sides_give_empty_products():
    model, data = (
        build("cnn", Layout((2, 8, 8), 10, "image"), 0).double(),
        random_data(3),
    )
    assert dot_products(
        model, data, data.take(torch.tensor([], dtype=torch.int64))
    ).shape == (0, 3)
    assert checkpoint_sum(
        train(data, SMALL, 0), data.take(torch.tensor([], dtype=torch.int64)), Form()
    ).shape == (0, 3)


def test_room_is_what_fits_into_the_budget_and_a_pass_is_no_larger_than_any_limit():
    data = random_data(2)  # 8 bytes a number
    assert room(data, 10, Budget(memory=800, batch=256, gradients=1 << 30)) == (10, 10)
    assert room(data, 10, Budget(memory=80_000, batch=256, gradients=1 << 30)) == (
        1000,
        256,
    )
    assert room(data, 10, Budget(memory=80_000, batch=256, gradients=80 * 40)) == (
        1000,
        40,
    )
    assert room(data, 10, Budget(memory=80_000, batch=256, gradients=80)) == (
        1000,
        SMALLEST,
    )
    assert room(data, 10, Budget(memory=1, batch=256)) == (1, 1)
    assert room(data, 1) == room(data, 1, CPU)


def test_utility_is_each_measure_by_its_definition_and_nan_where_a_model_diverged():
    logits = torch.tensor([[[1.0, 3.0, 0.5], [2.0, -1.0, 0.0]]], dtype=torch.float64)
    y = torch.tensor([1, 1])
    probability = logits.exp() / logits.exp().sum(-1, keepdim=True)
    right = probability[..., 1]
    wanted = {
        "loss": right.log(),
        "margin": (right / (1 - right)).log(),
        "correct": torch.tensor([[1.0, 0.0]], dtype=torch.float64),
    }
    for measure, values in wanted.items():
        torch.testing.assert_close(
            utility(logits, y, measure), values, rtol=1e-12, atol=1e-12
        )
    assert bool(utility(torch.full_like(logits, torch.nan), y, "correct").isnan().all())
    with pytest.raises(
        ValueError, match="measure must be one of loss, margin, correct"
    ):
        utility(logits, y, "accuracy")


def test_norms_of_factors_are_those_of_the_gradients_that_they_make():
    g = torch.Generator().manual_seed(0)
    for places in (1, 5):
        a = torch.rand((3, places, 4), generator=g, dtype=torch.float64)
        d = torch.rand((3, places, 2), generator=g, dtype=torch.float64)
        gradients = (d.mT @ a).flatten(1)
        torch.testing.assert_close(Ghost(a, d).norm(), gradients.norm(dim=1))
