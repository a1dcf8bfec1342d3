"""Targeted, indiscriminate and influence-aware attacks.

Closed forms, derivatives against differences, and the facts.
"""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import random_data
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from attacks import (
    LSP,
    Bullseye,
    ErrorMinimising,
    FeatureCollision,
    GradientMatching,
    HiddenTrigger,
    LabelConsistent,
    LabelFlip,
    MetaPoison,
    NormMatched,
    RandomLabels,
    SleeperAgent,
    Spread,
)
from attacks.bullseye import (
    Polytope,
    distance_of_mean,
    nearest_combination,
    onto_simplex,
)
from attacks.kit.aim import take_aim
from attacks.kit.descent import adam_descent
from attacks.kit.gradient_matching import (
    gradients_of,
    mean_gradient,
    misalignment,
    shifting,
    wanted_gradient,
)
from attacks.kit.splitting import backward_step
from attacks.metapoison import _LookAhead, carlini_wagner
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import load_results
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.contracts.attack_rules import craft
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, Layout, subset
from poisonbench.errors import ConfigError
from poisonbench.gradients.products import dot_products, gradient_norms
from poisonbench.losses import each
from poisonbench.models import build, predict
from poisonbench.notes import collecting
from poisonbench.roles import POISON
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, Start, train, without_head

VICTIM = Recipe(model="cnn", epochs=20, batch_size=64, lr=0.1)
QUICK = Recipe(model="mlp", epochs=4, batch_size=32, lr=0.1)
LINEAR = Recipe(model="linear", epochs=4, batch_size=32, lr=0.1)
WIDE = torch.float64


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=generator(seed, "images"), dtype=WIDE)


def model_of(name: str, seed: int = 0) -> torch.nn.Module:
    return build(name, Layout((1, 8, 8), 10, "image"), seed).double()


def told(
    attack, data: tuple[Dataset, Dataset], recipe: Recipe, seed: int = 0
) -> tuple[Poisoned, dict, dict]:
    with collecting() as notes:
        poisoned = craft(attack, *data, recipe, seed)
    return poisoned, notes.arrays, notes.figures


@pytest.fixture(scope="module")
def small(digits) -> tuple[Dataset, Dataset]:
    return subset(digits[0], 300, 0), subset(digits[1], 100, 0)


# --- geometry of the polytope ---


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8))
def test_the_projection_onto_the_simplex_is_on_it_and_no_point_of_it_is_nearer(
    values: list[float],
):
    v = torch.tensor(values, dtype=WIDE)
    p = onto_simplex(v)
    assert bool((p >= 0).all())
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    # optimality: <v - p, q - p> <= 0 for every corner q
    assert bool(((v - p) - (v - p) @ p <= 1e-9).all())


def test_the_coefficients_of_the_polytope_are_the_nearest_of_all_on_the_simplex():
    features, goal = noise(3, 5), noise(5, seed=1)
    c = nearest_combination(features, goal, steps=3000)
    a, b = torch.meshgrid(
        torch.linspace(0, 1, 101, dtype=WIDE),
        torch.linspace(0, 1, 101, dtype=WIDE),
        indexing="ij",
    )
    grid = torch.stack([a, b, 1 - a - b], -1).view(-1, 3)
    grid = grid[grid[:, 2] >= 0]
    best = (grid @ features - goal).square().sum(1).min()
    assert float((c @ features - goal).square().sum()) <= float(best) + 1e-9
    inside = torch.tensor([0.2, 0.5, 0.3], dtype=WIDE) @ features
    torch.testing.assert_close(
        nearest_combination(features, inside, steps=4000) @ features,
        inside,
        rtol=0,
        atol=1e-6,
    )


def test_the_gradient_of_bullseye_is_the_closed_form_where_features_are_linear():
    body, x, point = (
        model_of("linear").features,
        noise(4, 1, 8, 8).requires_grad_(),
        noise(1, 1, 8, 8, seed=1),
    )
    goal = body(point)
    (got,) = torch.autograd.grad(distance_of_mean([body], [goal], x), x)
    want = (
        4 * (body(x).mean(0) - goal[0]) / (4 * goal.square().sum())
    )  # d feature / d pixel is 4, and there are 4 poisons
    torch.testing.assert_close(
        got, want.view(1, 1, 8, 8).expand(4, 1, 8, 8).detach(), rtol=1e-12, atol=1e-12
    )


def test_the_polytope_is_met_by_any_combination_where_bullseye_asks_for_the_mean():
    body, x = model_of("linear").features, noise(3, 1, 8, 8)
    weights = torch.tensor([0.7, 0.2, 0.1], dtype=WIDE)
    goal = (weights @ body(x))[None]
    polytope = Polytope([body], [goal], inner=4000)
    assert float(polytope(x)) < 1e-9 < float(distance_of_mean([body], [goal], x))
    assert polytope.coefficients[0] is not None
    torch.testing.assert_close(polytope.coefficients[0], weights, rtol=0, atol=1e-4)


# --- feature collision ---


def test_the_backward_step_is_the_minimiser_of_its_two_distances():
    x, base, weight = noise(5), noise(5, seed=1), 0.7
    z = backward_step(x, base, torch.tensor(weight, dtype=WIDE)).requires_grad_()
    ((z - x).square().sum() + weight * (z - base).square().sum()).backward()
    torch.testing.assert_close(z.grad, torch.zeros_like(z), rtol=0, atol=1e-12)


def test_feature_collision_ends_at_the_closed_form_where_features_are_linear():
    body, base, goal = (
        model_of("linear").features,
        noise(3, 1, 8, 8),
        noise(1, 1, 8, 8, seed=1),
    )
    attack = FeatureCollision(eps=None, steps=200, beta=2.0)
    with collecting() as notes:
        x = attack.collide(base, base, goal, [body])
    torch.testing.assert_close(
        x, (16 * goal + 2 * base) / 18, rtol=0, atol=1e-6
    )  # of |4 (x - t)|^2 + 2 |x - b|^2
    assert bool((notes.arrays["objective"][0].diff() <= 0).all())


def test_feature_collision_never_raises_its_objective_and_keeps_to_its_ball(small):
    p, arrays, figures = told(
        FeatureCollision(budget=0.03, eps=0.2, steps=40), small, QUICK
    )
    curve = arrays["objective"]
    assert curve.shape == (1, 41)
    assert bool((curve.diff() <= 1e-4).all())
    assert float(curve[0, -1]) < 0.5 * float(curve[0, 0])
    assert figures["feature_distance_poison"] < figures["feature_distance_clean"]
    assert figures["surrogate"] == "white box"
    rows = p.role == POISON
    assert float((p.train.x[rows] - small[0].x[rows]).abs().max()) <= 0.2 + 1e-6


def test_a_watermark_shows_the_attacked_point_on_the_rows(small):
    p = craft(
        FeatureCollision(eps=None, steps=1, lr=1e-9, watermark=0.3), *small, QUICK, 0
    )
    rows = p.role == POISON
    torch.testing.assert_close(
        p.train.x[rows], 0.7 * small[0].x[rows] + 0.3 * p.targets.x, rtol=0, atol=1e-5
    )


# --- gradient matching ---


def test_the_wanted_gradient_is_the_engines_of_norm_one():
    model, data = model_of("mlp"), random_data(7, (1, 8, 8))
    goal = torch.cat([g.flatten() for g in wanted_gradient(model, data, batch=3)])
    assert float(goal.norm()) == pytest.approx(1, abs=1e-12)
    total = dot_products(model, data, data)
    other = torch.cat([g.flatten() for g in mean_gradient(model, data.x, data.y)])
    assert float(other.norm()) == pytest.approx(float(total.mean().sqrt()), rel=1e-9)
    torch.testing.assert_close(goal, other / other.norm(), rtol=1e-9, atol=1e-12)


def test_poison_that_is_the_wish_itself_is_aligned_with_it():
    model, data = model_of("mlp"), random_data(5, (1, 8, 8))
    goal = wanted_gradient(model, data)
    for sign, want in ((1, 0.0), (-1, 2.0)):
        got = misalignment([model], [[sign * g for g in goal]], data.x, data.y)
        assert float(got.detach()) == pytest.approx(want, abs=1e-12)


def test_the_gradient_of_the_misalignment_is_its_slope():
    model, data, x = (
        model_of("mlp"),
        random_data(3, (1, 8, 8), seed=1),
        noise(2, 1, 8, 8, seed=5).requires_grad_(),
    )
    goal, y = [wanted_gradient(model, data)], torch.tensor([1, 2])
    (got,) = torch.autograd.grad(misalignment([model], goal, x, y), x)
    along = noise(2, 1, 8, 8, seed=6) - 0.5
    ends = [
        float(misalignment([model], goal, (x + h * along).detach(), y).detach())
        for h in (1e-6, -1e-6)
    ]
    assert float((got * along).sum()) == pytest.approx(
        (ends[0] - ends[1]) / 2e-6, rel=1e-4
    )


def test_confident_models_keep_the_direction_of_the_gradient_in_float32():
    wide = model_of("linear")
    with torch.no_grad():
        wide.head.weight.mul_(20)
    x = noise(4, 1, 8, 8)
    y = wide(x).argmax(1)
    narrow = build("linear", Layout((1, 8, 8), 10, "image"), 0)
    narrow.load_state_dict(wide.state_dict())
    a, b = (
        torch.cat([g.flatten() for g in mean_gradient(m, x.to(t), y)])
        for m, t in ((wide, WIDE), (narrow, torch.float32))
    )
    assert (
        float(
            F.cosine_similarity(a, b.double() * (a.norm() / b.double().norm()), dim=0)
        )
        > 1 - 1e-6
    )


def test_an_augmentation_leaves_flat_images_alone_and_follows_from_seed_and_step():
    augment, x = shifting(0, flip=True), noise(6, 1, 8, 8)
    flat = torch.full((6, 1, 8, 8), 0.3, dtype=WIDE)
    torch.testing.assert_close(augment(flat, 4), flat)
    assert torch.equal(augment(x, 4), augment(x, 4))
    assert not torch.equal(augment(x, 4), augment(x, 5))
    assert not torch.equal(augment(x, 4), x)
    x.requires_grad_()
    assert float(torch.autograd.grad(augment(x, 4).sum(), x)[0].abs().sum()) > 0


def test_descent_keeps_to_the_ball_and_reports_the_objective_before_each_step():
    clean, goal = noise(3, 1, 4, 4), noise(3, 1, 4, 4, seed=1)
    x, curve = adam_descent(
        lambda z, t: (z - goal).square().sum(), clean, eps=0.1, steps=300, lr=0.02
    )
    torch.testing.assert_close(
        x,
        torch.minimum(torch.maximum(goal, clean - 0.1), clean + 0.1),
        rtol=0,
        atol=1e-4,
    )
    assert float(curve[0]) == pytest.approx(float((clean - goal).square().sum()))


@pytest.mark.parametrize(
    ("attack", "fall"),
    [
        (GradientMatching(budget=0.03, eps=0.3, steps=40, restarts=2), 0.15),
        (
            GradientMatching(budget=0.03, eps=0.3, steps=40, restarts=1, surrogates=2),
            0.1,
        ),
        (SleeperAgent(budget=0.05, eps=0.3, steps=40, retrain=0), 0.1),
        (MetaPoison(budget=0.05, eps=0.3, steps=40, models=3), 0.1),
        (NormMatched(budget=0.05, eps=0.2, steps=40, rounds=1), 0.1),
    ],
    ids=repr,
)
def test_the_objective_falls_by_a_share_of_itself(attack, fall, small):
    p, arrays, figures = told(attack, small, QUICK)
    for curve in arrays["objective"]:
        assert float(curve[-5:].mean()) < (1 - fall) * float(curve[:5].mean())
    rows, covered = p.role == POISON, getattr(attack, "covered", None)
    moved = (p.train.x - small[0].x)[rows].abs()
    if covered:
        moved = moved[..., ~covered((8, 8))]
    assert 0.9 * attack.eps < float(moved.max()) <= attack.eps + 1e-6
    assert figures["surrogate"] == "white box"


def test_sleeper_agent_takes_the_rows_with_the_largest_gradients_and_shows_no_trigger(
    small,
):
    attack = SleeperAgent(target=2, source=3, budget=0.03, steps=3, retrain=1)
    p = craft(attack, *small, QUICK, 0)
    model = train(small[0], QUICK, 0).model()
    rows = p.role == POISON
    assert small[0].y[rows].unique().tolist() == [2]
    models = attack._models(small[0], QUICK, 0, 0)
    norms = gradient_norms(models[0], small[0])
    others = (small[0].y == 2) & ~rows
    assert float(norms[rows].min()) >= float(norms[others].max())
    assert torch.equal(p.targets.x, attack.trigger(small[1].x[small[1].y == 3]))
    assert model is not models[0]


@pytest.mark.parametrize(
    "attack",
    [
        GradientMatching(budget=0.03, eps=0.3, steps=30, restarts=1),
        SleeperAgent(budget=0.05, eps=0.3, steps=30, retrain=1),
        MetaPoison(budget=0.03, eps=0.3, steps=30, models=2),
        NormMatched(budget=0.05, eps=0.3, steps=30, rounds=1),
    ],
    ids=repr,
)
def test_behind_frozen_features_attacks_on_gradients_use_those_of_the_head_alone(
    attack, small
):
    recipe = dataclasses.replace(
        QUICK,
        start=Start(without_head(train(small[0], QUICK, 9).checkpoints[-1].state)),
    )
    clean = subset(small[0], 150, 1), small[1]
    p, arrays, _ = told(attack, clean, recipe)
    curve = arrays["objective"][0]
    assert float(curve[-3:].mean()) < float(curve[:3].mean())
    model = train(p.train, recipe, 0).model()
    assert [
        tuple(g.shape) for g in mean_gradient(model, clean[0].x[:2], clean[0].y[:2])
    ] == [
        (10, 64),
        (10,),
    ]


# --- metapoison ---


def test_the_carlini_wagner_loss_is_the_missing_lead():
    logits = torch.tensor([[1.0, 4.0, 2.0], [5.0, 1.0, 0.0]])
    assert (
        float(carlini_wagner(logits, torch.tensor([2, 0]))) == 1.0
    )  # 4 - 2, and nothing where it leads


def test_metapoison_differentiates_through_training(small):
    data = tuple(part.to(dtype=WIDE) for part in small)
    attack = MetaPoison(budget=0.02, models=2)
    aim = take_aim(attack, *data, LINEAR, 0)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return _LookAhead(attack, data[0], data[1].x[aim.point], aim, LINEAR, 0)(x, 0)

    x = data[0].x[aim.rows].clone().requires_grad_()
    (got,) = torch.autograd.grad(loss(x), x)
    along = torch.rand(x.shape, generator=generator(1, "along"), dtype=WIDE) - 0.5
    ends = [float(loss((x + h * along).detach()).detach()) for h in (1e-5, -1e-5)]
    assert float(got.abs().sum()) > 0
    assert float((got * along).sum()) == pytest.approx(
        (ends[0] - ends[1]) / 2e-5, rel=1e-5
    )


def ensemble_of(
    attack: MetaPoison, data: tuple[Dataset, Dataset], recipe: Recipe
) -> _LookAhead:
    aim = take_aim(attack, *data, recipe, 0)
    return _LookAhead(attack, data[0], data[1].x[aim.point], aim, recipe, 0)


def flat(theta: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in theta.values()])


@pytest.mark.parametrize("checkpoints", [1, 6])
def test_the_members_of_metapoison_have_starts_of_their_own_and_staggered_ages(
    checkpoints, small
):
    """Member k is a run of its own seed, stopped after k / K of its steps (Huang et al. 2.3)."""
    recipe = dataclasses.replace(QUICK, epochs=2, checkpoints=checkpoints)
    steps = 2 * 10  # 300 rows in batches of 32
    members = ensemble_of(MetaPoison(budget=0.02, models=8), small, recipe).members
    assert [member.age for member in members] == [0, 2, 5, 7, 10, 12, 15, 17]
    whole = dataclasses.replace(recipe, checkpoints=steps)
    for k, member in enumerate(members):
        run = train(small[0], whole, derive(0, "ensemble", k))
        before = dict(run.initial().named_parameters())
        state = run.checkpoints[member.age - 1].state if member.age else before
        assert torch.equal(
            flat(member.theta), flat({name: state[name] for name in member.theta})
        )
    found = torch.stack([flat(member.theta) for member in members])
    assert bool((torch.cdist(found, found) > 0.1).fill_diagonal_(True).all())


def test_more_members_than_steps_are_still_different_models(small):
    recipe = dataclasses.replace(QUICK, epochs=1, batch_size=150)
    members = ensemble_of(MetaPoison(budget=0.02, models=5), small, recipe).members
    assert [member.age for member in members] == [0, 0, 0, 1, 1]
    found = torch.stack([flat(member.theta) for member in members])
    assert bool((torch.cdist(found, found) > 0.1).fill_diagonal_(True).all())


def test_members_grow_by_a_step_of_sgd_and_begin_anew_at_the_end_of_their_life(small):
    recipe = dataclasses.replace(LINEAR, epochs=1)  # a life of 10 steps
    look = ensemble_of(MetaPoison(budget=0.05, models=3), small, recipe)
    x = small[0].x[look.aim.rows]
    before = [flat(member.theta) for member in look.members]
    member = look.members[1]
    batch = look._batch(x, (0, 1, -1))
    leaves = {name: p.detach().requires_grad_() for name, p in member.theta.items()}
    loss = F.cross_entropy(
        torch.func.functional_call(member.model, leaves, (batch.x,)), batch.y
    )
    slope = torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, list(leaves.values()))]
    )
    look._grow(x, 0)
    assert [m.age for m in look.members] == [1, 4, 7]
    torch.testing.assert_close(
        flat(look.members[1].theta), before[1] - recipe.lr * slope
    )
    for t in range(1, 4):
        look._grow(x, t)
    assert [m.age for m in look.members] == [4, 7, 0]
    assert float((flat(look.members[2].theta) - before[2]).norm()) > 0.1


def test_a_batch_of_metapoison_is_a_quarter_poison_and_never_shows_the_clean_rows_of_it(
    small,
):
    look = ensemble_of(MetaPoison(budget=0.05, models=1), small, LINEAR)
    x = torch.full_like(small[0].x[look.aim.rows], 0.5)
    for t in range(20):
        batch = look._batch(x, (t, 0, 0))
        poison = (batch.x == 0.5).flatten(1).all(1)
        assert int(poison.sum()) == 8  # of 32
        assert 20 <= len(batch.x) <= 32
        assert bool((batch.y[poison] == look.aim.wanted).all())
        same = (batch.x[:, None] == small[0].x[look.aim.rows][None]).flatten(2).all(2)
        assert not bool(same.any())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_of_a_member_is_that_after_its_unrolled_steps(smoothing: float, small):
    recipe = dataclasses.replace(LINEAR, label_smoothing=smoothing)
    look = ensemble_of(MetaPoison(budget=0.05, models=1, unroll=3), small, recipe)
    member = look.members[0]
    x = small[0].x[look.aim.rows]
    theta = {name: p.detach().clone() for name, p in member.theta.items()}
    for u in range(3):
        batch = look._batch(x, (7, 0, u))
        leaves = {name: p.detach().requires_grad_() for name, p in theta.items()}
        logits = torch.func.functional_call(member.model, leaves, (batch.x,))
        loss = F.cross_entropy(logits, batch.y, label_smoothing=smoothing)
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        theta = {
            name: p.detach() - LINEAR.lr * g
            for (name, p), g in zip(leaves.items(), slopes, strict=True)
        }
    logits = torch.func.functional_call(member.model, theta, (look.point,))
    last = logits.argmin(1)  # of a label that leads it is 0, whatever the steps
    look.aim = dataclasses.replace(look.aim, wanted=last)
    want = carlini_wagner(logits, last)
    assert float(want) > 0.1
    torch.testing.assert_close(look._loss(member, x, 7, 0).detach(), want.detach())


CRAFTED = [
    LabelFlip("neighbour", budget=0.02, neighbours=6),
    Bullseye(steps=2),
    FeatureCollision(steps=2),
    GradientMatching(steps=2, restarts=1),
    SleeperAgent(steps=3, retrain=1),
    MetaPoison(steps=2, models=2),
    NormMatched(steps=2, rounds=2),
    ErrorMinimising(rounds=2, steps=2),
    LabelConsistent(steps=2),
    HiddenTrigger(steps=2),
]
crafted = pytest.mark.parametrize(
    "attack", CRAFTED, ids=lambda attack: type(attack).__name__
)


@crafted
def test_poison_does_not_depend_on_how_many_checkpoints_a_log_keeps(attack, small):
    found = [
        attack(*small, dataclasses.replace(QUICK, checkpoints=checkpoints), 0)
        for checkpoints in (1, 6, 9)
    ]
    assert torch.equal(found[0].train.x, found[1].train.x)
    assert torch.equal(found[2].train.x, found[1].train.x)
    assert torch.equal(found[0].train.y, found[1].train.y)
    assert torch.equal(found[0].wanted, found[1].wanted)


@crafted
def test_poison_of_a_model_with_dropout_follows_from_the_seed_alone(attack, small):
    recipe = Recipe("test_training:DropoutNet", epochs=2, batch_size=32)
    found = []
    for state in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(state)
            found.append(craft(attack, *small, recipe, 0))
    assert torch.equal(found[0].train.x, found[1].train.x)
    assert torch.equal(found[0].train.y, found[1].train.y)
    assert torch.equal(found[0].wanted, found[1].wanted)


def loop_of_someone_else(model, data, seed):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(model(data.x), data.y).backward()
    optimizer.step()
    yield 1, 0.1, model.state_dict()


LOOP = Recipe(model="mlp", train="test_attacks_targeted:loop_of_someone_else")


@pytest.mark.parametrize("attack", [MetaPoison(steps=1), ErrorMinimising()], ids=repr)
def test_attacks_that_train_by_the_recipes_steps_refuse_a_loop_that_has_none(
    attack, small
):
    with pytest.raises(ConfigError, match=r"steps of a recipe itself.*`surrogate`"):
        attack(*small, LOOP, 0)
    own = dataclasses.replace(attack, surrogate=LOOP)
    with pytest.raises(ConfigError, match="takes the steps of a recipe itself"):
        own(*small, QUICK, 0)


def test_attacks_on_trained_models_train_them_by_the_loop_of_the_victim(small):
    _, _, notes = told(Bullseye(steps=1, budget=0.02), small, LOOP)
    assert notes["surrogate_accuracy"] < 0.8
    craft(MetaPoison(steps=1, models=2, surrogate=QUICK), *small, LOOP, 0)


# --- adaptive against influence ---


@pytest.mark.parametrize(("pieces", "size"), [(2, 2), (4, 3), (5, 2), (9, 2)])
def test_sub_triggers_do_not_overlap_and_are_dealt_out_evenly(pieces: int, size: int):
    attack, shape = Spread(pieces=pieces, size=size, value=1.0), (1, 8, 8)
    squares = attack.squares(shape)
    assert squares.sum((1, 2)).tolist() == [size**2] * pieces
    assert int(squares.any(0).sum()) == pieces * size**2
    black = torch.zeros(2 * pieces + 1, *shape)
    shown = attack.one(black, 0)[:, 0].bool()
    dealt = (shown[:, None] == squares).all(3).all(2)  # image x piece
    assert dealt.sum(1).tolist() == [1] * len(black)
    assert set(dealt.sum(0).tolist()) <= {2, 3}
    assert torch.equal(attack.trigger(black[:1])[0, 0].bool(), squares.any(0))


def test_spread_poison_shows_one_sub_trigger_and_attacked_points_all(small):
    attack = Spread(budget=0.1)
    p = craft(attack, *small, QUICK, 3)
    rows = p.role == POISON
    assert torch.equal(p.train.x[rows], attack.one(small[0].x[rows], 3))
    assert torch.equal(p.targets.x, attack.trigger(small[1].x[p.target_origin]))


def test_gradients_to_be_matched_are_the_engines():
    model, data = model_of("cnn"), random_data(6, (1, 8, 8))
    for frozen in (False, True):
        model.features.requires_grad_(not frozen)
        g = gradients_of(model, data.x, data.y)
        torch.testing.assert_close(
            g @ g.T, dot_products(model, data, data), rtol=1e-9, atol=1e-12
        )


def squared(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A loss as users write it: `one_hot` looks at its values."""
    return (outputs - F.one_hot(y, 10)).square().sum(1)


@pytest.mark.parametrize("loss", ["mean-squared-error", squared], ids=["named", "own"])
def test_gradients_of_any_loss_are_those_of_autograd_and_differentiable(loss):
    model, data = model_of("mlp"), random_data(4, (1, 8, 8))
    x = data.x.clone().requires_grad_()
    found = gradients_of(model, x, data.y, loss)
    want = []
    for one, label in zip(x.split(1), data.y.split(1), strict=True):
        value = each(loss, model(one), label).sum()
        parts = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
        want.append(torch.cat([part.flatten() for part in parts]))
    torch.testing.assert_close(found, torch.stack(want))
    slopes = [torch.autograd.grad(g.norm(), x)[0] for g in (found, torch.stack(want))]
    assert float(slopes[1].abs().max()) > 0
    torch.testing.assert_close(*slopes)


# --- whole-set attacks ---


def test_lsp_adds_one_coarse_pattern_a_class_that_a_linear_model_learns_alone():
    attack = LSP(strength=0.2, noise=0.1)
    y = torch.arange(200) % 10
    patterns = attack.patterns((3, 9, 10), y, 10, 0)
    assert patterns.shape == (200, 3, 9, 10)
    torch.testing.assert_close(
        patterns.square().flatten(1).mean(1),
        torch.full((200,), 0.04),
        rtol=1e-4,
        atol=1e-6,
    )
    assert torch.equal(
        patterns[:, :, ::2, ::2],
        patterns[:, :, 1::2, 1::2].new_zeros(200, 3, 5, 5) + patterns[:, :, ::2, ::2],
    )
    assert torch.equal(patterns[:, :, :8:2, ::2], patterns[:, :, 1:8:2, 1::2])
    data = Dataset(patterns, y, 10)
    model = train(data, dataclasses.replace(LINEAR, epochs=20), 0).model()
    other = attack.patterns((3, 9, 10), y, 10, 0)
    assert bool((predict(model, other).argmax(1) == y).all())
    exact = LSP(noise=0.0).patterns((1, 8, 8), y, 10, 0)
    assert len({tuple(row.flatten().tolist()) for row in exact}) == 10


def test_random_labels_are_uniform_and_may_be_right():
    data = random_data(5000, (2,))
    p = craft(RandomLabels(), data, data, QUICK, 0)
    assert bool((p.role == POISON).all())
    assert len(p.targets) == 0
    counts = torch.bincount(p.train.y, minlength=10).double()
    assert (
        float(((counts - 500) ** 2 / 500).sum()) < 30
    )  # chi squared of 9 degrees of freedom: 1 in 2,000
    assert 0.07 < float((p.train.y == data.y).double().mean()) < 0.13


def accuracy(p: Poisoned, test: Dataset) -> float:
    return float(
        (predict(train(p.train, VICTIM, 0).model(), test.x).argmax(1) == test.y)
        .float()
        .mean()
    )


@pytest.mark.parametrize(
    ("attack", "most"), [(RandomLabels(), 0.3), (LSP(strength=0.5), 0.6)], ids=repr
)
def test_clean_accuracy_falls(attack, most, digits):
    assert accuracy(craft(attack, *digits, VICTIM, 0), digits[1]) < most  # .97 without


def test_error_minimising_noise_leaves_the_attackers_model_nothing_to_learn(small):
    _, arrays, _ = told(ErrorMinimising(eps=0.25, rounds=10, steps=10), small, QUICK)
    curve = arrays["objective"][0]
    assert float(curve[-1]) < 0.2 * float(curve[0])


# --- what works in transfer ---


@pytest.fixture(scope="module")
def transfer(digits) -> tuple[Dataset, Dataset, Recipe]:
    """200 training rows for the head, behind features trained on 1,000 others."""
    order = torch.randperm(len(digits[0]), generator=generator(0, "split"))
    state = (
        train(
            digits[0].take(order[:1000]), dataclasses.replace(VICTIM, checkpoints=1), 7
        )
        .checkpoints[-1]
        .state
    )
    recipe = dataclasses.replace(VICTIM, lr=0.05, start=Start(without_head(state)))
    return digits[0].take(order[1000:1200]), digits[1], recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        Bullseye(budget=0.05, eps=0.5, steps=150),
        FeatureCollision(budget=0.05, eps=0.5, beta=0.05),
    ],
    ids=repr,
)
def test_feature_attacks_turn_their_point_in_transfer_and_clean_accuracy_stays(
    attack, transfer
):
    clean, test, recipe = transfer
    hits, right = 0, []
    for seed in range(6):
        p = craft(attack, clean, test, recipe, seed)
        model = train(p.train, recipe, seed).model()
        hits += int(predict(model, p.targets.x).argmax(1) == p.wanted)
        right.append(float((predict(model, test.x).argmax(1) == test.y).float().mean()))
    assert hits >= 4
    assert min(right) > 0.88


@pytest.mark.slow
def test_neighbour_flips_turn_their_target_in_transfer(transfer):
    clean, test, recipe = transfer
    attack = LabelFlip("neighbour", budget=0.05, neighbours=10)
    hits = 0
    for seed in range(6):
        p = craft(attack, clean, test, recipe, seed)
        hits += int(
            predict(train(p.train, recipe, seed).model(), p.targets.x).argmax(1)
            == p.wanted
        )
    assert hits >= 4


# --- grids and logs ---

GRID = {
    "dataset": {"name": "digits", "train": 200},
    "recipe": {"model": "mlp", "epochs": 3, "batch_size": 32, "checkpoints": 2},
    "probe": {"attacked": 10, "controls": 20, "calibration": 20},
}


def test_whole_set_attacks_run_through_a_grid_with_detectors_and_detection_is_not_available(
    tmp_path: Path,
):
    attacks = [
        {"name": "random-labels"},
        {"name": "lsp"},
        {"name": "error-minimising", "rounds": 2},
    ]
    methods = {
        "estimator": [{"name": "tracin"}],
        "detector": [{"name": "tail-heaviness"}, {"name": "random"}],
    }
    summary = run(
        parse({**GRID, **methods, "attack": attacks}),
        Place(tmp_path),
        Options(workers=0),
    )
    assert not summary.failed
    assert summary.done == 3 * 4
    results = load_results(tmp_path)
    assert not results.damaged
    victims = rows_of(results, "scene")
    detections = rows_of(results, "detect")
    assert len(victims) == 3
    assert all(row.metrics["auroc"].value is None for row in detections)


def test_the_objective_and_the_surrogate_of_an_attack_lie_in_the_log_of_its_scene(
    tmp_path: Path,
):
    attack = {
        "name": "gradient-matching",
        "steps": 4,
        "restarts": 2,
        "surrogate": {"model": "linear", "epochs": 1},
    }
    grid = parse({**GRID, "attack": [attack]})
    run(grid, Place(tmp_path), Options(workers=0))
    record = log.read(next(tmp_path.glob("scenes/*/scene.h5")))
    assert record.data["attack/objective"].shape == (2, 4)
    assert str(record.attributes["note_surrogate"]).startswith(
        "Recipe(model='linear', epochs=1"
    )
    assert 0 <= float(record.attributes["note_surrogate_accuracy"]) <= 1
    assert record.config["attack"]["surrogate"]["model"] == "linear"
    assert "start" not in record.config["attack"]["surrogate"]


def test_a_surrogate_is_a_table_inside_the_attack_and_its_lists_are_axes():
    table = {
        "name": "bullseye",
        "surrogate": {"model": "mlp", "lr": [0.1, 0.2]},
        "surrogates": 3,
    }
    found = [scene.attack.value for scene in parse({"attack": [table]}).scenes]
    assert [attack.surrogate for attack in found] == [
        Recipe(model="mlp", lr=0.1),
        Recipe(model="mlp", lr=0.2),
    ]
    assert {attack.surrogates for attack in found} == {3}
    assert len({scene.id for scene in parse({"attack": [table]}).scenes}) == 2


@pytest.mark.parametrize(
    ("surrogate", "message"),
    [
        (
            {"epoch": 3},
            r"attack\[0\]\.surrogate\.epoch: unknown key; did you mean 'epochs'",
        ),
        (
            {"model": "cn"},
            r"attack\[0\]\.surrogate\.model: unknown model 'cn'; did you mean 'cnn'",
        ),
        ({"lr": -1.0}, r"attack\[0\]\.surrogate: lr must be positive"),
        (3, r"attack\[0\]\.surrogate: is a table"),
    ],
)
def test_a_wrong_surrogate_is_told_with_the_path_of_its_key(
    surrogate: object, message: str
):
    with pytest.raises(ConfigError, match=message):
        parse({"attack": [{"name": "bullseye", "surrogate": surrogate}]})


# --- refusals ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomLabels(budget=1.1), r"budget must lie in \(0, 1\], got 1.1"),
        (lambda: LSP(noise=-1), "noise must be non-negative and finite, got -1"),
        (lambda: LSP(patch=0), "patch must be at least 1, got 0"),
        (lambda: ErrorMinimising(rounds=0), "rounds must be at least 1, got 0"),
        (
            lambda: FeatureCollision(watermark=0.3),
            "a watermark leaves every ball around the rows: it needs eps=None, got 0.03",
        ),
        (lambda: FeatureCollision(beta=0), "beta must be positive and finite, got 0"),
        (
            lambda: Bullseye(source=3, target=3),
            "source and target must differ, got 3 for both",
        ),
        (lambda: Bullseye(surrogates=0), "surrogates must be at least 1, got 0"),
        (lambda: Bullseye(eps=1.5), r"eps must lie in \(0, 1\), got 1.5"),
        (
            lambda: GradientMatching(augment="crop"),
            "augment must be one of none, shift, shift-flip, got 'crop'",
        ),
        (
            lambda: SleeperAgent(source=0),
            "source and target must differ, got 0 for both",
        ),
        (
            lambda: SleeperAgent(steps=4),
            "retrain must be below steps, got 4 for 4 steps",
        ),
        (lambda: MetaPoison(unroll=0), "unroll must be at least 1, got 0"),
        (lambda: Spread(pieces=10), r"pieces must lie in \[2, 9\], got 10"),
        (
            lambda: NormMatched(place="random"),
            "place must be one of top-left, .*, corners, got 'random'",
        ),
        (lambda: LabelFlip("pair", surrogate=QUICK), "mode pair needs no surrogate"),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused_with_its_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


FLAT = Dataset(
    torch.rand(20, 6, generator=generator(0, "flat")), torch.arange(20) % 4, 4
)
TINY = Dataset(
    torch.rand(20, 1, 4, 4, generator=generator(0, "tiny")), torch.arange(20) % 4, 4
)


@pytest.mark.parametrize(
    "attack",
    [
        LSP(),
        ErrorMinimising(),
        FeatureCollision(),
        Bullseye(),
        GradientMatching(),
        SleeperAgent(),
        MetaPoison(),
        Spread(),
    ],
    ids=repr,
)
def test_attacks_on_pixels_refuse_vectors(attack):
    with pytest.raises(ConfigError, match="works on images"):
        attack(FLAT, FLAT, QUICK, 0)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (LSP(patch=4), "1 squares make no 4 patterns"),
        (Spread(size=3), "size must be at most 2 for 4 pieces on images of 4x4, got 3"),
        (
            Spread(pieces=5),
            "size must be at most 1 for 5 pieces on images of 4x4, got 2",
        ),
    ],
    ids=repr,
)
def test_what_does_not_fit_the_images_is_refused(attack, message):
    with pytest.raises(ConfigError, match=message):
        attack(TINY, TINY, QUICK, 0)


def test_classes_without_rows_or_points_are_refused():
    alone = Dataset(TINY.x, torch.zeros_like(TINY.y), 4)
    for attack in (SleeperAgent(target=2, source=0), SleeperAgent(target=0, source=2)):
        with pytest.raises(ConfigError, match="no training row is of class 2"):
            attack(alone, TINY, QUICK, 0)
    with pytest.raises(ConfigError, match="no test point to attack"):
        Bullseye(source=2)(alone, TINY, QUICK, 0)
    with pytest.raises(ConfigError, match="two classes or more"):
        Bullseye()(Dataset(TINY.x, torch.zeros_like(TINY.y), 1), TINY, QUICK, 0)
