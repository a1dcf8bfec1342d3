"""Per-example gradients of any model against plain autograd, or a refusal by name."""

import re

import pytest
import torch
from conftest import random_data
from engine_models import (
    CLASSES,
    IMAGE,
    MODELS,
    REFUSED,
    TORCHVISION,
    TORCHVISION_SMALL,
    Net,
    Row,
    Scaled,
    dense,
    running,
    torchvision_model,
)
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.errors import ModelError, PoisonbenchError
from poisonbench.gradients import (
    Form,
    dot_products,
    gradient_norms,
    gradient_vectors,
    project,
)
from poisonbench.gradients.planning import plan as planning
from poisonbench.notes import collecting
from poisonbench.objectives import margins


def autograd(model: nn.Module, data: Dataset, form: Form) -> Tensor:
    """Gradients of the trained parameters, (n, p), by one ordinary backward pass an instance."""
    owner = model.head if form.layers == "last" else model
    parameters = [p for p in owner.parameters() if p.requires_grad]
    rows = []
    for i in range(len(data)):
        logits = model(data.x[i : i + 1])
        y = data.y[i : i + 1]
        value = (
            F.cross_entropy(logits, y)
            if form.objective == "loss"
            else margins(logits, y).sum()
        )
        found = torch.autograd.grad(value, parameters, materialize_grads=True)
        rows.append(torch.cat([g.to_dense().flatten() for g in found]))
    return torch.stack(rows)


def products(model: nn.Module, train: Dataset, test: Dataset, form: Form) -> Tensor:
    rows = autograd(model, train, form)
    columns = autograd(model, test, form)
    if form.renormalize == "all":
        return F.normalize(columns) @ F.normalize(rows).T
    return columns @ rows.T


def assert_equal(found: Tensor, wanted: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(
        found,
        wanted,
        rtol=0,
        atol=tolerance * float(wanted.abs().max().clamp(min=1e-30)),
    )


def sides(row: Row) -> tuple[Dataset, Dataset]:
    return random_data(5, IMAGE, row.classes, seed=1), random_data(
        3, IMAGE, row.classes, seed=2
    )


FORMS = [
    Form(),
    Form("margin", "all"),
    Form(layers="last"),
    Form("margin", "all", "last"),
]


@pytest.mark.parametrize("form", FORMS, ids=repr)
@pytest.mark.parametrize("name", MODELS)
def test_products_of_gradients_are_those_of_autograd(name: str, form: Form):
    model = MODELS[name].model()
    train, test = sides(MODELS[name])
    assert_equal(
        dot_products(model, train, test, form), products(model, train, test, form)
    )


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to; a parametrised weight's is the one it is read by."""
    return re.sub(r"(\.parametrizations\..*|\.[^.]*)$", "", name)


@pytest.mark.parametrize("name", MODELS)
def test_cosines_of_layers_are_summed_over_layers_with_a_rule_and_without(name: str):
    model = MODELS[name].model()
    train, test = sides(MODELS[name])
    trained = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
    owners = torch.cat(
        [torch.full((p.numel(),), hash(layer_of(key))) for key, p in trained]
    )
    rows, columns = (
        autograd(model, train, Form("margin")),
        autograd(model, test, Form("margin")),
    )
    wanted = torch.zeros(len(test), len(train), dtype=torch.float64)
    for owner in owners.unique():
        own = owners == owner
        wanted += F.normalize(columns[:, own]) @ F.normalize(rows[:, own]).T
    assert_equal(dot_products(model, train, test, Form("margin", "layer")), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_projections_norms_and_whole_gradients_are_those_of_autograd(name: str):
    model = MODELS[name].model()
    train, test = sides(MODELS[name])
    rows = autograd(model, train, Form())
    columns = gradient_vectors(model, test, "loss")
    flat = torch.cat([columns[key].reshape(len(test), -1) for key in columns], 1)
    assert_equal(flat, autograd(model, test, Form()))
    assert_equal(project(model, train, columns), flat @ rows.T)
    assert_equal(gradient_norms(model, train), rows.norm(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_right_is_told_once_and_nothing_else(name: str, dtype: torch.dtype):
    row = MODELS[name]
    train, test = (part.to(dtype=dtype) for part in sides(row))
    with collecting() as told:
        dot_products(row.model().to(dtype), train, test)
        dot_products(row.model().to(dtype), train, test)
    moved = told.figures.get("gradients_without_rule", "")
    assert tuple(filter(None, str(moved).split(", "))) == row.moved
    told.figures.pop("gradients_without_rule", None)
    if dtype == torch.float64:
        assert list(told.figures) == ["gradients_one_by_one"] * row.one_by_one


def state(model: nn.Module) -> dict[str, object]:
    """Everything that a model holds by name, the objects themselves."""
    held: dict[str, object] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for part in (module.__dict__, module._parameters, module._buffers):
            held |= {f"{name}.{key}": item for key, item in part.items()}
        held[f"{name} hooks"] = (
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
        )
    return held


@pytest.mark.parametrize("name", MODELS)
def test_the_model_keeps_every_object_and_every_number(name: str):
    model = MODELS[name].model()
    model(sides(MODELS[name])[0].x)
    objects = state(model)
    numbers = {key: value.clone() for key, value in model.state_dict().items()}
    dot_products(model, *sides(MODELS[name]))
    gradient_vectors(model, sides(MODELS[name])[1], "loss")
    after = state(model)
    assert after.keys() == objects.keys()
    assert all(
        after[key] is item or after[key] == item for key, item in objects.items()
    )
    assert all(
        torch.equal(value, numbers[key]) for key, value in model.state_dict().items()
    )
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_by_name(name: str):
    make, layers, message = REFUSED[name]
    model, data = make().double(), random_data(4, IMAGE, CLASSES)
    with pytest.raises(ModelError, match=message) as refusal:
        dot_products(model, data, data, Form(layers=layers))
    assert isinstance(refusal.value, PoisonbenchError)
    assert refusal.value.hint
    with pytest.raises(ModelError):
        gradient_vectors(model, data, "loss", layers)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def assert_right(model: nn.Module, shape: tuple[int, ...], forms: list[Form]) -> None:
    train, test = (
        random_data(2, shape, CLASSES, seed=1),
        random_data(1, shape, CLASSES, seed=2),
    )
    for form in forms:
        assert_equal(
            dot_products(model, train, test, form), products(model, train, test, form)
        )


@pytest.mark.parametrize("name", TORCHVISION_SMALL)
def test_the_kinds_of_models_of_torchvision_are_differentiated_as_by_autograd(
    name: str,
):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = running(Net(TORCHVISION_SMALL[name](), nn.Identity())).double().eval()
    shape = (3, 32, 32) if name == "ResNet" else IMAGE
    assert_right(model, shape, [Form(), Form("margin", "all")])


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_models_of_torchvision_are_differentiated_as_by_autograd(name: str):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision_model(name, **TORCHVISION[name]).double().eval()
    assert_right(model, (3, 32, 32), [Form()])


def test_a_model_of_timm_is_differentiated_as_by_autograd():
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet10t", pretrained=False, num_classes=CLASSES)
    assert_right(model.double().eval(), (3, 32, 32), [Form()])


# ---- what is remembered of a structure ----


def checks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Returns a list that grows by one with every check."""
    done: list[object] = []
    judge = planning._judge
    monkeypatch.setattr(
        planning, "_judge", lambda *args: (done.append(args), judge(*args))[1]
    )
    return done


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return dense(nn.LayerNorm(12), nn.Linear(12, 12), nn.Tanh()).double().eval()


def test_the_check_is_paid_once_for_all_checkpoints_and_blocks(
    monkeypatch: pytest.MonkeyPatch,
):
    planning._verdicts.clear()
    done = checks(monkeypatch)
    for seed in range(3):
        for part in range(2):
            dot_products(
                net(seed),
                random_data(7, IMAGE, CLASSES),
                random_data(3 + part, IMAGE, CLASSES),
            )
    assert len(done) == 1


def add_hook(model: Net) -> None:
    model.features[4].register_forward_hook(lambda module, args, out: 3 * out)


def change_a_setting(model: Net) -> None:
    model.features[3].eps = 0.1


def change_a_function(model: Net) -> None:
    layer = model.features[4]
    layer.forward = lambda x: F.linear(x, 2 * layer.weight, layer.bias)


def change_what_a_function_holds(model: Net) -> None:
    layer, factor = model.features[4], 1.0

    def forward(x: Tensor) -> Tensor:
        return factor * F.linear(x, layer.weight, layer.bias)

    layer.forward = forward
    dot_products(model, random_data(3, IMAGE, CLASSES), random_data(2, IMAGE, CLASSES))
    factor = 2.0


def change_the_class(model: Net) -> None:
    model.features[4].__class__ = Scaled


def tie(model: Net) -> None:
    model.features[1].bias = model.features[4].bias


def freeze(model: Net) -> None:
    model.features[4].weight.requires_grad_(False)


def share_a_module(model: Net) -> None:
    model.features[5] = model.features[4]


def insert(model: Net) -> None:
    model.features.insert(4, nn.Flatten().eval())


CHANGES = [
    add_hook,
    change_a_setting,
    change_a_function,
    change_what_a_function_holds,
    change_the_class,
    tie,
    freeze,
    share_a_module,
    insert,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_model_is_checked_again_and_right(
    change, monkeypatch: pytest.MonkeyPatch
):
    train, test = (
        random_data(5, IMAGE, CLASSES, seed=1),
        random_data(3, IMAGE, CLASSES, seed=2),
    )
    model = net()
    dot_products(model, train, test)
    change(model)
    done = checks(monkeypatch)
    assert_equal(dot_products(model, train, test), products(model, train, test, Form()))
    assert len(done) == 1


def test_a_class_that_is_given_another_forward_function_is_checked_again():
    class Layer(nn.Linear):
        pass

    train, test = (
        random_data(5, IMAGE, CLASSES, seed=1),
        random_data(3, IMAGE, CLASSES, seed=2),
    )
    model = dense(Layer(12, 12)).double().eval()
    dot_products(model, train, test)
    Layer.forward = lambda self, x: F.linear(x, self.weight**3, self.bias)
    assert_equal(dot_products(model, train, test), products(model, train, test, Form()))


def test_numbers_that_are_not_finite_leave_no_verdict_behind():
    planning._verdicts.clear()
    model, data = net(), random_data(4, IMAGE, CLASSES)
    with torch.no_grad():
        model.features[4].weight.fill_(torch.nan)
    assert bool(dot_products(model, data, data).isnan().all())
    assert not planning._verdicts
    with collecting() as told:
        dot_products(net(), data, data)
    assert not told.figures


class Edge(nn.Module):
    """A rectifier at its edge, which rounding passes by when instances share a batch."""

    def forward(self, x: Tensor) -> Tensor:
        side = 1e-10 if len(x) == 1 else -1e-10
        return x + F.relu(x - x.detach() + side)


def test_a_rectifier_that_a_batch_rounds_to_its_other_side_is_no_reason_to_refuse():
    model = dense(Edge()).double().eval()
    train = random_data(5, IMAGE, CLASSES, seed=1)
    test = random_data(3, IMAGE, CLASSES, seed=2)
    assert_equal(dot_products(model, train, test), products(model, train, test, Form()))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "KEPT", 2)
    planning._verdicts.clear()
    for width in (3, 4, 5):
        model = dense(width=width).double().eval()
        dot_products(
            model, random_data(3, IMAGE, CLASSES), random_data(2, IMAGE, CLASSES)
        )
    assert len(planning._verdicts) == 2


def test_the_widest_layer_bounds_a_pass_and_a_table_counts_by_what_it_looks_up():
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Linear(40, 3)).eval()
    how = planning.plan(small, "all", torch.rand(3, 1, 8, 8))
    assert how.widest == 65 * 40
    words = nn.Sequential(nn.Embedding(900, 30), nn.Flatten(), nn.Linear(150, 3)).eval()
    how = planning.plan(words, "all", torch.randint(900, (3, 5)))
    assert how.size == 900 * 30 + 151 * 3
    assert how.held < how.size
    assert how.widest == max(how.held - 151 * 3, 151 * 3)
