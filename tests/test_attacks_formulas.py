"""Every formula of an attack against the paper's equation, written out again.

A changed constant shows.
"""

import contextlib
import dataclasses
import itertools
import math

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.nn import functional as F

import attacks.bullseye
import attacks.gradient_matching
import attacks.metapoison
import attacks.norm_matched
import attacks.sleeper_agent
from attacks import (
    LSP,
    AdaptiveBlend,
    AdaptivePatch,
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
    SleeperAgent,
    Spread,
    TaCT,
    Warp,
)
from attacks.bullseye import Polytope, distance_of_mean
from attacks.error_minimising import _Learner
from attacks.hidden_trigger import _deal, nearest_pairs
from attacks.kit.aim import attackable, ensemble, wanted_at
from attacks.kit.backdoor import noise_image
from attacks.kit.descent import adam_descent, noise_in_ball, restarted, signed_descent
from attacks.kit.gradient_matching import misalignment, shifting, wanted_gradient
from attacks.kit.member import partly_trained
from attacks.kit.rows import draw, poison_in_place
from attacks.kit.splitting import Splitting
from attacks.kit.surrogate import surrogate
from attacks.norm_matched import _Objective
from attacks.sleeper_agent import _Retraining
from poisonbench.data import Dataset, Layout, subset
from poisonbench.errors import ConfigError
from poisonbench.models import Classifier, build
from poisonbench.notes import collecting
from poisonbench.roles import CLEAN, COVER, POISON
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, train

LINEAR = Recipe(model="linear", epochs=2, batch_size=32, lr=0.1)
SMOOTHINGS = [0.0, 0.3]  # of labels, by the victim
WIDE = torch.float64


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed, "images"), dtype=WIDE)


@pytest.fixture(scope="module")
def small(digits) -> tuple[Dataset, Dataset]:
    return subset(digits[0], 200, 0), subset(digits[1], 60, 0)


# --- squares and blends ---


@pytest.mark.parametrize("place", ["top-right", "centre", "corners", "random"])
def test_the_square_has_the_value_that_is_asked_for(place):
    x = noise(4, 3, 9, 9)
    stamped = Patch(place=place, value=0.3, size=3).trigger(x, 0)
    changed = stamped != x
    assert bool((stamped[changed] == 0.3).all())
    assert changed[0, 0].sum() == (36 if place == "corners" else 9)


def test_sub_triggers_come_corners_first_then_the_centre_then_the_sides():
    squares = Spread(pieces=9, size=3).squares((1, 13, 15))
    corners = [squares[i].nonzero()[0].tolist() for i in range(9)]
    assert sorted(corners[:4]) == [[0, 0], [0, 12], [10, 0], [10, 12]]
    assert corners[4] == [5, 6]
    assert sorted(corners[5:]) == [[0, 6], [5, 0], [5, 12], [10, 6]]


def test_spread_stamps_its_value():
    black = torch.zeros(8, 1, 8, 8)
    assert Spread(value=0.25).trigger(black).max() == 0.25
    assert Spread(value=0.25).one(black, 0).max() == 0.25


def test_a_blend_in_training_weighs_the_image_by_alpha_times_fade_where_a_piece_is_shown():
    attack = AdaptiveBlend(alpha=0.4, fade=0.5, keep=0.5)
    x = noise(6, 2, 8, 8)
    mask = attack.masks(6, (2, 8, 8), generator(0, "masks")).double()
    picture = noise_image(x, 3)
    want = torch.where(mask > 0, 0.8 * x + 0.2 * picture, x)
    torch.testing.assert_close(attack.trigger(x, 3, mask), want, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "attack",
    [
        AdaptiveBlend(budget=0.2, cover=0.2, alpha=0.9),
        AdaptivePatch(budget=0.2, cover=0.2),
    ],
    ids=repr,
)
def test_cover_rows_draw_pieces_of_their_own(attack):
    grey = Dataset(torch.full((100, 1, 8, 8), 0.5), torch.arange(100) % 4, 4)
    p = attack(grey, grey, LINEAR, 0)
    poison = (p.train.x[p.role == POISON] != 0.5).flatten(1)
    cover = (p.train.x[p.role == COVER] != 0.5).flatten(1)
    assert len(poison) == len(cover) == 20
    assert not torch.equal(poison, cover)


def test_every_corner_of_an_adaptive_patch_has_a_pattern_of_its_own():
    shown = AdaptivePatch(size=4).trigger(torch.full((1, 3, 16, 16), 0.5), 0)[0]
    corners = [
        shown[:, a, b]
        for a in (slice(4), slice(-4, None))
        for b in (slice(4), slice(-4, None))
    ]
    for one, other in itertools.combinations(corners, 2):
        assert not torch.equal(one, other)
    assert [int(corner.sum()) for corner in corners] == [24] * 4  # half of 3 x 4 x 4
    odd = AdaptivePatch(size=3).trigger(torch.zeros(1, 1, 16, 16), 0)
    assert odd.sum() == 4 * 5  # half of nine, rounded up


def test_the_cover_of_tact_comes_from_neither_the_source_nor_the_target(small):
    p = TaCT(target=2, source=5, budget=0.05, cover=0.4)(*small, LINEAR, 0)
    cover = small[0].y[p.role == COVER]
    assert len(cover) == 80
    assert set(cover.tolist()) == set(range(10)) - {2, 5}
    rows = p.role == COVER
    assert torch.equal(p.train.x[rows], Patch().trigger(small[0].x[rows]))


# --- the warp ---


@pytest.mark.parametrize(
    ("strength", "grid", "side"), [(0.5, 4, 28), (2.0, 4, 31), (1.5, 3, 29)]
)
def test_the_field_at_its_control_points_is_equations_4_and_6(strength, grid, side):
    uniform = (
        torch.rand((1, 2, grid, grid), generator=generator(7, "warp"), dtype=WIDE) * 2
        - 1
    )
    psi = uniform / (uniform.abs().sum() / (2 * grid**2))
    at = [
        i * (side - 1) // (grid - 1) for i in range(grid)
    ]  # pixels on which the points lie
    place = torch.tensor([2 * i / (side - 1) - 1 for i in at], dtype=WIDE)
    field = Warp(strength=strength, grid=grid).field((3, side, side), 7)[0][at][:, at]
    for row in range(grid):
        for column in range(grid):
            identity = torch.stack([place[column], place[row]])
            want = (identity + strength * psi[0, :, row, column] / side).clamp(-1, 1)
            torch.testing.assert_close(field[row, column], want)


def test_noise_moves_what_is_read_by_half_a_pixel_at_most():
    width = 40
    ramp = torch.linspace(0, 1, width, dtype=WIDE).expand(1, 1, 28, width)
    attack = Warp(strength=0)
    moved = attack.trigger(ramp, 0, torch.ones(1, 28, width, 2, dtype=WIDE))
    inner = (slice(None), slice(None), slice(None), slice(2, -2))
    torch.testing.assert_close(
        (moved - ramp)[inner], torch.full_like(ramp, 1 / (2 * width))[inner]
    )
    noisy = attack._noisy(ramp.expand(50, -1, -1, -1), 0)
    away = (noisy - ramp)[inner] * 2 * width
    assert 0.95 < float(away.max()) <= 1 + 1e-9
    assert -1 - 1e-9 <= float(away.min()) < -0.95
    assert 0.48 < float(away.abs().mean()) < 0.52


# --- descent ---


def test_a_signed_step_is_two_and_a_half_radii_over_the_number_of_steps_and_decays_to_nothing():
    clean = torch.full((1, 1, 1, 1), 0.5, dtype=WIDE)
    for decay, shares in ((False, [1, 1, 1, 1, 1]), (True, [1, 0.8, 0.6, 0.4, 0.2])):
        seen = []

        def up(x: Tensor, seen: list[float] = seen) -> Tensor:
            seen.append(float(x.detach()))
            return -1e-9 * x.sum() if len(seen) < 3 else 1e9 * x.sum()

        last = signed_descent(up, clean, eps=0.2, steps=5, decay=decay)
        path = torch.tensor([*seen, float(last)], dtype=WIDE).diff()
        want = 0.1 * torch.tensor(shares, dtype=WIDE) * torch.tensor([1, 1, -1, -1, -1])
        torch.testing.assert_close(path, want)


def test_signed_adam_walks_at_its_rate_whatever_the_gradient_and_slows_tenfold_three_times():
    clean = torch.full((1, 1, 1, 1), 0.5, dtype=WIDE)
    seen = []

    def steep(x: Tensor, t: int) -> Tensor:
        seen.append(float(x.detach()))
        return (t + 1.0) ** 4 * x.sum()

    last, _ = adam_descent(steep, clean, eps=0.4, steps=16, lr=0.01, signed=True)
    path = -torch.tensor([*seen, float(last)], dtype=WIDE).diff()
    rates = [1e-2] * 6 + [1e-3] * 4 + [1e-4] * 4 + [1e-5] * 2
    torch.testing.assert_close(path, torch.tensor(rates, dtype=WIDE), rtol=1e-5, atol=0)


def rooted(x: Tensor, step: int = 0) -> Tensor:
    """Its slope is not finite where a pixel is as the first one of the first row at the start."""
    away = x - 0.25
    return (away * away).sum((1, 2, 3)).sqrt().sum()


@pytest.mark.parametrize("signed", [False, True])
def test_a_gradient_that_is_not_finite_is_refused_and_no_step_of_nothing(signed: bool):
    """The sign of nan is 0: rows would stay where they are, and nobody be told."""
    clean = torch.full((2, 1, 2, 2), 0.25, dtype=WIDE)
    clean[1] = 0.75
    told = "the gradient of the objective is not finite"
    with pytest.raises(ConfigError, match=told):
        adam_descent(rooted, clean, eps=0.1, steps=2, lr=0.1, signed=signed)
    with pytest.raises(ConfigError, match=told):
        signed_descent(rooted, clean, eps=0.1, steps=2)
    assert signed_descent(rooted, clean[1:], eps=0.1, steps=2).max() < 0.75

    def distance(x: Tensor) -> Tensor:
        return (x - 0.25).square().sum((1, 2, 3)).sqrt()

    for rows, refusal in (
        (clean, pytest.raises(ConfigError, match=told)),
        (clean[1:], contextlib.nullcontext()),
    ):
        splitting = Splitting(distance, torch.clone, rows, beta=0.1, lr=0.1)
        with refusal:
            splitting.descend(3)


def test_noise_of_a_learner_that_diverged_is_refused(small):
    wild = dataclasses.replace(LINEAR, model="mlp", lr=1e20)
    with pytest.raises(
        ConfigError, match="the gradient of the objective is not finite"
    ):
        ErrorMinimising(surrogate=wild)(*small, LINEAR, 0)


def test_the_best_of_several_runs_ends_lowest_over_its_last_tenth():
    ends = {0: [0.0] * 18 + [5, 5], 1: [9.0] * 18 + [1, 3], 2: [9.0] * 18 + [4, 0.5]}
    with collecting() as told:
        best = restarted(lambda k: (torch.tensor(float(k)), torch.tensor(ends[k])), 3)
    assert float(best) == 1
    assert torch.equal(
        told.arrays["objective"], torch.tensor([ends[k] for k in range(3)])
    )


def test_noise_fills_the_ball_evenly_and_differs_from_restart_to_restart():
    clean = torch.full((40, 1, 10, 10), 0.5)
    away = (noise_in_ball(clean, 0.2, 3, 0) - clean) / 0.2
    assert 0.99 < float(away.max()) <= 1 + 1e-6
    assert -1 - 1e-6 <= float(away.min()) < -0.99
    assert abs(float(away.mean())) < 0.03
    assert (
        float((away.abs() > 0.999).double().mean()) < 0.01
    )  # none gathers on the border
    assert not torch.equal(
        noise_in_ball(clean, 0.2, 3, 0), noise_in_ball(clean, 0.2, 3, 1)
    )


def test_augmented_images_move_by_up_to_an_eighth_of_their_side_and_half_are_mirrored():
    ramp = torch.arange(16, dtype=WIDE).expand(600, 1, 16, 16)
    inner = (slice(None), 0, slice(4, 12), slice(4, 12))
    moved = shifting(0, flip=False)(ramp, 0)[inner] - ramp[inner]
    by = moved[:, 0, 0]
    torch.testing.assert_close(moved, by[:, None, None].expand_as(moved))
    assert 1.9 < float(by.abs().max()) <= 2 + 1e-6
    assert abs(float(by.mean())) < 0.2
    assert 0.9 < float(by.abs().mean()) < 1.1
    up = (
        shifting(0, flip=False)(ramp.transpose(2, 3), 0)[inner]
        - ramp.transpose(2, 3)[inner]
    )
    assert 1.9 < float(up.abs().max()) <= 2 + 1e-6
    slope = shifting(0, flip=True)(ramp, 0)[:, 0, 8, 4:12].diff(dim=1)
    assert bool((slope.abs() - 1).abs().max() < 1e-6)
    assert 0.4 < float((slope[:, 0] < 0).double().mean()) < 0.6


# --- rows, points and models of the attacker ---


def test_rows_drawn_for_two_purposes_or_seeds_are_independent():
    eligible = torch.arange(400) % 2 == 0
    found = [
        draw(eligible, 0.1, 0),
        draw(eligible, 0.1, 0, "cover rows"),
        draw(eligible, 0.1, 1),
    ]
    for rows in found:
        assert len(rows) == 40
        assert bool(eligible[rows].all())
        assert bool((rows.diff() > 0).all())
    for one, other in itertools.combinations(found, 2):
        assert len(set(one.tolist()) & set(other.tolist())) < 20


def test_a_poisoned_set_holds_what_its_parts_say(small):
    clean, test = small
    rows, points = torch.tensor([4, 9]), torch.tensor([1, 5, 7])
    x, y, shown = clean.x[:2] / 2, torch.tensor([1, 2]), test.x[:3] / 2
    wanted = (test.y[points] + 1) % 10
    p = poison_in_place(
        clean,
        test,
        rows=rows,
        x=x,
        y=y,
        role=COVER,
        points=points,
        wanted=wanted,
        shown=shown,
    )
    assert torch.equal(p.train.x[rows], x)
    assert torch.equal(p.train.y[rows], y)
    assert p.role[rows].tolist() == [COVER, COVER]
    rest = torch.ones(200, dtype=torch.bool).index_fill(0, rows, False)
    assert bool((p.role[rest] == CLEAN).all())
    assert torch.equal(p.train.x[rest], clean.x[rest])
    assert torch.equal(p.origin, torch.arange(200))
    assert torch.equal(p.targets.x, shown)
    assert torch.equal(p.targets.y, test.y[points])
    assert torch.equal(p.wanted, wanted)
    assert torch.equal(p.target_origin, points)
    kept = poison_in_place(clean, test, rows=rows)
    assert torch.equal(kept.train.x, clean.x)
    assert kept.train.x.data_ptr() != clean.x.data_ptr()
    assert int((kept.role == POISON).sum()) == 2
    assert len(kept.targets) == len(kept.wanted) == 0


def test_the_attacked_point_is_a_right_one_of_the_source_and_not_of_the_target():
    logits = F.one_hot(torch.tensor([0, 1, 2, 0, 1, 2]), 3).double()
    y = torch.tensor([0, 1, 2, 1, 1, 0])
    cases = [((None, None), {0, 1, 2, 4}), ((1, None), {1, 4}), ((None, 1), {0, 2})]
    for (source, target), want in cases:
        found = {int(attackable(logits, y, source, target, seed)) for seed in range(60)}
        assert found == want


def test_the_wanted_label_is_the_targets_or_the_second_of_the_logits():
    logits = torch.tensor([[0.0, 5.0, 1.0, 3.0], [4.0, 0.0, -1.0, -2.0]])
    assert wanted_at(logits, torch.tensor([0]), None).tolist() == [3]
    assert wanted_at(logits, torch.tensor([1]), None).tolist() == [1]
    assert wanted_at(logits, torch.tensor([0]), 2).tolist() == [2]


def test_surrogates_are_different_models_whose_accuracy_is_told(small):
    attack = Bullseye(surrogates=3)
    with collecting() as told:
        models = ensemble(attack, small[0], LINEAR, 5)
    weights = [model.get_submodule("head").weight for model in models]
    for one, other in itertools.combinations(weights, 2):
        assert not torch.equal(one, other)
    seeds = [
        derive(5, "surrogate"),
        derive(5, "surrogate", 1),
        derive(5, "surrogate", 2),
    ]
    for weight, seed in zip(weights, seeds, strict=True):
        assert torch.equal(
            weight, train(small[0], LINEAR, seed).model().get_submodule("head").weight
        )
    with torch.no_grad():
        right = (models[1](small[0].x).argmax(1) == small[0].y).double().mean()
    assert told.figures["surrogate1_accuracy"] == pytest.approx(float(right), abs=1e-6)
    with collecting() as told:
        surrogate(small[0], LINEAR, Recipe(), 5)
    assert str(told.figures["surrogate"]).startswith("Recipe(model='linear'")


@pytest.mark.parametrize("steps", [0, 1, 9, 14])
def test_a_partly_trained_model_is_the_run_at_that_step(steps, small):
    recipe = dataclasses.replace(LINEAR, checkpoints=14)  # 2 epochs of 7 steps
    run = train(small[0], recipe, 3)
    want = run.model(steps - 1) if steps else run.initial()
    found = partly_trained(small[0], LINEAR, 3, steps)
    for name, value in want.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


# --- label flips ---


def test_a_random_flip_reaches_every_other_label():
    data = random_data(2000, (2,), classes=4)
    p = LabelFlip(budget=0.99)(data, data, LINEAR, 0)
    pairs = set(zip(data.y.tolist(), p.train.y.tolist(), strict=True))
    assert {(a, b) for a, b in pairs if a != b} == {
        (a, b) for a in range(4) for b in range(4) if a != b
    }


# --- features ---


class Pooled(nn.Module):
    """Means over squares of 2x2, as many features as a quarter of the pixels, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * F.avg_pool2d(x, 2).flatten(1)


def test_feature_collision_weighs_pixels_by_beta_times_features_over_pixels_squared():
    """|P(x - t)|^2 + beta (16 / 64)^2 |x - b|^2 has its minimum in closed form: P is linear."""
    base = noise(2, 1, 8, 8) * 0.2 + 0.4  # far from black and white
    goal = noise(1, 1, 8, 8, seed=1) * 0.2 + 0.4
    beta = 3.0
    attack = FeatureCollision(eps=None, steps=2000, beta=beta)
    found = attack.collide(base, base, goal, [Pooled()])
    matrix = Pooled()(torch.eye(64, dtype=WIDE).view(64, 1, 8, 8)).T
    weight = beta * (16 / 64) ** 2
    left = matrix.T @ matrix + weight * torch.eye(64, dtype=WIDE)
    right = matrix.T @ matrix @ goal.flatten() + weight * base.flatten(1)
    torch.testing.assert_close(
        found.flatten(1), torch.linalg.solve(left, right.T).T, rtol=0, atol=1e-4
    )


def test_feature_attacks_take_the_mean_over_the_nets():
    bodies = [Pooled(), Pooled(3.0)]
    x, point = noise(4, 1, 8, 8), noise(1, 1, 8, 8, seed=1)
    shifted = [body(point) + 0.1 * i for i, body in enumerate(bodies)]
    want = 0.0
    for body, goal in zip(bodies, shifted, strict=True):
        mean = sum(body(row[None])[0] for row in x) / 4
        want += float((mean - goal[0]).pow(2).sum() / goal.pow(2).sum()) / 4
    assert float(distance_of_mean(bodies, shifted, x)) == pytest.approx(want, rel=1e-9)
    alone = x[:1].expand(3, -1, -1, -1)  # any combination of one row is the row
    same = distance_of_mean(bodies, shifted, alone)
    assert float(Polytope(bodies, shifted)(alone)) == pytest.approx(
        float(same), rel=1e-9
    )
    attack = FeatureCollision(eps=None, steps=1, lr=1e-12)
    with collecting() as told:
        attack.collide(x, x, point, bodies)
    parts = [(body(x) - body(point)).pow(2).sum(1).mean() for body in bodies]
    mean = float(sum(parts) / 2)
    assert told.figures["feature_distance_clean"] == pytest.approx(mean, rel=1e-6)


def test_source_images_are_dealt_evenly_and_matched_at_the_least_total_distance():
    dealt = _deal(4, 10, generator(0, "deal"))
    assert torch.bincount(dealt, minlength=4).sort().values.tolist() == [2, 2, 3, 3]
    features, goals = noise(5, 3), noise(5, 3, seed=1)
    match = nearest_pairs(features, goals)
    cost = lambda order: float((features - goals[list(order)]).norm(dim=1).sum())  # noqa: E731
    best = min(itertools.permutations(range(5)), key=cost)
    assert match.tolist() == list(best)


def test_hidden_rows_end_at_the_patched_image_as_far_as_the_ball_allows():
    x, source = noise(3, 1, 4, 4), noise(1, 1, 4, 4, seed=1)
    found = HiddenTrigger(eps=0.2, steps=300).hide(x, source, nn.Flatten(), 0)
    want = torch.minimum(torch.maximum(source, x - 0.2), x + 0.2)
    assert float((found - want).abs().max()) < 0.2 / 100, "the last steps settle"


def test_each_hidden_row_goes_to_the_source_nearest_to_it_one_to_one():
    x = torch.stack([torch.full((1, 3, 3), 0.2), torch.full((1, 3, 3), 0.8)])
    sources = torch.stack([torch.full((1, 3, 3), 0.9), torch.full((1, 3, 3), 0.1)])
    found = HiddenTrigger(eps=0.2, steps=100).hide(x, sources, nn.Flatten(), 0)
    torch.testing.assert_close(found, sources.flip(0), rtol=0, atol=0.2 / 30)


def test_the_hidden_features_are_those_of_patched_images_of_the_source(
    small, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        HiddenTrigger, "hide", lambda *a, **k: seen.append(k["patched"]) or a[1]
    )
    attack = HiddenTrigger(source=3, steps=1)
    attack(*small, LINEAR, 0)
    dataclasses.replace(attack, source=None)(*small, LINEAR, 0)
    for patched, mask in zip(seen, (small[0].y == 3, small[0].y != 0), strict=True):
        assert torch.equal(patched, Patch().trigger(small[0].x[mask]))


# --- hardened and eased rows ---


class Flat(nn.Module):
    """Logits that do not depend on the pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 3) + 0 * x.flatten(1).sum(1, keepdim=True)


def test_hardening_starts_at_random_in_the_whole_ball():
    clean = torch.full((30, 1, 10, 10), 0.5)
    away = (LabelConsistent(eps=0.1, steps=3).harden(clean, Flat(), 0) - clean) / 0.1
    assert 0.99 < float(away.max()) <= 1 + 1e-5
    assert -1 - 1e-5 <= float(away.min()) < -0.99
    assert 0.48 < float(away.abs().mean()) < 0.52
    assert float((away.abs() > 0.999).double().mean()) < 0.01


def test_hardening_lowers_the_odds_of_the_class_against_all_others():
    head = nn.Linear(4, 3, bias=False).double()
    model = nn.Sequential(nn.Flatten(), head)
    x = noise(6, 1, 2, 2).requires_grad_()
    odds = LabelConsistent(target=1)._log_odds(model, x)
    p = model(x).softmax(1)[:, 1]
    torch.testing.assert_close(odds, (p / (1 - p)).log())


def test_a_row_is_eased_by_a_tenth_of_its_ball_a_step():
    model = Classifier(nn.Flatten(), nn.Linear(16, 2).double())
    x, y = noise(5, 1, 4, 4) * 0.4 + 0.3, torch.tensor([0, 1, 0, 1, 1])
    learner = _Learner(Dataset(x, y, 2), LINEAR, 0)
    learner.model = model
    eased = ErrorMinimising(eps=0.1, steps=4)._ease(learner, x, x, y)
    toward = (model.head.weight[y] - model.head.weight[1 - y]).sign().view(5, 1, 4, 4)
    torch.testing.assert_close(eased - x, 0.04 * toward)


def test_noise_is_eased_by_the_loss_that_the_learner_descends(small):
    recipe = dataclasses.replace(LINEAR, label_smoothing=0.4)
    learner = _Learner(small[0], recipe, 3)
    learner.learn(small[0].x, 200)  # surer of its labels than smoothed ones are
    x, y = small[0].x[:40], small[0].y[:40]
    free = x.clone().requires_grad_()
    loss = F.cross_entropy(learner.model(free), y, label_smoothing=0.4)
    (slope,) = torch.autograd.grad(loss, free)
    eased = ErrorMinimising(eps=0.1, steps=1)._ease(learner, x, x, y)
    torch.testing.assert_close(eased, (x - 0.01 * slope.sign()).clamp(0, 1))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_the_learner_takes_plain_steps_of_sgd_with_momentum_on_drawn_rows(
    smoothing: float, small
):
    data = small[0].to(dtype=WIDE)
    recipe = dataclasses.replace(LINEAR, momentum=0.8, label_smoothing=smoothing)
    learner = _Learner(data, recipe, 3)
    model = build("linear", data.layout, derive(3, "surrogate")).double()
    g, speed = generator(3, "batches"), [0.0] * len(list(model.parameters()))
    other = data.x * 0.9
    for _ in range(2):  # momentum stays from one call to the next
        learner.learn(other, 2)
        for _ in range(2):
            rows = torch.randint(200, (32,), generator=g)
            loss = F.cross_entropy(
                model(other[rows]), data.y[rows], label_smoothing=smoothing
            )
            slopes = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for i, (p, slope) in enumerate(
                    zip(model.parameters(), slopes, strict=True)
                ):
                    speed[i] = 0.8 * speed[i] + slope
                    p -= 0.1 * speed[i]
    for mine, its in zip(model.parameters(), learner.model.parameters(), strict=True):
        torch.testing.assert_close(its, mine)


def test_the_noise_is_ready_when_the_error_is_below_the_stop(small):
    def rounds(attack: ErrorMinimising) -> tuple[int, list[float]]:
        with collecting() as told:
            attack(*small, LINEAR, 0)
        return told.arrays["objective"].shape[1]

    easy = ErrorMinimising(eps=0.9, rounds=6, steps=20, stop=0.5)
    assert rounds(easy) == 1
    assert rounds(ErrorMinimising(eps=0.001, rounds=2, train_steps=1, steps=1)) == 2


# --- patterns of a class ---


def test_rows_lie_around_their_pattern_by_the_share_that_is_asked_for():
    y = torch.zeros(400, dtype=torch.int64)
    exact = LSP(patch=1, noise=0.0, strength=0.2).patterns((1, 16, 16), y[:1], 10, 0)
    assert bool(((exact.abs() - 0.2).abs() < 1e-6).all())
    around = LSP(patch=1, noise=0.5, strength=0.2).patterns((1, 16, 16), y, 10, 0)
    cosines = F.cosine_similarity(around.flatten(1), exact.flatten(1))
    assert float(cosines.mean()) == pytest.approx(1 / math.sqrt(1 + 0.5**2), abs=0.01)


def test_patterns_are_added_to_the_rows_and_cut_at_black_and_white(small):
    p = LSP(strength=0.3)(*small, LINEAR, 0)
    added = LSP(strength=0.3).patterns((1, 8, 8), small[0].y, 10, 0)
    assert torch.equal(p.train.x, (small[0].x + added).clamp(0, 1))


@pytest.mark.parametrize(("side", "patch"), [(8, 2), (15, 2), (16, 8), (32, 8)])
def test_squares_of_a_pattern_are_eight_pixels_wide_or_two_on_small_images(side, patch):
    y = torch.arange(2)
    found = LSP(noise=0.0).patterns((1, side, side), y, 2, 0)
    assert torch.equal(
        found, LSP(noise=0.0, patch=patch).patterns((1, side, side), y, 2, 0)
    )


# --- gradients ---


def test_misalignment_is_the_mean_of_one_minus_the_cosines():
    models = [
        build("mlp", Layout((1, 8, 8), 10, "image"), seed).double() for seed in range(2)
    ]
    data = random_data(5, (1, 8, 8))
    wish = random_data(4, (1, 8, 8), seed=3)
    goals = [wanted_gradient(model, wish) for model in models]
    want = []
    for model in models:
        vectors = []
        for part in (data, wish):
            loss = F.cross_entropy(model(part.x), part.y)
            slopes = torch.autograd.grad(loss, list(model.parameters()))
            vectors.append(torch.cat([slope.flatten() for slope in slopes]))
        want.append(1 - float(F.cosine_similarity(*vectors, dim=0)))
    got = misalignment(models, goals, data.x, data.y)
    assert float(got.detach()) == pytest.approx(sum(want) / 2, rel=1e-9)


DESCENTS = [
    (Bullseye(eps=0.2, steps=7, lr=0.03), attacks.bullseye, 0.03),
    (
        GradientMatching(eps=0.2, steps=7, step=0.3, restarts=1),
        attacks.gradient_matching,
        0.06,
    ),
    (SleeperAgent(eps=0.2, steps=7, step=0.3, retrain=0), attacks.sleeper_agent, 0.06),
    (MetaPoison(eps=0.2, steps=7, lr=0.3, models=1), attacks.metapoison, 0.06),
    (NormMatched(eps=0.2, steps=7, rounds=1), attacks.norm_matched, 0.02),
]


@pytest.mark.parametrize(("attack", "module", "lr"), DESCENTS, ids=repr)
def test_the_descent_keeps_to_the_fields_and_begins_near_the_clean_rows(
    attack, module, lr, small, monkeypatch
):
    seen = []

    def record(objective, clean, **options):
        seen.append((clean, options))
        return clean, clean.new_zeros(attack.steps)

    monkeypatch.setattr(module, "adam_descent", record)
    p = attack(*small, LINEAR, 0)
    ((clean, options),) = seen
    rows = p.role == POISON
    assert torch.equal(clean, small[0].x[rows])
    assert options["eps"] == 0.2
    assert options["steps"] == 7
    assert options["lr"] == pytest.approx(lr)
    assert options.get("signed", False) == isinstance(
        attack, GradientMatching | SleeperAgent
    )
    if isinstance(attack, GradientMatching | SleeperAgent):
        assert 0.15 < float((options["start"] - clean).abs().max()) <= 0.2 + 1e-6


def test_sleeper_agent_wants_patched_sources_to_bear_the_target(small):
    patched = SleeperAgent(target=4, source=7)._patched(small[0], 0)
    assert torch.equal(patched.x, Patch().trigger(small[0].x[small[0].y == 7]))
    assert patched.y.unique().tolist() == [4]


def test_sleeper_agent_retrains_evenly_over_its_steps_on_the_poison_so_far(
    small, monkeypatch
):
    attack = SleeperAgent(steps=250, retrain=4, target=2)
    rows = (small[0].y == 2).nonzero().squeeze(1)[:5]
    models = attack._models(small[0], LINEAR, 0, 0)
    patched = attack._patched(small[0], 0)
    objective = _Retraining(attack, small[0], rows, patched, LINEAR, 0, models)
    assert sorted(objective.due) == [50, 100, 150, 200]
    assert [objective.due[step] for step in sorted(objective.due)] == [1, 2, 3, 4]
    seen = []
    monkeypatch.setattr(
        SleeperAgent, "_models", lambda *args: seen.append(args[1:]) or models
    )
    x = small[0].x[rows] * 0.5
    for step in (49, 50):
        objective(x.clone().requires_grad_(), step)
    ((data, _, _, time),) = seen
    assert torch.equal(data.x[rows], x)
    assert time == 1


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_the_objective_of_norm_matched_is_its_definition(smoothing: float, small):
    data = Dataset(small[0].x.double(), small[0].y.clone(), 10)
    attack = NormMatched(target=3, weight=0.7)
    rows = (data.y != 3).nonzero().squeeze(1)[:4]
    data.y[rows] = 3
    recipe = dataclasses.replace(LINEAR, checkpoints=3, label_smoothing=smoothing)
    trace = train(data, recipe, 0)
    x = noise(4, 1, 8, 8, seed=5)
    got = _Objective(trace, rows, attack)(x, 0)

    def slopes(
        model: nn.Module, images: Tensor, labels: Tensor, share: float = smoothing
    ) -> Tensor:
        found = []
        for one, label in zip(images, labels, strict=True):
            loss = F.cross_entropy(model(one[None]), label[None], label_smoothing=share)
            parts = torch.autograd.grad(loss, list(model.parameters()))
            found.append(torch.cat([part.flatten() for part in parts]))
        return torch.stack(found)

    others = torch.tensor([i for i in range(200) if data.y[i] != 3])
    peers = torch.tensor([i for i in range(200) if data.y[i] == 3 and i not in rows])
    patch = Patch().trigger
    rates = torch.tensor(
        [checkpoint.lr for checkpoint in trace.checkpoints], dtype=WIDE
    )
    want = 0.0
    for k, rate in enumerate(rates / rates.sum()):
        model = trace.model(k)
        wanted = torch.full((len(others),), 3)
        wish = slopes(model, patch(data.x[others]), wanted, 0.0).mean(0)
        own = slopes(model, patch(x), torch.full((4,), 3))
        median = slopes(model, data.x[peers], data.y[peers]).norm(dim=1).median()
        aside = 1 - F.cosine_similarity(own.mean(0), wish, dim=0)
        penalty = (own.norm(dim=1) / median).log().abs().mean()
        want += float(rate * (aside + 0.7 * penalty))
    assert float(got.detach()) == pytest.approx(want, rel=1e-5)


def test_the_gradient_that_is_wanted_is_of_all_other_classes_in_whatever_order_rows_lie(
    monkeypatch,
):
    y = torch.arange(10).repeat_interleave(100)
    x = noise(1000, 1, 8, 8)
    x[:, 0, 0, 0] = y / 10
    shown = []
    monkeypatch.setattr(
        attacks.norm_matched, "_age", lambda model, wish, *_: shown.append(wish)
    )
    trace = train(Dataset(x, y, 10), LINEAR, 0)
    rows = torch.tensor([150, 950])
    _Objective(trace, rows, NormMatched(target=3))
    wish = shown[0]
    assert len(wish) == 256
    assert wish.y.unique().tolist() == [3]
    classes = (wish.x[:, 0, 0, 0] * 10).round().long()
    counts = torch.bincount(classes, minlength=10)
    assert counts[3] == 0
    assert min(counts[counts > 0].tolist()) > 10
    assert int((counts > 0).sum()) == 9
