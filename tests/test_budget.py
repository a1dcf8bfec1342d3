"""A budget that is not spent is told with both numbers and the reason; one that is spent is not."""

import dataclasses
import warnings
from dataclasses import dataclass

import pytest
import torch

from attacks import (
    AdaptiveBlend,
    AdaptivePatch,
    Blend,
    Bullseye,
    ErrorMinimising,
    FeatureCollision,
    GradientMatching,
    HiddenTrigger,
    LabelConsistent,
    LabelFlip,
    MetaPoison,
    NormMatched,
    Patch,
    Sinusoid,
    SleeperAgent,
    Spread,
    TaCT,
    Warp,
)
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.contracts.attack_rules import count, craft
from poisonbench.contracts.budget import unspent
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import BudgetWarning
from poisonbench.roles import COVER, POISON
from poisonbench.seeding import generator
from poisonbench.training import Recipe

QUICK = Recipe(model="linear", epochs=1)
SIZES = (10, 20, 30, 40)  # rows of each class
LABELS = torch.arange(4).repeat_interleave(torch.tensor(SIZES))
DATA = Dataset(torch.rand((100, 1, 8, 8), generator=generator(0, "pixels")), LABELS, 4)
LARGE = Dataset(
    torch.rand((100, 1, 28, 28), generator=generator(0, "pixels")), LABELS, 4
)


def told(attack, data: Dataset = DATA) -> tuple[Poisoned, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        poisoned = craft(attack, data, data, QUICK, 0)
    assert {w.category for w in caught} <= {BudgetWarning}
    return poisoned, [str(w.message) for w in caught]


# attack that asks for half of the rows, the rows that there are, the reason that is told
SHORT = [
    (Sinusoid(budget=0.5), 10, "class 0 has only 10 rows"),
    (LabelConsistent(budget=0.5, steps=1, target=2), 30, "class 2 has only 30 rows"),
    (HiddenTrigger(budget=0.5, steps=1), 10, "class 0 has only 10 rows"),
    (SleeperAgent(budget=0.5, steps=1, retrain=0), 10, "class 0 has only 10 rows"),
    (
        SleeperAgent(budget=0.5, steps=1, retrain=0, select="random"),
        10,
        "class 0 has only 10",
    ),
    (FeatureCollision(budget=0.5, steps=1, target=1), 20, "class 1 has only 20 rows"),
    (Bullseye(budget=0.5, steps=1, target=1), 20, "class 1 has only 20 rows"),
    (
        GradientMatching(budget=0.5, steps=1, restarts=1, target=1),
        20,
        "class 1 has only 20 rows",
    ),
    (
        MetaPoison(budget=0.5, steps=1, models=1, target=1),
        20,
        "class 1 has only 20 rows",
    ),
    (LabelFlip("pair", budget=0.5, source=2, target=3), 30, "class 2 has only 30 rows"),
    (LabelFlip("neighbour", budget=0.5, neighbours=7), 7, "the attack chose no more"),
    (Patch(budget=0.5, source=1), 20, "class 1 has only 20 rows"),
    (TaCT(budget=0.5, cover=0.1, source=1), 20, "class 1 has only 20 rows"),
]
# attacks that take rows of all classes but the largest
SIXTY = [
    Patch(target=3, budget=0.9),
    Blend(target=3, budget=0.9),
    Spread(target=3, budget=0.9),
    NormMatched(target=3, budget=0.9, steps=1, rounds=1),
]
COVERS = [
    TaCT(budget=0.1, cover=0.9, source=1),
    AdaptiveBlend(budget=0.1, cover=0.95),
    AdaptivePatch(budget=0.1, cover=0.95),
]


@pytest.mark.parametrize(("attack", "rows", "reason"), SHORT, ids=repr)
def test_rows_that_are_not_there_are_told_with_both_numbers_and_the_class(
    attack, rows, reason
):
    poisoned, messages = told(attack)
    assert int((poisoned.role == POISON).sum()) == rows
    (message,) = messages
    assert message.startswith(
        f"budget 0.5 of 100 rows pays for 50 rows, {rows} were spent"
    )
    assert reason in message


@pytest.mark.parametrize("attack", SIXTY, ids=repr)
def test_all_other_classes_together_may_be_too_small(attack):
    poisoned, (message,) = told(attack)
    assert int((poisoned.role == POISON).sum()) == 60
    assert "pays for 90 rows, 60 were spent (60.00% of all)" in message
    assert "classes 0, 1, 2 have only 60 rows" in message


@pytest.mark.parametrize("attack", COVERS, ids=repr)
def test_cover_rows_that_are_not_there_are_told(attack):
    poisoned, (message,) = told(attack)
    spent = int((poisoned.role == COVER).sum())
    asked = count(attack.cover, 100)
    assert message.startswith(
        f"cover {attack.cover} of 100 rows pays for {asked} rows, {spent} "
    )
    assert f"have only {spent} rows beside the poison" in message


def test_the_way_out_asks_for_what_was_spent():
    _, (message,) = told(Sinusoid(budget=0.5))
    assert "budget=0.1 asks" in message
    _, quiet = told(Sinusoid(budget=0.1))
    assert quiet == []


MET = [
    *[dataclasses.replace(attack, budget=rows / 100) for attack, rows, _ in SHORT],
    *[dataclasses.replace(attack, budget=0.6) for attack in SIXTY],
    *[dataclasses.replace(attack, cover=0.1) for attack in COVERS],
    LabelFlip(budget=0.99),
    ErrorMinimising(rounds=1, steps=1),
]


@pytest.mark.parametrize("attack", MET, ids=repr)
def test_a_budget_that_is_spent_to_the_last_row_is_not_told(attack):
    assert told(attack)[1] == []


def test_warped_cover_is_watched_as_well():
    assert told(Warp(budget=0.1, cover=0.2), LARGE)[1] == []
    _, (message,) = told(Warp(budget=0.1, cover=0.85), LARGE)
    assert "cover 0.85 of 100 rows pays for 85 rows, 80 were spent" in message


@dataclass(frozen=True)
class Partial:
    """An attack from outside the tree, which deletes rows and poisons some of class 1."""

    budget: float
    deleted: int = 0
    poisoned: int = 4

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        origin = torch.arange(self.deleted, 100)
        data = train.take(origin)
        role = torch.zeros(len(origin), dtype=torch.uint8)
        role[(data.y == 1).nonzero().squeeze(1)[: self.poisoned]] = POISON
        nothing = torch.zeros(0, dtype=torch.int64)
        return Poisoned(data, role, origin, test.take(nothing), nothing, nothing)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Partial(0.04), None),
        (Partial(0.07, deleted=3), None),
        (
            Partial(0.08, deleted=3),
            "8 rows, 7 were spent (7.00% of all): the attack chose no more",
        ),
        (
            Partial(0.5, deleted=15, poisoned=15),
            "50 rows, 30 were spent (30.00% of all): class 1",
        ),
        (
            Partial(0.5, poisoned=0),
            "50 rows, 0 were spent (0.00% of all): the attack chose no",
        ),
    ],
    ids=repr,
)
def test_attacks_outside_the_tree_and_deleted_rows_are_counted(attack, message):
    found = list(unspent(attack(DATA, DATA, QUICK, 0), DATA, attack))
    if message is None:
        assert found == []
    else:
        assert len(found) == 1
        assert message in found[0]


def test_the_warning_lies_in_the_log_of_the_scene(tmp_path):
    grid = {
        "dataset": {"name": "digits", "train": 200},
        "recipe": {"model": "linear", "epochs": 1},
        "probe": {"attacked": 5, "controls": 5, "calibration": 5},
        "attack": [{"name": "sinusoid", "budget": 0.5}],
    }
    run(parse(grid), Place(tmp_path), Options(workers=0))
    record = log.read(next(tmp_path.glob("scenes/*/scene.h5")))
    assert "budget 0.5 of 200 rows pays for 100 rows" in str(
        record.attributes["warnings"]
    )


@pytest.mark.parametrize(
    ("budget", "n", "rows"),
    [(0.058, 100, 6), (0.052, 100, 5), (0.001, 100, 1), (1.0, 7, 7), (0.5, 120, 60)],
)
def test_a_budget_pays_for_the_nearest_whole_number_of_rows_and_one_at_least(
    budget, n, rows
):
    assert count(budget, n) == rows
