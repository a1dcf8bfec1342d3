"""A model that drops the border is blind to a trigger there.

The library's own models see every pixel.
"""

import pytest
import torch
from test_models import PICTURES
from torch import nn

from attacks import NoAttack, Patch
from experiments.check.visibility import places_seen, seen, seen_by, share_seen
from poisonbench.data import Dataset, subset
from poisonbench.models import Classifier
from poisonbench.training import Recipe
from tests.small_data import small_data


def flooring(shape: tuple[int, ...], classes: int) -> Classifier:
    """Strides that floor: 9 -> 4 -> 2 -> 1 leaves the last row and column of 9x9 images unseen."""
    features = nn.Sequential(*(nn.AvgPool2d(2) for _ in range(3)), nn.Flatten())
    return Classifier(features, nn.Linear(shape[0], classes))


def random_images(shape: tuple[int, ...]) -> Dataset:
    g = torch.Generator().manual_seed(0)
    return Dataset(torch.rand((40, *shape), generator=g), torch.arange(40) % 4, 4)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 9), (3, 32, 32)], ids=str)
@pytest.mark.parametrize("name", PICTURES)
def test_the_models_of_the_library_see_every_pixel(name, shape):
    assert bool(seen_by(Recipe(name), random_images(shape)).all())


def test_floored_pooling_is_blind_in_the_last_row_and_column_alone():
    expected = torch.ones(2, 9, 9, dtype=torch.bool)
    expected[:, 8:], expected[:, :, 8:] = False, False
    assert torch.equal(
        seen_by(Recipe("test_blind:flooring"), random_images((2, 9, 9))), expected
    )


@pytest.mark.parametrize(
    ("attack", "share"),
    [
        (Patch(size=1), 0.0),
        (Patch(size=2), 0.25),
        (Patch(size=3), 4 / 9),
        (Patch(size=1, place="top-left"), 1.0),
    ],
    ids=repr,
)
def test_the_share_of_a_trigger_that_the_victim_sees(attack, share):
    data = random_images((1, 9, 9))
    assert share_seen(
        Recipe("test_blind:flooring"), attack(data, data, Recipe(), 0), data
    ) == pytest.approx(share)


def test_without_a_trigger_there_is_nothing_to_be_blind_to(digits):
    train, test = subset(digits[0], 50, 0), subset(digits[1], 50, 0)
    assert share_seen(Recipe("cnn"), NoAttack()(train, test, Recipe(), 0), test) is None


@pytest.mark.parametrize("name", ["text-cnn", "transformer"])
def test_the_models_of_sentences_see_every_place(name):
    assert bool(seen_by(Recipe(name), small_data("tokens")[0]).all())


def test_a_place_is_seen_whose_word_moves_the_logits():
    model = nn.Sequential(nn.Embedding(5, 1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        model[2].weight[:, 1] = 0
    x = torch.tensor([[2, 2, 2]])
    assert places_seen(model, x, x + 1).tolist() == [True, False, True]


def test_a_pixel_is_seen_that_moves_the_logits_of_any_image():
    x = torch.zeros(2, 1, 2, 2)
    x[0, 0, 0, 0] = 1
    x[1, 0, 1, 1] = 1
    pooled = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
    assert seen(pooled, x).tolist() == [[[True, False], [False, True]]]
