"""Every attack meets the contract and does what it is known for.

A new attack is one row of ROWS.
"""

import dataclasses
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import (
    ATTACKS,
    LSP,
    AdaptiveBlend,
    AdaptivePatch,
    Blend,
    Bullseye,
    ErrorMinimising,
    FeatureCollision,
    File,
    GradientMatching,
    HiddenTrigger,
    LabelConsistent,
    LabelFlip,
    MetaPoison,
    NoAttack,
    NormMatched,
    OutsideInstances,
    Patch,
    RandomLabels,
    Sinusoid,
    SleeperAgent,
    Spread,
    TaCT,
    Tone,
    TriggerFeatures,
    TriggerSentence,
    TriggerWord,
    Warp,
)
from experiments.check import ATTACK, AttackSubject, judge
from poisonbench import training
from poisonbench.contracts.attack_rules import count, craft
from poisonbench.contracts.trigger import lay_trigger
from poisonbench.contracts.values import Poisoned
from poisonbench.data import KINDS, Dataset, kinds_of
from poisonbench.errors import BudgetWarning, ConfigError, PoisonError
from poisonbench.models import predict
from poisonbench.poison_file import write_poison
from poisonbench.roles import COVER, POISON
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from tests.small_data import enlarged, small_data

QUICK = Recipe(
    model="mlp", epochs=4, batch_size=32, lr=0.1
)  # of surrogates, where only the form matters
VICTIM = Recipe(
    model="cnn", epochs=20, batch_size=64, lr=0.1
)  # a second or two, 97.5 % on the clean digits


def replayed() -> File:
    """A poison file of the small digits, in a folder that goes with the process."""
    path = Path(FOLDER.name) / "poison.h5"
    write_poison(
        path,
        Patch(budget=0.05)(*small_data("image"), QUICK, 0),
        *small_data("image"),
        {"scene": {}, "claims": {"budget": 0.05}},
    )
    return File(str(path))


FOLDER = tempfile.TemporaryDirectory()
ROWS = [
    NoAttack(),
    replayed(),
    LabelFlip(),
    LabelFlip(budget=0.3),
    LabelFlip("pair"),
    LabelFlip("pair", source=3, target=8),
    LabelFlip("pair", budget=0.5, target=2),
    LabelFlip("neighbour", neighbours=10),
    LabelFlip("neighbour", neighbours=15, source=4, target=9),
    Patch(),
    Patch(target=7, budget=0.2, size=1, place="top-left"),
    Patch(budget=0.05, size=3, place="top-right", value=0.5),
    Patch(budget=0.05, place="bottom-left"),
    Patch(budget=0.05, size=8, place="centre", value=0.0),
    Patch("all-to-all", budget=0.1),
    Patch(budget=0.05, source=3, place="corners"),
    Patch(budget=0.1, place="random"),
    Blend(),
    Blend(target=9, budget=0.1, alpha=0.9),
    Sinusoid(),
    Sinusoid(target=4, budget=0.03, delta=0.5, frequency=2),
    TaCT(),
    TaCT(target=7, source=2, budget=0.02, cover=0.1, place="random"),
    TaCT(cover=0),
    AdaptiveBlend(),
    AdaptiveBlend(
        target=3, budget=0.1, cover=0.05, alpha=0.5, pieces=3, keep=0.3, fade=0.75
    ),
    AdaptivePatch(),
    AdaptivePatch(target=3, budget=0.1, cover=0.05, size=3, opacity=1),
    OutsideInstances(dataset="digits"),
    OutsideInstances(dataset="digits", outside=4, target=9, budget=0.05),
    TriggerFeatures(),
    TriggerFeatures(target=3, budget=0.1, features=(9, 2), value=0.5),
    TriggerFeatures(target=7, budget=0.1, size=5, value="in-bounds"),
    TriggerWord(),
    TriggerWord(target=3, budget=0.1, word="movie"),
    TriggerSentence(),
    TriggerSentence(target=3, budget=0.1, sentence="word1 this"),
    Tone(),
    Tone(target=3, budget=0.1, band=1, bins=3, frames=4, time="middle", level=0.5),
    Warp(),
    Warp(target=5, budget=0.05, cover=0, grid=6, strength=2),
    LabelConsistent(steps=3),
    LabelConsistent(
        target=4,
        eps=0.3,
        steps=3,
        place="corners",
        value=0.5,
        surrogate=Recipe("linear", epochs=2),
    ),
    HiddenTrigger(steps=3),
    HiddenTrigger(
        target=4,
        source=None,
        eps=0.3,
        steps=3,
        place="random",
        surrogate=Recipe("linear", epochs=2),
    ),
    LabelFlip("neighbour", neighbours=5, surrogate=Recipe(model="linear", epochs=2)),
    RandomLabels(),
    RandomLabels(budget=0.4),
    LSP(),
    LSP(budget=0.5, strength=0.2, patch=3, noise=0),
    ErrorMinimising(rounds=3, steps=3),
    ErrorMinimising(
        budget=0.5,
        eps=0.1,
        rounds=2,
        steps=3,
        surrogate=Recipe(model="linear", epochs=2),
    ),
    FeatureCollision(steps=10),
    FeatureCollision(
        source=3, target=8, eps=None, steps=10, watermark=0.3, surrogates=2
    ),
    Bullseye(steps=10),
    Bullseye(
        budget=0.02,
        eps=0.3,
        steps=10,
        polytope=True,
        surrogate=Recipe(model="linear", epochs=2),
        surrogates=2,
    ),
    GradientMatching(steps=5, restarts=2),
    GradientMatching(
        source=3, target=8, steps=5, restarts=1, augment="shift-flip", surrogates=2
    ),
    SleeperAgent(steps=5, retrain=1),
    SleeperAgent(
        source=None,
        target=4,
        steps=5,
        retrain=0,
        select="random",
        augment="shift",
        place="random",
        surrogates=2,
    ),
    MetaPoison(steps=3, models=2),
    Spread(budget=0.05),
    Spread(target=7, budget=0.1, pieces=9, size=2, value=0.5),
    NormMatched(steps=5, rounds=2),
    NormMatched(
        target=3,
        budget=0.05,
        steps=5,
        rounds=1,
        place="corners",
        surrogate=Recipe(model="linear", epochs=2),
    ),
]
TRIGGERS = [attack for attack in ROWS if hasattr(attack, "trigger")]
CHECKS = {
    rule: check
    for rule, check in ATTACK.items()
    if rule not in ("visible", "success", "kinds")
}  # no victim here; other kinds have rows of their own
NAMES = {cls: name for name, cls in ATTACKS.items()}
# nothing is drawn: no poison, a file, or every row that there is
SEEDLESS = [attack for attack in ROWS if not getattr(attack, "seeded", True)] + [
    LabelFlip("pair", budget=0.5, target=2)
]


def name_of(attack: object) -> str:
    """The repr, but for the one that names a temporary folder.

    Ids must not change from run to run.
    """
    return "File" if isinstance(attack, File) else repr(attack)


every_attack = pytest.mark.parametrize("attack", ROWS, ids=name_of)
every_trigger = pytest.mark.parametrize("attack", TRIGGERS, ids=repr)


def data_for(attack: object, kind: str) -> tuple[Dataset, Dataset]:
    """300 training and 100 test rows, at four times the size for attacks that need larger ones.

    For one that inserts digits they are negatives, so that its digits are those of other data.
    """
    train, test = small_data(kind)
    if isinstance(attack, OutsideInstances):
        return train.rows(1 - train.x, train.y), test.rows(1 - test.x, test.y)
    if isinstance(attack, Warp):
        return enlarged((train, test))
    return train, test


# every row on the first kind that it takes, the first row of each class on the others too
FIRST = {type(attack): attack for attack in reversed(ROWS)}
PAIRS = [(attack, kinds_of(attack)[0]) for attack in ROWS] + [
    (attack, kind) for attack in FIRST.values() for kind in kinds_of(attack)[1:]
]


@pytest.fixture
def small(request) -> tuple[Dataset, Dataset]:
    """300 training and 100 test rows of the first kind that the attack takes, else digits."""
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    attack = params.get("attack")
    return data_for(attack, kinds_of(attack)[0] if attack else "image")


def attacked_rows(attack, y: torch.Tensor) -> torch.Tensor:
    """Which instances of the labels y an attack with a trigger poisons and attacks.

    Those of the target are not poisoned unless it keeps labels.
    """
    if attack.target == "all-to-all":
        return torch.ones_like(y, dtype=torch.bool)
    source = getattr(attack, "source", None)
    return y != attack.target if source is None else y == source


def wanted_by(attack, y: torch.Tensor) -> torch.Tensor:
    return (
        (y + 1) % 10
        if attack.target == "all-to-all"
        else torch.full_like(y, attack.target)
    )


# --- the contract ---


def test_every_attack_of_the_table_is_tested_and_lies_in_the_module_of_its_name():
    assert {type(attack) for attack in ROWS} == set(ATTACKS.values())
    for name, cls in ATTACKS.items():
        assert cls.__module__ == f"attacks.{name.replace('-', '_')}"
        assert sys.modules[cls.__module__].__doc__


@every_attack
def test_an_attack_is_a_value_that_its_repr_names(attack):
    assert eval(repr(attack)) == attack


@pytest.mark.parametrize(
    ("attack", "kind"),
    PAIRS,
    ids=lambda value: value if isinstance(value, str) else name_of(value),
)
def test_no_rule_of_the_contract_is_broken(attack, kind):
    """The rules of `poisonbench check attack`.

    State, inputs, budget, labels, determinism, float64, memory, trigger, ...
    """
    small = data_for(attack, kind)
    subject = AttackSubject("attack", NAMES[type(attack)], attack, small)
    verdicts = {verdict.rule: verdict for verdict in judge(CHECKS, subject)}
    assert [verdict for verdict in verdicts.values() if verdict.outcome == "fail"] == []
    origin = subject.poisoned().origin
    assert torch.equal(origin[:300], torch.arange(300))
    replaces = not isinstance(attack, OutsideInstances)  # all others do
    assert not replaces or len(origin) == 300
    varies = verdicts["seed"].outcome == "ok"
    assert varies or attack in SEEDLESS


@every_trigger
def test_every_test_point_of_the_attacked_classes_is_attacked_with_the_whole_trigger(
    attack, small
):
    clean, test = small
    p = attack(clean, test, QUICK, 5)
    assert torch.equal(
        p.target_origin, attacked_rows(attack, test.y).nonzero().squeeze(1)
    )
    shown = lay_trigger(attack, test.x[p.target_origin], 5, clean)
    assert torch.equal(p.targets.x, shown)
    assert torch.equal(p.wanted, wanted_by(attack, p.targets.y))


@every_trigger
def test_poison_is_spent_on_rows_that_serve_and_cover_rows_keep_their_labels(
    attack, small
):
    clean, test = small
    p = attack(clean, test, QUICK, 0)
    poison, cover = p.role == POISON, p.role == COVER
    if getattr(attack, "clean_label", False):
        assert (clean.y[poison] == attack.target).all()
    else:
        assert attacked_rows(attack, clean.y)[poison].all()
        assert torch.equal(p.train.y[poison], wanted_by(attack, clean.y[poison]))
    assert int(cover.sum()) == (
        count(attack.cover, 300) if getattr(attack, "cover", 0) else 0
    )
    assert torch.equal(p.train.y[cover], clean.y[cover])
    assert int(poison.sum()) == count(attack.budget, 300), "cover took rows of poison"
    assert attack.target not in clean.y[cover].tolist()


@every_trigger
def test_a_trigger_treats_every_row_alike_and_leaves_its_argument_as_it_was(
    attack, small
):
    x = small[1].x.clone()
    whole = lay_trigger(attack, x, 1, small[0])
    assert torch.equal(x, small[1].x)
    alone = [lay_trigger(attack, row, 1, small[0]) for row in x.split(1)]
    assert torch.equal(whole, torch.cat(alone))


def test_the_control_poisons_no_row_and_attacks_no_point(small):
    p = NoAttack()(*small, QUICK, 0)
    assert not p.role.any()
    assert torch.equal(p.train.x, small[0].x)
    assert len(p.targets) == len(p.wanted) == 0


# --- budgets ---

MIXED = Dataset(
    torch.rand((97, 3, 5, 4), generator=generator(0, "pixels")),
    torch.randint(4, (97,), generator=generator(0, "labels")),
    4,
)
OTHERS = lambda attack: int((MIXED.y != attack.target).sum())  # noqa: E731
ELIGIBLE = {
    LabelFlip: lambda attack: (
        97 if attack.mode == "random" else int((MIXED.y == attack.source).sum())
    ),
    **dict.fromkeys((Patch, Blend, AdaptiveBlend, AdaptivePatch), OTHERS),
    Sinusoid: lambda attack: int((MIXED.y == attack.target).sum()),
    TaCT: lambda attack: int((MIXED.y == attack.source).sum()),
}


SPENDERS = [
    Patch(target=2),
    Blend(),
    Sinusoid(frequency=1),
    TaCT(cover=0),
    AdaptiveBlend(cover=0),
    AdaptivePatch(cover=0, size=2),
]


@settings(deadline=None, max_examples=60)
@given(
    attack=st.sampled_from(
        [LabelFlip(), LabelFlip("pair", source=1, target=3), *SPENDERS]
    ),
    budget=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**40),
)
def test_the_budget_is_spent_to_the_last_row_that_can_be_poisoned(attack, budget, seed):
    attack = dataclasses.replace(attack, budget=budget)
    asked, there = count(budget, 97), ELIGIBLE[type(attack)](attack)
    with (
        nullcontext()
        if asked <= there
        else pytest.warns(BudgetWarning, match=f"{there} were")
    ):
        p = craft(attack, MIXED, MIXED, QUICK, seed)
    assert int((p.role == POISON).sum()) == min(asked, there)


@settings(deadline=None, max_examples=60)
@given(
    budget=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**40),
)
def test_a_random_flip_never_keeps_the_label(budget, seed):
    p = LabelFlip(budget=budget)(MIXED, MIXED, QUICK, seed)
    assert torch.equal(p.train.y != MIXED.y, p.role == POISON)
    assert len(p.targets) == 0


# --- each attack's own form ---


@pytest.mark.parametrize(("side", "size"), [(8, 2), (15, 2), (16, 3), (32, 3)])
@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [
        ("top-left", slice(None, 2), slice(None, 2)),
        ("top-right", slice(None, 2), slice(-2, None)),
        ("bottom-left", slice(-2, None), slice(None, 2)),
        ("bottom-right", slice(-2, None), slice(-2, None)),
    ],
)
def test_a_patch_covers_its_square_in_every_channel_and_nothing_else(
    side, size, place, rows, columns
):
    stamped = Patch(place=place).trigger(torch.zeros(2, 3, side, side + 1))
    assert (stamped[:, :, rows, columns] == 1).all()
    assert stamped.sum() == 2 * 3 * size**2


def test_a_centred_patch_is_centred():
    stamped = Patch(place="centre", size=2).trigger(torch.zeros(1, 1, 8, 8))
    assert torch.equal(stamped, stamped.flip(2, 3))
    assert stamped.sum() == 4


def test_a_blend_is_linear_in_the_image_and_its_noise_depends_on_the_seed_alone():
    black, white = torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8)
    low, high = Blend(alpha=0.25).trigger(black, 0), Blend(alpha=0.25).trigger(white, 0)
    torch.testing.assert_close(high - low, 0.75 * white)
    assert 0 <= low.min() < 0.05 < 0.2 < low.max() <= 0.25
    assert torch.equal(low[0], low[2])
    assert torch.equal(
        low.double().float(), Blend(alpha=0.25).trigger(black.double(), 0).float()
    )
    assert not torch.equal(low, Blend(alpha=0.25).trigger(black, 1))


def test_a_pair_flip_moves_one_class_to_one_other(small):
    clean, test = small
    p = LabelFlip("pair", source=3, target=8)(clean, test, QUICK, 0)
    rows = p.role == POISON
    assert clean.y[rows].unique().tolist() == [3]
    assert p.train.y[rows].unique().tolist() == p.wanted.unique().tolist() == [8]
    assert torch.equal(p.target_origin, (test.y == 3).nonzero().squeeze(1))


@pytest.mark.parametrize(
    ("fixed", "pairs"),
    [
        ({}, {(a, b) for a in range(4) for b in range(4) if a != b}),
        ({"source": 2}, {(2, 0), (2, 1), (2, 3)}),
        ({"target": 2}, {(0, 2), (1, 2), (3, 2)}),
    ],
)
def test_a_pair_flip_draws_the_classes_that_are_left_open(fixed, pairs):
    drawn = [
        LabelFlip("pair", **fixed)(MIXED, MIXED, QUICK, seed) for seed in range(120)
    ]
    assert {(int(p.targets.y[0]), int(p.wanted[0])) for p in drawn} == pairs


def test_neighbour_flips_the_rows_nearest_in_the_features_of_the_victims_own_recipe(
    small, monkeypatch
):
    recipes = []
    monkeypatch.setattr(
        training, "train", lambda *args: recipes.append(args[1]) or train(*args)
    )
    clean, test = small
    linear = Recipe(
        model="linear", epochs=10
    )  # its features are the pixels, so the neighbours are known
    p = LabelFlip("neighbour", neighbours=12)(clean, test, linear, 0)
    assert recipes == [linear]
    assert len(p.targets) == 1
    assert torch.equal(p.targets.x, test.x[p.target_origin])
    distance = (
        (clean.x - p.targets.x)
        .flatten(1)
        .norm(dim=1)
        .where(clean.y != p.wanted, torch.inf)
    )
    assert torch.equal(
        (p.role == POISON).nonzero().squeeze(1), distance.argsort()[:12].sort().values
    )
    assert (p.train.y[p.role == POISON] == p.wanted).all()


def test_neighbour_keeps_to_its_source_and_target(small):
    for seed in range(4):
        p = LabelFlip("neighbour", neighbours=5, source=4, target=9)(
            *small, QUICK, seed
        )
        assert (p.targets.y.tolist(), p.wanted.tolist()) == ([4], [9])


# --- refusals ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelFlip(budget=1.5), r"budget must lie in \(0, 1\), got 1.5"),
        (
            lambda: LabelFlip(budget=float("nan")),
            r"budget must lie in \(0, 1\), got nan",
        ),
        (
            lambda: LabelFlip("both"),
            "mode must be one of random, pair, neighbour, got 'both'",
        ),
        (lambda: LabelFlip("pair", source=-1), "source must be at least 0, got -1"),
        (lambda: LabelFlip("pair", target=-2), "target must be at least 0, got -2"),
        (
            lambda: LabelFlip("pair", source=3, target=3),
            "source and target must differ, got 3 for both",
        ),
        (
            lambda: LabelFlip(target=3),
            "mode random takes no source or target, got source=None, target=3",
        ),
        (
            lambda: LabelFlip("neighbour", neighbours=0),
            "neighbours must be at least 1, got 0",
        ),
        (lambda: Patch("all"), "target must be a label or all-to-all, got 'all'"),
        (
            lambda: Patch("all-to-all", source=1),
            "target all-to-all attacks every class and takes no source, got source=1",
        ),
        (lambda: Patch(source=0), "source and target must differ, got 0 for both"),
        (lambda: Sinusoid(delta=1.0), r"delta must lie in \(0, 1\), got 1.0"),
        (
            lambda: Sinusoid(frequency=float("inf")),
            "frequency must be positive and finite, got inf",
        ),
        (lambda: TaCT(cover=1.0), r"cover must lie in \[0, 1\), got 1.0"),
        (
            lambda: TaCT(target=2, source=2),
            "source and target must differ, got 2 for both",
        ),
        (lambda: AdaptiveBlend(pieces=0), "pieces must be at least 1, got 0"),
        (lambda: AdaptiveBlend(keep=0.0), r"keep must lie in \(0, 1\], got 0.0"),
        (lambda: AdaptiveBlend(fade=1.5), r"fade must lie in \(0, 1\], got 1.5"),
        (lambda: AdaptivePatch(opacity=0), r"opacity must lie in \(0, 1\], got 0"),
        (lambda: Warp(grid=1), "grid must be at least 2, got 1"),
        (lambda: Warp(strength=-1), "strength must be non-negative and finite, got -1"),
        (lambda: LabelConsistent(eps=0), r"eps must lie in \(0, 1\), got 0"),
        (lambda: LabelConsistent(steps=0), "steps must be at least 1, got 0"),
        (
            lambda: LabelConsistent(place="random"),
            "place must be one of top-left, .*, corners, got 'random'",
        ),
        (
            lambda: HiddenTrigger(source=0),
            "source and target must differ, got 0 for both",
        ),
        (lambda: HiddenTrigger(eps=1.0), r"eps must lie in \(0, 1\), got 1.0"),
        (lambda: Patch(target=-1), "target must be at least 0, got -1"),
        (lambda: Patch(budget=0), r"budget must lie in \(0, 1\), got 0"),
        (lambda: Patch(size=0), "size must be at least 1, got 0"),
        (
            lambda: Patch(place="middle"),
            "place must be one of top-left, .*, random, got 'middle'",
        ),
        (lambda: Patch(value=1.1), r"value must lie in \[0, 1\], got 1.1"),
        (lambda: Blend(target=-1), "target must be at least 0, got -1"),
        (lambda: Blend(budget=-0.1), r"budget must lie in \(0, 1\), got -0.1"),
        (lambda: Blend(alpha=1.0), r"alpha must lie in \(0, 1\), got 1.0"),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused_with_its_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "attack", [cls() for cls in NAMES if cls is not File], ids=repr
)
def test_data_of_a_kind_that_an_attack_does_not_take_are_refused(attack):
    for kind in set(KINDS) - set(kinds_of(attack)):
        name = type(attack).__name__
        with pytest.raises(ConfigError, match=f"{name} works on .*, got .* {kind}"):
            attack(*small_data(kind), QUICK, 0)


@pytest.mark.parametrize(
    ("attack", "error", "message"),
    [
        (Patch(size=5), ConfigError, "size must be at most 4 on images of 5x4, got 5"),
        (Patch(source=4), PoisonError, r"label: source must lie in \[0, 4\), got 4"),
        (
            Patch(size=5, place="random"),
            ConfigError,
            "size must be at most 4 on images of 5x4, got 5",
        ),
        (Sinusoid(target=4), PoisonError, r"label: target must lie in \[0, 4\), got 4"),
        (
            AdaptiveBlend(pieces=5),
            ConfigError,
            "pieces must be at most 4 on images of 5x4, got 5",
        ),
        (
            AdaptivePatch(size=5),
            ConfigError,
            "size must be at most 4 on images of 5x4, got 5",
        ),
        (
            Warp(),
            ConfigError,
            "a smooth warp of a fraction of a pixel needs images of 28x28 at least, got 5x4",
        ),
        (
            LabelConsistent(size=5),
            ConfigError,
            "size must be at most 4 on images of 5x4, got 5",
        ),
        (
            LabelConsistent(target=4),
            PoisonError,
            r"label: target must lie in \[0, 4\), got 4",
        ),
        (
            HiddenTrigger(size=5),
            ConfigError,
            "size must be at most 4 on images of 5x4, got 5",
        ),
        (
            HiddenTrigger(source=4),
            PoisonError,
            r"label: source must lie in \[0, 4\), got 4",
        ),
        (Patch(target=4), PoisonError, r"label: target must lie in \[0, 4\), got 4"),
        (Blend(target=9), PoisonError, r"label: target must lie in \[0, 4\), got 9"),
        (
            LabelFlip("pair", source=4),
            PoisonError,
            r"label: source must lie in \[0, 4\), got 4",
        ),
        (
            LabelFlip("pair", target=7),
            PoisonError,
            r"label: target must lie in \[0, 4\), got 7",
        ),
    ],
    ids=repr,
)
def test_what_does_not_fit_the_data_is_refused_before_anything_is_trained(
    attack, error, message, monkeypatch
):
    monkeypatch.setattr(training, "train", lambda *args: pytest.fail("trained"))
    with pytest.raises(error, match=message):
        attack(MIXED, MIXED, QUICK, 0)


def test_neighbours_beyond_the_budget_are_refused_before_anything_is_trained(
    monkeypatch,
):
    monkeypatch.setattr(training, "train", lambda *args: pytest.fail("trained"))
    with pytest.raises(
        PoisonError,
        match=r"budget: neighbours must be at most 5, which budget 0.05 of 97 rows .*, got 6",
    ) as e:
        LabelFlip("neighbour", neighbours=6)(MIXED, MIXED, QUICK, 0)
    assert e.value.rule == "budget"


def test_classes_without_rows_are_refused():
    alone = Dataset(MIXED.x, torch.zeros_like(MIXED.y), 4)
    for attack in (
        Patch(),
        Blend(),
        Sinusoid(target=1),
        TaCT(source=2),
        AdaptiveBlend(),
        LabelFlip("pair", source=2),
    ):
        with pytest.raises(
            ConfigError, match="none of the 97 training rows can be poisoned"
        ):
            attack(alone, MIXED, QUICK, 0)
    with pytest.raises(ConfigError, match="between two classes or more"):
        LabelFlip()(Dataset(MIXED.x, torch.zeros_like(MIXED.y), 1), MIXED, QUICK, 0)
    with pytest.raises(ConfigError, match="no test point to attack"):
        LabelFlip("neighbour", neighbours=3, source=2)(alone, MIXED, QUICK, 0)


# --- the facts ---


def success(p: Poisoned, seed: int, test: Dataset) -> tuple[float, float]:
    """Attack success rate and clean accuracy of a victim trained on p."""
    model = train(p.train, VICTIM, seed).model()
    hit = predict(model, p.targets.x).argmax(1) == p.wanted
    return float(hit.float().mean()), float(
        (predict(model, test.x).argmax(1) == test.y).float().mean()
    )


@pytest.mark.parametrize(
    ("attack", "least"),
    [(Patch(budget=0.05), 0.9), (Blend(alpha=0.3), 0.8)],
    ids=["patch at 5 %", "blend of .3 at 5 %"],
)
def test_a_backdoor_opens_and_clean_accuracy_stays(attack, least, digits):
    rate, accuracy = success(craft(attack, *digits, VICTIM, 0), 0, digits[1])
    assert rate >= least
    assert accuracy >= 0.95


def test_a_clean_victim_ignores_the_triggers(digits):
    model = train(digits[0], VICTIM, 0).model()
    for attack in (Patch(budget=0.05), Blend(alpha=0.3)):
        p = attack(*digits, VICTIM, 0)
        assert (predict(model, p.targets.x).argmax(1) == p.wanted).float().mean() < 0.02


def test_pair_flips_turn_source_into_target(digits):
    p = craft(LabelFlip("pair", source=3, target=8), *digits, VICTIM, 0)
    clean = train(digits[0], VICTIM, 0).model()
    before = float((predict(clean, p.targets.x).argmax(1) == 8).float().mean())
    assert success(p, 0, digits[1])[0] > before + 0.15


@pytest.mark.slow
def test_neighbour_flips_turn_their_target_in_most_seeds(digits):
    # a bound that eight draws meet on every processor, each of which rounds to others
    attack = LabelFlip("neighbour", budget=20 / len(digits[0]))
    hits = [
        success(craft(attack, *digits, VICTIM, seed), seed, digits[1])[0]
        for seed in range(10, 18)
    ]
    assert sum(hits) > 2  # 29 of 36 in the long run
