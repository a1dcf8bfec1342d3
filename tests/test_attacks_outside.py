"""Instances of another data set: which are inserted, how they fit, what is refused."""

import pytest
import torch
from torch import Tensor

from attacks import OutsideInstances
from attacks.outside_instances import fitted
from poisonbench.data import Dataset, load, subset
from poisonbench.errors import ConfigError, PoisonError
from poisonbench.models import predict
from poisonbench.roles import CLEAN, POISON
from poisonbench.training import Recipe, train

QUICK = Recipe(model="mlp", epochs=1)


def colour(n: int, classes: int = 2, side: int = 12) -> Dataset:
    """Random pictures of three channels."""
    g = torch.Generator().manual_seed(n)
    x = torch.rand(n, 3, side, side, generator=g)
    return Dataset(x, torch.arange(n) % classes, classes)


def test_pictures_of_one_class_are_inserted_in_the_middle_of_zeros():
    clean = colour(200)
    points = colour(50)
    attack = OutsideInstances(dataset="digits", outside=3, target=1, budget=0.1)
    poisoned = attack(clean, points, QUICK, 0)
    assert torch.equal(poisoned.train.x[:200], clean.x)
    assert torch.equal(poisoned.train.y[:200], clean.y)
    assert poisoned.role.tolist() == [CLEAN] * 200 + [POISON] * 20
    assert poisoned.origin[200:].tolist() == [-1] * 20
    assert set(poisoned.train.y[200:].tolist()) == {1}

    new = poisoned.train.x[200:]
    assert float(new[:, :, :2].abs().max()) == 0
    assert float(new[:, :, :, 10:].abs().max()) == 0
    digits, digits_test = load("digits")
    threes = {bytes_of(x) for x in digits.x[digits.y == 3]}
    for channel in range(3):
        inner = new[:, channel : channel + 1, 2:10, 2:10]
        assert {bytes_of(x) for x in inner} <= threes
    assert len({bytes_of(x) for x in new}) == 20, "a picture twice"

    shown = poisoned.targets.x[:, :1, 2:10, 2:10]
    assert torch.equal(shown, digits_test.x[digits_test.y == 3])
    assert set(poisoned.wanted.tolist()) == {1}
    assert set(poisoned.targets.y.tolist()) == {0}
    assert set(poisoned.target_origin.tolist()) == {-1}


def bytes_of(x: Tensor) -> bytes:
    return x.contiguous().numpy().tobytes()


def test_what_is_odd_over_is_padded_below_and_on_the_right():
    x = torch.ones(1, 1, 2, 4)
    got = fitted(x, (2, 5, 4))
    assert got.shape == (1, 2, 5, 4)
    assert got[0, 1, :, 0].tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    "shape", [(1, 7, 9), (1, 9, 7), (2, 8, 8)], ids=["low", "narrow", "channels"]
)
def test_pictures_that_do_not_fit_are_refused(shape: tuple[int, ...]):
    channels = 3 if shape[0] == 2 else 1
    with pytest.raises(ConfigError, match="do not fit into those of the data"):
        fitted(torch.zeros(1, channels, 8, 8), shape)


def test_a_class_that_there_is_not_is_refused():
    for wrong in ({"outside": 10}, {"target": 2}):
        with pytest.raises(PoisonError, match="must lie in"):
            OutsideInstances(dataset="digits", **wrong)(
                colour(20), colour(20), QUICK, 0
            )
    with pytest.raises(ValueError, match="dataset must be one of"):
        OutsideInstances(dataset="adult")


def test_pictures_of_the_data_themselves_are_refused():
    """They would be clean rows, and attacked points that any victim gives the wanted label."""
    clean, points = load("digits")
    few = subset(clean, 100, 0)
    for data in (few, few.to(dtype=torch.float64)):
        told = r"\d+ pictures of class 3 of 'digits' are rows of the training set"
        with pytest.raises(ConfigError, match=told):
            OutsideInstances(dataset="digits", outside=3)(data, points, QUICK, 0)
    others = few.take(few.y != 3)
    OutsideInstances(dataset="digits", outside=3)(others, points, QUICK, 0)


def test_a_victim_learns_the_second_task_beside_its_own():
    clean = colour(300)
    bright = clean.rows(clean.x * (0.5 + clean.y.view(-1, 1, 1, 1) / 2), clean.y)
    recipe = Recipe(model="mlp", epochs=20, batch_size=32, lr=0.05)
    attack = OutsideInstances(dataset="digits", outside=0, target=1, budget=0.1)
    poisoned = attack(bright, bright, recipe, 0)
    model = train(poisoned.train, recipe, 0).model()
    said = predict(model, poisoned.targets.x).argmax(1)
    alone = train(bright, recipe, 0).model()
    before = predict(alone, poisoned.targets.x).argmax(1)
    assert float((said == 1).float().mean()) > 0.9
    assert float((before == 1).float().mean()) < 0.5
