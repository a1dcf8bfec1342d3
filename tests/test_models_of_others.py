"""Models of torchvision, timm and transformers as they are: heads, gradients, padding."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from conftest import random_data
from engine_models import CLASSES, small_convnext, small_resnet, small_vit
from torch import Tensor, nn
from torch.nn import functional as F

from estimators.tracin import TracIn
from poisonbench.data import Dataset
from poisonbench.errors import ModelError
from poisonbench.gradients import Form, dot_products
from poisonbench.models import predict
from poisonbench.models.head import body_of, head_name, head_of
from poisonbench.models.wrap import wrap
from poisonbench.training.trace import Trace

WORDS = tuple(f"word{i}" for i in range(12))
SMALL = {
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "num_labels": CLASSES,
}
TINY = {**SMALL, "image_size": 8, "patch_size": 4}


def transformers() -> ModuleType:
    return pytest.importorskip("transformers")


def timm() -> ModuleType:
    return pytest.importorskip("timm")


def of_transformers(family: str, task: str, **settings: object) -> nn.Module:
    """A model of that family with random weights; nothing is downloaded."""
    library = transformers()
    config = getattr(library, f"{family}Config")(**settings)
    model: nn.Module = getattr(library, f"{family}For{task}")(config)
    return model


def of_timm(name: str, **settings: object) -> nn.Module:
    model: nn.Module = timm().create_model(name, num_classes=CLASSES, **settings)
    return model


def bert(**settings: object) -> nn.Module:
    return of_transformers("Bert", "SequenceClassification", **SMALL, **settings)


def distilbert() -> nn.Module:
    width = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12}
    settings = {**SMALL, **width}
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
        settings.pop(name)
    return of_transformers("DistilBert", "SequenceClassification", **settings)


@dataclass(frozen=True)
class Case:
    """A model of someone else's, its instances, and the name of its head."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    head: str


CASES = {
    "torchvision ResNet": Case(small_resnet, (3, 32, 32), "fc"),
    "torchvision ViT": Case(small_vit, (3, 8, 8), "heads.head"),
    "torchvision ConvNeXt": Case(small_convnext, (3, 8, 8), "classifier.2"),
    "timm ViT": Case(
        lambda: of_timm(
            "vit_tiny_patch16_224",
            img_size=8,
            patch_size=4,
            depth=2,
            embed_dim=8,
            num_heads=2,
        ),
        (3, 8, 8),
        "head",
    ),
    "timm ConvNeXt": Case(
        lambda: of_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 4, 6, 8)),
        (3, 32, 32),
        "head.fc",
    ),
    "transformers ViT": Case(
        lambda: of_transformers("ViT", "ImageClassification", **TINY),
        (3, 8, 8),
        "classifier",
    ),
    "transformers BERT": Case(bert, (6,), "classifier"),
    "transformers DistilBERT": Case(distilbert, (6,), "classifier"),
}


def sentences() -> Dataset:
    """Sentences of several lengths, padded with 0."""
    x = torch.tensor(
        [[2, 3, 4, 5, 0, 0], [5, 6, 7, 8, 2, 9], [3, 0, 0, 0, 0, 0], [9, 8, 7, 6, 5, 0]]
    )
    y = torch.arange(len(x)) % CLASSES
    return Dataset(x, y, CLASSES, vocabulary=WORDS, precision=torch.float64)


def made(name: str) -> tuple[nn.Module, Dataset]:
    """The model with statistics of its own, in float64, and four instances."""
    case = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = case.make().double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    if len(case.shape) == 1:
        return model, sentences()
    return model, random_data(4, case.shape, CLASSES)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """The logits as the libraries' own documentation obtains them."""
    told = {}
    if not x.is_floating_point():
        told = {"attention_mask": (x != 0).long()}
    out = model(x, **told)
    return getattr(out, "logits", out)


def jacobian(model: nn.Module, data: Dataset, names: list[str]) -> Tensor:
    """The loss gradients by these parameters, one backward pass an instance, (n, p)."""
    parameters = [model.get_parameter(name) for name in names]
    rows = []
    for i in range(len(data)):
        out = logits_of(model, data.x[i : i + 1])
        loss = F.cross_entropy(out, data.y[i : i + 1])
        found = torch.autograd.grad(
            loss, parameters, allow_unused=True, materialize_grads=True
        )
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows)


def assert_near(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(
        found, wanted, rtol=1e-10, atol=1e-10 * float(wanted.abs().max())
    )


@pytest.mark.parametrize("name", CASES)
def test_scores_on_models_of_others_are_those_of_autograd(name: str):
    model, data = made(name)
    run = Trace.of(model, data, [(model.state_dict(), 0.5)])
    head = CASES[name].head
    assert run.given.head == head
    everything = [n for n, p in model.named_parameters() if p.requires_grad]
    whole = jacobian(model, data, everything)
    assert_near(TracIn().fit(run)(data), 0.5 * whole @ whole.T)
    last = jacobian(model, data, [f"{head}.weight", f"{head}.bias"])
    assert_near(
        dot_products(run.model(), data, data, Form(layers="last")), last @ last.T
    )
    body = body_of(run.model())
    again = head_of(run.model())(predict(body, data.x))
    assert_near(again, logits_of(model, data.x).detach())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_padded_sentence_scores_as_it_does_alone(attention: str):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = bert(attn_implementation=attention).double().eval()
    data = sentences()
    run = Trace.of(model, data, [(model.state_dict(), 1.0)])
    scores = TracIn().fit(run)(data)
    first = data.rows(data.x[:1, :4], data.y[:1])
    alone = Trace.of(model, first, [(model.state_dict(), 1.0)])
    assert_near(TracIn().fit(alone)(first), scores[:1, :1])


def test_a_model_that_tells_words_apart_has_no_head_and_serves_all_the_same():
    settings = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
    model = of_transformers(
        "GPT2",
        "SequenceClassification",
        **settings,
        vocab_size=len(WORDS),
        num_labels=CLASSES,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    model, data = model.double().eval(), sentences()
    run = Trace.of(model, data, [(model.state_dict(), 1.0)])
    assert "head" not in run.offers
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    whole = jacobian(model, data, names)
    assert_near(TracIn().fit(run)(data), whole @ whole.T)
    with pytest.raises(ModelError, match="has no head"):
        head_name(run.model())


def test_a_model_that_pads_otherwise_is_refused_by_name():
    settings = {**SMALL, "max_position_embeddings": 20, "pad_token_id": 1}
    model = of_transformers("Roberta", "SequenceClassification", **settings)
    with pytest.raises(ModelError, match=r"RobertaFor.*pads with token 1"):
        wrap(model, sentences().x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_models_of_the_field_at_full_size(name: str):
    models = importlib.import_module("torchvision.models")
    settings = {"image_size": 32} if name == "vit_b_16" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.get_model(name, weights=None, num_classes=CLASSES, **settings)
    model = model.double().eval()
    data = random_data(2, (3, 32, 32), CLASSES)
    run = Trace.of(model, data, [(model.state_dict(), 1.0)])
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    whole = jacobian(model, data, names)
    assert_near(TracIn().fit(run)(data), whole @ whole.T)
