"""Broken attacks are refused by the name of the rule that they break.

Names are found, or the nearest one is offered.
"""

import dataclasses
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from poisonbench.contracts.attack_rules import RULES, check_poisoned, count, craft
from poisonbench.contracts.protocols import Attack
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, join
from poisonbench.errors import ConfigError, DataError, PoisonError
from poisonbench.registry import lookup, nearest
from poisonbench.roles import COVER, POISON
from poisonbench.training import Recipe

RECIPE = Recipe()


@pytest.fixture
def clean() -> tuple[Dataset, Dataset]:
    y = torch.arange(20) % 4
    return Dataset(torch.linspace(0, 1, 20 * 9).view(20, 1, 3, 3), y, 4), Dataset(
        torch.full((8, 1, 3, 3), 0.5), y[:8], 4
    )


def sound(train: Dataset, test: Dataset) -> Poisoned:
    """Row 2 whitened and relabelled, row 5 as cover, test rows 1 and 3 attacked."""
    x, y, role = train.x.clone(), train.y.clone(), torch.zeros(20, dtype=torch.uint8)
    x[2], y[2], role[2], role[5] = 1.0, 0, POISON, COVER
    points = torch.tensor([1, 3])
    return Poisoned(
        train.rows(x, y),
        role,
        torch.arange(20),
        test.take(points),
        torch.zeros_like(points),
        points,
    )


@dataclass
class Broken:
    """The sound attack, and then `change(poisoned, train, test)`.

    The change alters it in place or returns something else.
    """

    change: Callable[[Poisoned, Dataset, Dataset], object]
    budget: float | None = 0.05
    cover: float = 0.05
    clean_label: bool = False
    eps: float | None = None

    def __call__(self, train, test, recipe, seed):
        poisoned = sound(train, test)
        changed = self.change(poisoned, train, test)
        return poisoned if changed is None else changed


def put(
    field: str, make: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[..., Poisoned]:
    """Replaces one tensor of the result.

    Role, origin, wanted, target_origin, or train.x, targets.y and the like.
    """

    def change(p: Poisoned, train: Dataset, test: Dataset) -> Poisoned:
        owner, _, name = field.rpartition(".")
        if not owner:
            return dataclasses.replace(p, **{field: make(getattr(p, field))})
        part = getattr(p, owner)
        return dataclasses.replace(
            p, **{owner: dataclasses.replace(part, **{name: make(getattr(part, name))})}
        )

    return change


def at(row: int, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a copy with `value` in `row`."""

    def make(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor[row] = value
        return tensor

    return make


def pixel(row: int, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a copy with `value` in the last pixel of `row`."""

    def make(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor[row, 0, -1, -1] = value
        return tensor

    return make


def classes(p, train, test):
    return dataclasses.replace(p, train=dataclasses.replace(p.train, classes=5))


def shorten(p, train, test):
    keep = torch.arange(19)
    parts = {name: getattr(p, name)[keep] for name in ("role", "origin")}
    return dataclasses.replace(p, train=p.train.take(keep), **parts)


def brighten(p, train, test):
    train.x[0] += 0.1


def relabel_test(p, train, test):
    test.y[0] = 3


CASES = [
    ("shape", Broken(put("role", lambda role: role[:-1]))),
    ("shape", Broken(put("origin", lambda origin: origin.view(4, 5)))),
    ("shape", Broken(put("wanted", lambda wanted: wanted[:1]))),
    ("shape", Broken(put("target_origin", lambda origin: origin[:0]))),
    ("shape", Broken(put("train.x", lambda x: x.flatten(2)[..., None]))),
    ("shape", Broken(put("targets.x", lambda x: x[..., :2]))),
    ("dtype", Broken(put("role", torch.Tensor.long))),
    ("dtype", Broken(put("origin", torch.Tensor.int))),
    ("dtype", Broken(put("wanted", torch.Tensor.float))),
    ("dtype", Broken(put("target_origin", torch.Tensor.int))),
    ("dtype", Broken(put("train.x", torch.Tensor.double))),
    ("dtype", Broken(put("targets.x", torch.Tensor.double))),
    ("kind", Broken(put("train.kind", lambda kind: "spectrogram"))),
    ("kind", Broken(put("targets.kind", lambda kind: "spectrogram"))),
    ("finite", Broken(put("train.x", at(2, torch.nan)))),
    ("finite", Broken(put("targets.x", at(1, torch.inf)))),
    ("finite", Broken(put("train.x", pixel(2, torch.nan)))),
    ("range", Broken(put("train.x", pixel(2, 1.001)))),
    ("range", Broken(put("targets.x", pixel(0, -0.001)))),
    ("clean", Broken(put("train.x", pixel(0, 0.5)))),
    (
        "budget",
        Broken(put("origin", at(2, -1))),
    ),  # a new row does not stand for a deleted one
    ("range", Broken(put("train.x", at(2, 1.001)))),
    ("range", Broken(put("targets.x", at(0, -0.001)))),
    ("label", Broken(put("train.y", at(2, 4)))),
    ("label", Broken(put("targets.y", at(0, -1)))),
    ("label", Broken(put("wanted", at(0, 4)))),
    ("label", Broken(classes)),
    ("role", Broken(put("role", at(7, 3)))),
    ("origin", Broken(put("origin", at(2, 20)))),
    ("origin", Broken(put("origin", at(2, -2)))),
    ("origin", Broken(put("origin", at(2, 3)))),
    ("origin", Broken(put("target_origin", at(0, 8)))),
    ("clean", Broken(put("train.x", at(0, 0.5)))),
    ("clean", Broken(put("train.y", at(0, 3)))),
    ("clean", Broken(put("origin", at(0, -1)))),
    ("budget", Broken(put("role", at(3, POISON)))),
    ("budget", Broken(shorten)),
    ("cover", Broken(put("role", at(6, COVER)))),
    ("cover", Broken(lambda p, train, test: None, cover=0.0)),
    ("true-label", Broken(put("targets.y", at(0, 2)))),
    ("clean-label", Broken(lambda p, train, test: None, clean_label=True)),
    ("eps", Broken(lambda p, train, test: None, eps=0.5)),
    ("wanted", Broken(put("wanted", at(1, 3)))),
    ("inputs", Broken(brighten)),
    ("inputs", Broken(relabel_test)),
    ("random-state", Broken(lambda p, train, test: torch.rand(1) and None)),
    (
        "random-state",
        Broken(lambda p, train, test: torch.set_default_dtype(torch.float64)),
    ),
    ("random-state", Broken(lambda p, train, test: np.random.rand())),  # noqa: NPY002
    ("random-state", Broken(lambda p, train, test: random.random())),
    ("type", Broken(lambda p, train, test: (p.train, p.targets))),
]


@pytest.mark.parametrize(
    ("rule", "attack"), CASES, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(CASES)]
)
def test_a_broken_attack_is_refused_by_the_rule_it_breaks(rule, attack, clean):
    with pytest.raises(PoisonError) as error:
        craft(attack, *clean, RECIPE, 0)
    assert error.value.rule == rule
    assert str(error.value).startswith(f"{rule}: ")
    assert RULES[rule] in error.value.hint


CLEAN_FAULTS = {  # of the data that an attack is given
    "a pixel above 1": ("train", "x", 1.25, "training set has pixels from 0 to 1.25"),
    "a pixel below 0": ("test", "x", -0.25, "test set has pixels from -0.25 to"),
    "not a number": ("train", "x", torch.nan, "training set is not finite in row 5"),
    "infinite": ("test", "x", torch.inf, "test set is not finite in row 5"),
    "a label of no class": ("train", "y", 4, "training set has label 4 in row 5"),
    "a negative label": ("test", "y", -1, "test set has label -1 in row 5"),
}


@pytest.mark.parametrize("fault", CLEAN_FAULTS)
def test_no_attack_is_blamed_for_a_fault_of_the_clean_data(fault, clean):
    owner, field, value, told = CLEAN_FAULTS[fault]
    faulty = dict(zip(("train", "test"), clean, strict=True))
    part = faulty[owner]
    faulty[owner] = dataclasses.replace(
        part, **{field: at(5, value)(getattr(part, field))}
    )
    train, test = faulty.values()

    def never_called(*_):
        pytest.fail("the attack ran on data that break a rule")

    with pytest.raises(DataError, match=told):
        craft(never_called, train, test, RECIPE, 0)
    with pytest.raises(DataError, match=told):
        check_poisoned(sound(train, test), train, test)


WORDS = ("", "?", "bad", "good")


@pytest.fixture
def sentences() -> tuple[Dataset, Dataset]:
    x = torch.tensor([[2, 3, 0], [3, 0, 0], [1, 2, 2], [3, 3, 0]])
    y = torch.tensor([0, 1, 0, 1])
    test = Dataset(x, y, 2, vocabulary=WORDS)
    train = test.take(torch.arange(20) % 4)
    return train, test


def misspell(p: Poisoned, train: Dataset, test: Dataset) -> None:
    p.train.x[2] = torch.tensor([2, 1, 0])
    p.train.y[2] = 1


def misspelt(then: Callable[..., Poisoned] | None = None) -> Broken:
    """Row 2 is another sentence of the other label; `then` breaks a rule."""

    def change(p: Poisoned, train: Dataset, test: Dataset) -> Poisoned | None:
        misspell(p, train, test)
        return None if then is None else then(p, train, test)

    return Broken(change)


def row(index: int, *ids: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return at(index, torch.tensor(ids))


def as_numbers(p: Poisoned, train: Dataset, test: Dataset) -> Poisoned:
    numbers = Dataset(p.train.x.float(), p.train.y, 2)
    return dataclasses.replace(p, train=numbers)


SENTENCE_CASES = [
    ("dtype", as_numbers),
    ("kind", put("train.vocabulary", lambda words: (*words, "more"))),
    ("kind", put("targets.vocabulary", lambda words: words[::-1])),
    ("range", put("train.x", row(2, 4, 0, 0))),
    ("range", put("targets.x", row(1, 2, -1, 0))),
    ("padding", put("train.x", row(2, 0, 2, 0))),
    ("padding", put("train.x", row(2, 2, 0, 2))),
    ("padding", put("targets.x", row(0, 0, 0, 0))),
    ("clean", put("train.x", row(0, 2, 2, 0))),
    ("label", put("train.y", at(2, 2))),
]


@pytest.mark.parametrize(
    ("rule", "change"),
    SENTENCE_CASES,
    ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(SENTENCE_CASES)],
)
def test_a_rule_of_sentences_that_is_broken_is_named(rule, change, sentences):
    with pytest.raises(PoisonError) as error:
        craft(misspelt(change), *sentences, RECIPE, 0)
    assert error.value.rule == rule


def test_a_sound_attack_on_sentences_passes(sentences):
    poisoned = craft(misspelt(), *sentences, RECIPE, 0)
    assert poisoned.train.vocabulary == WORDS
    assert int((poisoned.role == POISON).sum()) == 1


def test_every_rule_is_broken_once():
    told = [*CASES, *SENTENCE_CASES]
    assert {rule for rule, _ in told} == set(RULES)


def test_a_sound_attack_passes(clean):
    attack = Broken(lambda p, train, test: None)
    assert isinstance(attack, Attack)
    assert int((craft(attack, *clean, RECIPE, 0).role == POISON).sum()) == 1


def test_new_removed_and_shuffled_rows_pass(clean):
    train, test = clean
    p = sound(train, test)
    keep = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:15]
    keep = torch.cat([keep[keep != 2], torch.tensor([2])])
    new = Dataset(torch.rand(1, 1, 3, 3), torch.tensor([1]), 4)
    grown = Poisoned(
        join([p.train.take(keep), new]),
        torch.cat([p.role[keep], torch.tensor([POISON], dtype=torch.uint8)]),
        torch.cat([p.origin[keep], torch.tensor([-1])]),
        p.targets,
        p.wanted,
        torch.tensor([-1, 3]),
    )
    check_poisoned(grown, train, test)


class Stamped(Broken):
    """Row 2 is white in a corner, which eps does not bound, and moved by .25 elsewhere."""

    def covered(self, shape):
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[..., 2:, 2:] = True
        return mask


def shift(amount: float) -> Callable[..., None]:
    def change(p: Poisoned, train: Dataset, test: Dataset) -> None:
        p.train.x[2] = train.x[2] + amount
        p.train.x[2, :, 2, 2] = 1

    return change


@pytest.mark.parametrize("amount", [0.25, -0.25])
def test_eps_bounds_every_pixel_but_those_that_a_trigger_covers(amount, clean):
    train = Dataset(clean[0].x.clamp(0.25, 0.75), clean[0].y, 4)
    craft(Stamped(shift(amount), eps=0.25), train, clean[1], RECIPE, 0)
    for attack in (Stamped(shift(amount), eps=0.24), Broken(shift(amount), eps=0.25)):
        with pytest.raises(
            PoisonError,
            match=r"eps: a pixel is more than eps .* in row 2 \(1 of 20 rows\)",
        ):
            craft(attack, train, clean[1], RECIPE, 0)


def test_eps_does_not_bind_new_rows(clean):
    p = sound(*clean)
    p.origin[2] = -1
    check_poisoned(p, *clean, Broken(lambda *_: None, budget=0.1, eps=0.01))


def test_an_indiscriminate_attack_without_targets_passes(clean):
    train, test = clean
    none = torch.empty(0, dtype=torch.int64)
    check_poisoned(
        dataclasses.replace(
            sound(train, test), targets=test.take(none), wanted=none, target_origin=none
        ),
        *clean,
    )


def test_feature_data_may_leave_the_unit_interval():
    data = Dataset(torch.randn(10, 5) * 9, torch.arange(10) % 2, 2)
    role = torch.zeros(10, dtype=torch.uint8)
    points = torch.tensor([0])
    check_poisoned(
        Poisoned(
            data, role, torch.arange(10), data.take(points), 1 - data.y[points], points
        ),
        data,
        data,
    )


def test_a_message_names_the_row_and_how_many_there_are(clean):
    with pytest.raises(
        PoisonError, match=r"clean: a clean row was changed in row 4 \(1 of 20 rows\)"
    ):
        craft(Broken(put("train.x", at(4, 0.5))), *clean, RECIPE, 0)


def test_the_global_state_is_put_back_after_an_attack_that_moves_it(clean):
    before = torch.random.get_rng_state()
    for rule, attack in CASES:
        if rule == "random-state":
            with pytest.raises(PoisonError):
                craft(attack, *clean, RECIPE, 0)
            assert torch.equal(torch.random.get_rng_state(), before)
            assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("budget", "n", "rows"),
    [(0.01, 1297, 13), (0.05, 1297, 65), (0.001, 100, 1), (0.5, 3, 2), (0.999, 10, 10)],
)
def test_count_rounds_and_pays_for_one_row_at_least(budget, n, rows):
    assert count(budget, n) == rows


TABLE = {"patch": int, "blend": float, "label-flip": str}


def test_lookup_finds_names_of_the_table_and_attributes_of_modules():
    assert lookup(TABLE, "patch", "attack") is int
    assert lookup(TABLE, "poisonbench.training:Recipe", "attack") is Recipe


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("pach", "patch"), ("blent", "blend"), ("label_flip", "label-flip")],
)
def test_a_typo_gets_the_nearest_name_and_the_whole_list(typo, meant):
    with pytest.raises(
        ConfigError, match=f"unknown attack '{typo}'; did you mean '{meant}'"
    ) as error:
        lookup(TABLE, typo, "attack")
    assert "blend, label-flip, patch" in error.value.hint


def test_a_name_unlike_any_other_gets_no_suggestion():
    assert nearest("zzz", TABLE) == ""
    with pytest.raises(ConfigError) as error:
        lookup(TABLE, "zzz", "attack")
    assert error.value.errors == ["unknown attack 'zzz'"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module_anywhere:Attack", "cannot import 'no_such_module_anywhere'"),
        (
            "poisonbench.no_such_module:Attack",
            "cannot import 'poisonbench.no_such_module'",
        ),
        (
            "poisonbench.data:NoSuchAttack",
            "module 'poisonbench.data' has no 'NoSuchAttack'",
        ),
        (":Attack", "importing '' raised ValueError"),
    ],
)
def test_a_target_that_cannot_be_imported_is_a_configuration_error(target, message):
    with pytest.raises(ConfigError, match=message) as error:
        lookup(TABLE, target, "attack")
    assert error.value.errors[0].startswith(f"attack '{target}': ")


def test_a_module_that_raises_on_import_is_a_configuration_error(tmp_path, monkeypatch):
    (tmp_path / "explodes_on_import.py").write_text("raise RuntimeError('boom')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConfigError, match="importing 'explodes_on_import' raised RuntimeError: boom"
    ):
        lookup(TABLE, "explodes_on_import:Attack", "attack")
    assert "explodes_on_import" not in sys.modules


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([5, 6, 7, 8, 0, 0], 0),
        ([5, 9, 7, 8, 0, 0], 1),
        ([4, 5, 6, 7, 8, 0], 1),
        ([5, 7, 8, 0, 0, 0], 1),
        ([4, 4, 5, 6, 8, 0], 3),
        ([8, 7, 6, 5, 0, 0], 4),
    ],
)
def test_eps_of_a_sentence_counts_the_words_that_are_replaced_inserted_or_deleted(
    words, changed
):
    x = torch.tensor([[5, 6, 7, 8, 0, 0]]).repeat(20, 1)
    vocabulary = tuple(f"word{i}" for i in range(10))
    data = Dataset(x, torch.arange(20) % 4, 4, vocabulary=vocabulary)

    def change(p: Poisoned, train: Dataset, test: Dataset) -> None:
        p.train.x[2] = torch.tensor(words)

    craft(Broken(change, eps=changed), data, data, RECIPE, 0)
    if changed:
        with pytest.raises(PoisonError, match=r"eps: more than eps .* words .* row 2"):
            craft(Broken(change, eps=changed - 1), data, data, RECIPE, 0)
