"""The inner part of foreign models: which it is, and that it is what enters that part."""

import pytest
import torch
import torchvision
from conftest import random_data
from torch import nn

import poisonbench as pb
from defenses.kit.features import encoder, features_of
from poisonbench.models.head import Body
from poisonbench.models.inner import Inner, inner_name, inner_of


@pytest.mark.parametrize(
    ("make", "head", "part"),
    [
        ("resnet18", "fc", "layer4"),
        ("vit_b_16", "heads.head", "encoder.layers.encoder_layer_11"),
        ("vgg11", "classifier.6", "classifier.3"),
        ("densenet121", "classifier", "features.denseblock4"),
        ("convnext_tiny", "classifier.2", "features.7"),
    ],
)
def test_the_last_large_part_of_the_body(make: str, head: str, part: str):
    with torch.device("meta"):
        model = getattr(torchvision.models, make)()
    assert inner_name(model, head) == part


class Deep(nn.Module):
    """A convolution with a norm behind it, below a hidden layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(1, 3, 3)
        self.last = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.last(self.early(x).tanh()).flatten(1))


def test_it_is_what_enters_that_part():
    model = Deep().eval()
    x = torch.rand(5, 1, 8, 8)
    found = inner_of(Body(model, "fc"))
    assert isinstance(found, Inner)
    assert found.part == "last"
    entering = model.early(x).tanh()
    assert torch.equal(found(x), entering.flatten(1))


def test_large_maps_are_averaged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("poisonbench.models.inner.MOST", 3 * 2 * 2)
    model = Deep().eval()
    x = torch.rand(5, 1, 8, 8)
    entering = model.early(x).tanh()
    averaged = nn.functional.adaptive_avg_pool2d(entering, 2)
    assert torch.equal(inner_of(Body(model, "fc"))(x), averaged.flatten(1))


def test_a_model_without_a_body_is_asked_for_its_input():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(inner_of(Body(model, "1"))(x), x.flatten(1))


def test_a_part_that_is_not_called_leaves_what_enters_the_head():
    model = Deep().eval()
    model.spare = nn.Linear(64, 64)
    found = inner_of(Body(model, "fc"))
    x = torch.rand(2, 1, 8, 8)
    assert found.part == "spare"
    assert torch.equal(found(x), Body(model, "fc")(x))


class Bag(nn.Module):
    """The mean of the vectors of words: nothing large stands between a sentence and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 6)
        self.fc = nn.Linear(6, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.fc(self.words(ids).mean(1))


def test_token_ids_are_no_features_and_every_default_works():
    torch.manual_seed(0)
    model = Bag().eval()
    ids = torch.randint(1, 9, (40, 5))
    y = torch.arange(40) % 2
    found = inner_of(Body(model, "fc"))
    assert isinstance(found, Inner)
    assert found.part == "words"
    assert torch.equal(found(ids), model.words(ids).mean(1))
    words = tuple(f"w{i}" for i in range(9))
    train = pb.Dataset(ids, y, 2, vocabulary=words)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    run = pb.Trace.of(model, train, [(state, 0.1)])
    trusted = torch.randint(1, 9, (40, 5))
    verdict = pb.Guard(run, trusted)(ids[:3])
    assert bool(verdict.suspicion.isfinite().all())


def test_detectors_compare_it():
    data = random_data(12, (1, 8, 8), dtype=torch.float32)
    model = Deep().eval()
    run = pb.Trace.of(model, data)
    assert isinstance(encoder(run.model(), "inner"), Inner)
    assert features_of(run, "inner", data).shape == (12, 3 * 36)
    assert features_of(run, "penultimate", data).shape == (12, 4 * 16)
