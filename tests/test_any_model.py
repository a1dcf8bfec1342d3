"""Models of other libraries: head and body found, calls made plain, refusals by name."""

import tomllib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.nn.utils import prune

from experiments.plan.gridfile import resolved
from experiments.plan.identity import configuration, identifier
from experiments.plan.parse import parse
from poisonbench.data import Dataset, Layout
from poisonbench.errors import ConfigError, ModelError
from poisonbench.gradients import dot_products, gradient_vectors
from poisonbench.models import build, predict
from poisonbench.models.head import body_of, head_name, head_of
from poisonbench.models.wrap import plain_keys, unwrap, wrap
from poisonbench.training import Recipe, Start, train, train_many, without_head
from poisonbench.training.trace import Trace

PIXELS = Layout((1, 4, 4), 3, "image")
IDS = torch.tensor([[2, 3, 4, 0, 0], [5, 6, 7, 8, 2]])


def headless(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes))


class Shifted(nn.Module):
    """No linear layer gives the logits."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.features = nn.Flatten()
        self.head = nn.Linear(torch.Size(shape).numel(), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)) + 1


class Crossed(nn.Module):
    """Its head is neither named so nor defined last, and `features` is not what enters it."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.top = nn.Linear(6, 3)
        self.features = nn.Flatten()
        self.head = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(torch.tanh(self.head(self.features(x))))


class Told(Crossed):
    """Gives an object with `.logits`."""

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=super().forward(x))


class Masked(nn.Module):
    """A model of sentences as those of transformers are called: mean of the words unmasked."""

    def __init__(self, pad: int | None = 0):
        super().__init__()
        self.config = SimpleNamespace(pad_token_id=pad)
        self.words = nn.Embedding(9, 4)
        self.classifier = nn.Linear(4, 3)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        weight = attention_mask.to(self.words.weight.dtype)[..., None]
        mean = (self.words(input_ids) * weight).sum(1) / weight.sum(1)
        return {"logits": self.classifier(mean)}


def images(rows: int = 5) -> Tensor:
    return random_data(rows, (1, 4, 4), 3, dtype=torch.float32).x


def test_a_model_needs_no_features_and_head_by_name():
    model = build("test_any_model:headless", PIXELS, 0)
    assert head_name(model) == "1"
    assert head_of(model) is model[1]
    assert torch.equal(body_of(model)(images()), images().flatten(1))


def test_built_in_models_have_their_head_and_body_by_name():
    model = build("cnn", PIXELS, 0)
    assert head_name(model) == "head"
    assert head_of(model) is model.head
    assert body_of(model) is model.features


def test_the_head_is_the_layer_that_gives_the_logits_wherever_it_stands():
    model = wrap(Crossed(), images())
    assert head_name(model) == "top"
    inside = predict(body_of(model), images())
    assert inside.shape == (5, 6)
    assert torch.equal(head_of(model)(inside), predict(model, images()))


def test_features_carry_gradients_and_leave_the_mode_as_it_is():
    model = wrap(Crossed(), images())
    x = images().requires_grad_()
    (g,) = torch.autograd.grad(body_of(model)(x).sum(), x)
    assert bool(g.any())
    predict(body_of(model), images())
    assert not any(module.training for module in model.modules())


def test_a_model_without_a_head_serves_until_it_is_asked_for_one():
    model = build("test_any_model:Shifted", PIXELS, 0)
    assert predict(model, images()).shape == (5, 3)
    with pytest.raises(ModelError, match=r"\(Shifted\) has no head.*head='...'"):
        body_of(model)


def test_a_named_head_is_checked():
    assert head_name(wrap(Crossed(), images(), head="top")) == "top"
    with pytest.raises(ConfigError, match=r"'head' is no nn.Linear .* is: top"):
        wrap(Crossed(), images(), head="head")


def test_an_output_with_logits_gives_them_and_the_users_model_stays():
    model = Told().train()
    wrapped = wrap(model, images())
    want = model(images()).logits
    assert torch.equal(wrapped(images()), want)
    assert wrapped.state_dict().keys() == model.state_dict().keys()
    assert isinstance(model(images()), SimpleNamespace)
    assert model.training


def test_sentences_are_told_with_their_mask():
    model = wrap(Masked(), IDS)
    apart = torch.cat([model(IDS[:1, :3]), model(IDS[1:])])
    torch.testing.assert_close(model(IDS), apart)
    assert head_name(model) == "classifier"


def test_parallel_and_compiled_wrappers_are_taken_off():
    inner = Crossed()
    for model in (
        nn.DataParallel(inner),
        torch.compile(inner),
        torch.compile(nn.DataParallel(inner)),
    ):
        assert unwrap(model) is inner
        assert torch.equal(wrap(model, images())(images()), inner(images()))
        assert plain_keys(model.state_dict()).keys() == inner.state_dict().keys()
    assert plain_keys({"module.a": images(), "b": images()}).keys() == {"module.a", "b"}


def test_one_logit_of_two_classes_becomes_two():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    both = wrap(model, images(), one_logit=True)
    x, y = images(), torch.tensor([0, 1, 1, 0, 1])
    want = nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y.float())
    torch.testing.assert_close(nn.functional.cross_entropy(both(x), y), want)
    assert head_name(both) == "1"
    assert torch.equal(body_of(both)(x), x.flatten(1))
    with pytest.raises(ConfigError, match="one logit for two classes"):
        head_of(both)


class Spread(Crossed):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, None]


class Tuple(Crossed):
    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return super().forward(x), None


class Centring(Crossed):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5))


def rectified_first() -> nn.Module:
    return nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 3))


def keeping() -> nn.Module:
    model = Crossed()
    model.kept = model(images())
    return model


@pytest.mark.parametrize(
    ("make", "x", "match"),
    [
        (Centring, images(), r"\(Centring\) changes the instances .* in place"),
        (rectified_first, images() - 0.5, r"in place .*nn\.ReLU\(\)"),
        (keeping, images(), r"cannot be copied: .*once under torch\.no_grad\(\)"),
        (Tuple, images(), r"\(Tuple\) returns tuple, neither logits .*wrap it"),
        (
            lambda: Crossed(7),
            images(),
            r"cannot be called on x \(5, 1, 4, 4\): Runtime",
        ),
        (Spread, images(), r"returns \(5, 1, 3\) .* not \(5, C\)"),
        (lambda: Masked(1), IDS, "pads with token 1, .* padded with 0"),
        (lambda: nn.LazyLinear(3), images(), "has no shape yet.*call it once"),
        (
            lambda: torch.jit.trace(Crossed(), images()),
            images(),
            "is scripted.*module that was scripted",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_be_called_is_refused_by_name_with_the_way_out(
    make, x: Tensor, match: str
):
    before = x.clone()
    with pytest.raises(ModelError, match=match):
        wrap(make(), x)
    assert torch.equal(x, before)


def test_a_pruned_model_serves_once_it_was_called_without_gradients():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    prune.random_unstructured(model[1], "weight", amount=0.4)
    with pytest.raises(ModelError, match="cannot be copied"):
        wrap(model, images())
    with torch.no_grad():
        model(images())
    assert torch.equal(wrap(model, images())(images()), model(images()))


def test_a_run_of_a_wrapped_model_with_logits_by_name_is_that_of_the_plain_one():
    inner = Told()
    data = random_data(6, (1, 4, 4), 3, dtype=torch.float32)
    want = Trace.of(inner, data, [(inner.state_dict(), 0.1)])
    parallel = nn.DataParallel(inner)
    found = Trace.of(parallel, data, [(parallel.state_dict(), 0.1)])
    assert found.given.head == "top"
    assert "head" in found.offers
    assert torch.equal(
        dot_products(found.model(), data, data), dot_products(want.model(), data, data)
    )


def test_a_run_with_one_logit_is_one_of_cross_entropy_on_two():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    data = random_data(6, (1, 4, 4), 2, dtype=torch.float32)
    run = Trace.of(model, (data.x, data.y), loss="binary-cross-entropy")
    assert (run.loss, run.train.classes) == ("cross-entropy", 2)
    found = gradient_vectors(run.model(), data, "loss")["1.weight"]
    slope = torch.sigmoid(model(data.x)) - data.y[:, None]
    torch.testing.assert_close(found[:, 0], slope * data.x.flatten(1))


class Sized(Crossed):
    """A frozen body of a model that names neither."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__(torch.Size(shape).numel())


def test_transfer_freezes_the_body_of_any_model_and_many_heads_are_trained_as_one():
    data = random_data(12, (1, 4, 4), 3, dtype=torch.float32)
    recipe = Recipe("test_any_model:Sized", epochs=2, batch_size=4, lr=0.3)
    before = build(recipe.model, data.layout, 5).state_dict()
    recipe = replace(recipe, start=Start(without_head(before, "top")))
    alone = train(data, recipe, 0).checkpoints[-1].state
    for name, value in alone.items():
        assert torch.equal(value, before[name]) == (not name.startswith("top."))
    everyone = torch.ones(2, len(data), dtype=torch.bool)
    many = train_many(data, everyone, recipe, [0, 1])
    torch.testing.assert_close(many.state(0), dict(alone))


def bent(shape: tuple[int, ...], classes: int, width: int = 5) -> nn.Module:
    size = torch.Size(shape).numel()
    layers = [nn.Flatten(), nn.Linear(size, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, classes))


GRID = """
name = "given"
dataset = "digits"
[recipe]
model = "{model}"
{arguments}
[[attack]]
name = "none"
"""


def recipes(model: str, arguments: str = "") -> list[Recipe]:
    raw = tomllib.loads(GRID.format(model=model, arguments=arguments))
    return [scene.recipe for scene in parse(raw).scenes]


def test_a_function_gets_its_arguments_by_name():
    pictures = Layout((3, 8, 8), 4, "image")
    model = build("torchvision.models:resnet18", pictures, 0, {"num_classes": 4})
    assert head_name(model) == "fc"
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    assert head_of(build("test_any_model:bent", PIXELS, 0)).in_features == 5
    wide = build("test_any_model:bent", PIXELS, 0, {"width": 9})
    assert head_of(wide).in_features == 9


def ready(width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Linear(width, 3))


def test_a_function_that_takes_no_layout_is_called_with_nothing():
    assert head_of(build("test_any_model:ready", PIXELS, 0)).in_features == 5
    wide = build("test_any_model:ready", PIXELS, 0, {"width": 9})
    assert head_of(wide).in_features == 9
    assert recipes("test_any_model:ready")


def test_a_grid_names_models_with_their_arguments_as_an_axis_too():
    line = "model_args = [{ width = 3 }, { width = 4 }]"
    found = recipes("test_any_model:bent", line)
    assert [recipe.model_args for recipe in found] == [{"width": 3}, {"width": 4}]
    assert len(set(found)) == 2
    grid = parse(
        tomllib.loads(GRID.format(model="test_any_model:bent", arguments=line))
    )
    assert parse(tomllib.loads(resolved(grid))) == grid
    names = [identifier("s", configuration(scene)) for scene in grid.scenes]
    assert len(set(names)) == 2
    assert "model_args" not in configuration(Recipe())
    data = random_data(8, (1, 4, 4), 3, dtype=torch.float32)
    run = train(data, replace(found[0], epochs=1), 0)
    assert head_of(run.model()).in_features == 3


@pytest.mark.parametrize(
    ("model", "arguments", "match"),
    [
        (
            "cnn",
            "model_args = { width = 3 }",
            r"model_args: built-in model 'cnn' takes no",
        ),
        ("test_any_model:bent", "model_args = { wide = 3 }", "'wide'"),
        ("torchvision.models:resnet18", "", r"\(shape, classes\).*num_classes = 10"),
        ("test_any_model:bent", "model_args = 3", "model_args: .*got 3"),
    ],
)
def test_arguments_that_a_model_does_not_take_are_told_before_any_work(
    model: str, arguments: str, match: str
):
    with pytest.raises(ConfigError, match=match):
        recipes(model, arguments)


def test_arguments_are_what_a_grid_file_can_hold():
    assert Recipe(model_args={"sizes": [1, 2]}).model_args == {"sizes": (1, 2)}
    with pytest.raises(ValueError, match=r"model_args.width must be a number.*Tensor"):
        Recipe(model_args={"width": torch.ones(1)})
    with pytest.raises(ConfigError, match="'mlp' takes no model_args, got width"):
        build("mlp", PIXELS, 0, {"width": 3})


def one_logit_loop(model: nn.Module, data: Dataset, seed: int):
    descent = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in (1, 2):
        f = model(data.x)[:, 0]  # one logit, as the author of the loop has it
        assert model(data.x).shape == (len(data), 1)
        descent.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(f, data.y.float())
        loss.backward()
        descent.step()
        yield step, 0.5, model.state_dict()


def told_loop(model: nn.Module, data: Dataset, seed: int):
    out = model(data.x, attention_mask=(data.x != 0).long())
    assert model(data.x)["logits"].shape == out["logits"].shape
    nn.functional.cross_entropy(out["logits"], data.y).backward()
    yield 1, 0.1, model.state_dict()


@pytest.mark.filterwarnings("ignore:.*training set")
def test_a_loop_gets_the_model_as_its_author_calls_it():
    data = random_data(6, (1, 4, 4), 2, dtype=torch.float32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    run = Trace.of(model, data, loss="binary-cross-entropy", retrain=one_logit_loop)
    again = train(data, run.recipe, 0)
    assert predict(again.model(), data.x).shape == (6, 2)
    words = tuple(str(i) for i in range(9))
    sentences = Dataset(IDS, torch.tensor([0, 2]), 3, vocabulary=words)
    run = Trace.of(Masked(), sentences, retrain=told_loop)
    again = train(sentences, run.recipe, 0)
    assert predict(again.model(), IDS).shape == (2, 3)
