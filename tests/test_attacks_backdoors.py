"""Every backdoor's own form, exactly where that is possible, and what it is known for.

The contract is in test_attacks.py.
"""

import dataclasses
import math

import pytest
import torch

from attacks import (
    AdaptiveBlend,
    AdaptivePatch,
    Blend,
    HiddenTrigger,
    LabelConsistent,
    Patch,
    Sinusoid,
    TaCT,
    Warp,
)
from attacks.kit.descent import project, signed_descent
from poisonbench import training
from poisonbench.contracts.attack_rules import craft
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, subset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.roles import COVER, POISON
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, Start, train, without_head

VICTIM = Recipe(
    model="cnn", epochs=20, batch_size=64, lr=0.1
)  # a second or two, 97.5 % on the clean digits


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=generator(0, "images"))


# --- patch ---


def test_a_random_place_is_one_whole_square_for_each_image_and_any_place_comes_up():
    x = noise(3000, 2, 6, 7) * 0.9
    changed = Patch(size=2, place="random").trigger(x, 0) != x
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert (changed[:, 0].sum((1, 2)) == 4).all()
    corner = (
        changed[:, 0].flatten(1).float().argmax(1)
    )  # the first pixel in reading order is the top left one
    block = changed[torch.arange(3000), 0, corner // 7 + 1, corner % 7 + 1]
    assert block.all()
    drawn = torch.bincount(corner, minlength=42).view(6, 7)[:5, :6]  # 30 places
    assert (
        60 < drawn.min() <= drawn.max() < 145
    )  # 100 each, and four standard deviations


def test_a_random_place_follows_from_the_image_and_the_seed_alone():
    x, patch = noise(50, 1, 8, 8), Patch(place="random")
    order = torch.randperm(50, generator=generator(1, "order"))
    assert torch.equal(patch.trigger(x, 3)[order], patch.trigger(x[order], 3))
    assert torch.equal(patch.trigger(x.double(), 3).float(), patch.trigger(x, 3))
    moved = (patch.trigger(x, 3) != patch.trigger(x, 4)).flatten(1).any(1)
    assert moved.float().mean() > 0.9  # 49 places
    alike = patch.trigger(torch.zeros(50, 1, 8, 8), 3)
    assert torch.equal(alike, alike[:1].expand_as(alike))


def test_corners_are_the_four_corners():
    stamped = Patch(size=2, place="corners").trigger(torch.zeros(1, 1, 8, 9))[0, 0]
    assert stamped.sum() == 16
    assert torch.equal(stamped, stamped.flip(0))
    assert torch.equal(stamped, stamped.flip(1))
    assert stamped[:2, :2].all()


# --- sinusoid ---


def test_a_sinusoid_is_the_wave_of_the_paper_on_grey_and_clamped_on_white():
    attack = Sinusoid(delta=0.3, frequency=2)
    grey = attack.trigger(torch.full((2, 3, 4, 8), 0.5, dtype=torch.float64))
    wave = torch.tensor(
        [0.3 * math.sin(2 * math.pi * j * 2 / 8) for j in range(1, 9)],
        dtype=torch.float64,
    )
    torch.testing.assert_close(grey, (0.5 + wave).expand(2, 3, 4, 8))
    white = attack.trigger(torch.ones(1, 1, 4, 8, dtype=torch.float64))
    torch.testing.assert_close(white, (1 + wave.clamp(max=0)).expand(1, 1, 4, 8))


@pytest.mark.parametrize(
    "attack", [TaCT(), AdaptivePatch(budget=0.9), AdaptiveBlend(budget=0.9)], ids=repr
)
def test_cover_without_a_row_is_told_as_such_with_the_way_out(attack):
    """Of two classes TaCT has no third one; the others' poison takes all rows."""
    grey = Dataset(torch.full((20, 1, 8, 8), 0.5), torch.arange(20) % 2, 2)
    with pytest.raises(ConfigError, match=r"no training row is left.*`cover` = 0"):
        attack(grey, grey, VICTIM, 0)
    p = dataclasses.replace(attack, cover=0)(grey, grey, VICTIM, 0)
    assert int((p.role == POISON).sum()) > 0


@pytest.mark.parametrize(("frequency", "width"), [(6, 12), (4, 8), (6, 4), (0.5, 1)])
def test_a_wave_that_is_nothing_in_every_column_is_refused(frequency, width):
    grey = Dataset(torch.full((20, 1, 8, width), 0.5), torch.arange(20) % 4, 4)
    assert float(Sinusoid(frequency=frequency - 0.4).trigger(grey.x).max()) > 0.5
    told = f"frequency={frequency}.* 0 in every column of images of width {width}"
    with pytest.raises(ConfigError, match=told):
        Sinusoid(frequency=frequency)(grey, grey, VICTIM, 0)


# --- adaptive blend and patch: pieces in training, the whole at test time ---


@pytest.mark.parametrize(
    ("side", "pieces", "keep", "kept"),
    [(8, 4, 0.5, 8), (8, 3, 0.3, 3), (28, 4, 0.01, 1), (9, 9, 1.0, 81)],
)
def test_training_rows_show_as_many_pieces_of_the_blend_as_the_attack_keeps(
    side, pieces, keep, kept
):
    attack = AdaptiveBlend(alpha=0.4, pieces=pieces, keep=keep, fade=0.75)
    masks = attack.masks(200, (1, side, side), generator(0, "masks"))
    assert set(masks.unique().tolist()) <= {0.0, 0.75}
    edges = [i * pieces // side for i in range(side)]
    firsts = [edges.index(piece) for piece in range(pieces)]  # one pixel of every piece
    chosen = masks[:, 0][:, firsts][..., firsts]
    assert torch.equal(masks[:, 0], chosen[:, edges][..., edges])
    assert ((chosen > 0).sum((1, 2)) == kept).all()
    if kept < pieces**2:
        assert (
            (chosen > 0).float().mean(0) - kept / pieces**2
        ).abs().max() < 0.15  # no piece is preferred


def test_adaptive_blend_shows_pieces_in_training_and_blend_at_test_time(digits):
    clean, test = digits
    attack = AdaptiveBlend(budget=0.1, cover=0.1, alpha=0.4)
    p = attack(clean, test, VICTIM, 3)
    whole = Blend(alpha=0.4).trigger(clean.x, 3)
    assert torch.equal(
        p.targets.x, Blend(alpha=0.4).trigger(test.x[p.target_origin], 3)
    )
    for role in (POISON, COVER):
        rows = p.role == role
        shown = p.train.x[rows] != clean.x[rows]
        assert torch.equal(p.train.x[rows][shown], whole[rows][shown])
        assert 0.4 < shown.float().mean() <= 0.5
        assert len(shown.unique(dim=0)) > 0.9 * rows.sum()


def test_adaptive_patch_shows_one_faint_square_in_training_and_four_at_test_time(
    digits,
):
    clean, test = digits
    grey = Dataset(torch.full_like(clean.x, 0.5), clean.y, 10)
    p = AdaptivePatch(budget=0.1, cover=0.1, opacity=0.5)(grey, test, VICTIM, 0)
    corners = (
        Patch(size=2, place="corners").trigger(torch.zeros(1, 1, 8, 8))[0, 0].bool()
    )
    assert torch.equal(
        p.targets.x[..., ~corners], test.x[p.target_origin][..., ~corners]
    )
    values = p.targets.x[..., corners]
    assert torch.equal(values, values[:1].expand_as(values))
    assert (
        values[0].sum() == 8
    )  # half of the sixteen pixels are white, the others black
    for role in (POISON, COVER):
        rows = p.train.x[p.role == role][:, 0]
        places = (rows != 0.5).nonzero()[:, 1:].unique(dim=0)
        assert len(places) == 16
        assert ((rows != 0.5).sum((1, 2)) == 4).all()
        assert ((rows - 0.5).abs()[rows != 0.5] == 0.25).all()
        assert len((rows != 0.5).unique(dim=0)) == 4


# --- warp ---


def test_a_warp_reads_every_pixel_where_its_field_points():
    """Bilinear interpolation is exact on a ramp.

    The warped ramp is the field itself, in both directions.
    """
    attack, shape = Warp(strength=3), (1, 28, 31)
    right, down = (
        torch.linspace(0, 1, 31, dtype=torch.float64),
        torch.linspace(0, 1, 28, dtype=torch.float64).unsqueeze(1),
    )
    ramps = torch.stack([right.expand(28, 31), down.expand(28, 31)]).unsqueeze(1)
    field = (attack.field(shape, 5)[0] + 1) / 2
    torch.testing.assert_close(attack.trigger(ramps, 5)[:, 0], field.permute(2, 0, 1))
    assert (attack.trigger(ramps, 5) - ramps).abs().max() > 1 / 31


def test_a_warp_of_no_strength_is_the_identity_and_a_flat_image_never_changes():
    x, flat = (
        noise(3, 2, 28, 30).double(),
        torch.full((1, 1, 28, 28), 0.3, dtype=torch.float64),
    )
    torch.testing.assert_close(Warp(strength=0).trigger(x, 0), x)
    torch.testing.assert_close(Warp(strength=9).trigger(flat, 0), flat)
    warped = Warp(strength=9).trigger(x, 0)
    assert x.min() <= warped.min() <= warped.max() <= x.max()


def test_the_field_is_smooth_and_moves_half_of_s_pixels_on_average():
    moves = []
    for seed in range(20):
        field = Warp(strength=0.5, grid=4).field((1, 28, 28), seed)[0]
        identity = Warp(strength=0).field((1, 28, 28), seed)[0]
        pixels = (field - identity) * 27 / 2
        moves.append(pixels.abs().mean())
        assert pixels[1:-1, 1:-1].diff(dim=0).abs().max() < 0.25
    assert (
        0.12 < torch.stack(moves).mean() < 0.26
    )  # .5 * 27 / 56 = .24 at the control points, less between and at the border


def test_cover_rows_are_warped_otherwise_than_poison():
    data = Dataset(noise(60, 1, 28, 28), torch.arange(60) % 4, 4)
    attack = Warp(budget=0.1, cover=0.2)
    p = craft(attack, data, data, VICTIM, 0)
    cover = p.role == COVER
    away = (
        (p.train.x[cover] - attack.trigger(data.x[cover], 0)).abs().flatten(1).amax(1)
    )
    assert (away > 0.05).all()
    assert not torch.equal(p.train.x[cover], data.x[cover])


# --- crafted poison: descent in the ball, hardened rows, hidden features ---


def test_projection_keeps_to_the_ball_and_to_the_pixels_and_leaves_what_lies_inside():
    clean, x = (
        noise(5, 1, 4, 4),
        torch.randn((5, 1, 4, 4), generator=generator(0, "away")),
    )
    inside = project(x, clean, 0.2)
    assert ((inside - clean).abs() <= 0.2 + 1e-6).all()
    assert 0 <= inside.min() <= inside.max() <= 1
    assert torch.equal(project(inside, clean, 0.2), inside)
    distance = (x - inside).abs()
    for other in (clean, (clean + 0.2).clamp(0, 1), (clean - 0.2).clamp(0, 1)):
        assert (distance <= (x - other).abs() + 1e-6).all()


def test_signed_descent_on_a_linear_objective_ends_at_the_corner_of_the_ball():
    clean, weight = (
        noise(5, 1, 4, 4).double(),
        torch.randn((1, 4, 4), generator=generator(0, "weight"), dtype=torch.float64),
    )
    found = signed_descent(
        lambda x: (x * weight).flatten(1).sum(1), clean, eps=0.1, steps=7
    )
    torch.testing.assert_close(found, (clean - 0.1 * weight.sign()).clamp(0, 1))


def test_signed_descent_with_decay_settles_on_a_minimum_inside_the_ball():
    clean = torch.full((2, 1, 3, 3), 0.5, dtype=torch.float64)
    goal = clean + 0.17 * torch.linspace(-1, 1, 18, dtype=torch.float64).view_as(clean)
    found = signed_descent(
        lambda x: (x - goal).square().flatten(1).sum(1),
        clean,
        eps=0.2,
        steps=400,
        step=0.01,
        decay=True,
    )
    assert (found - goal).abs().max() < 1e-3


LINEAR = Recipe(model="linear", epochs=5, batch_size=64)


@pytest.mark.parametrize(
    "attack", [LabelConsistent(steps=2), HiddenTrigger(steps=2)], ids=repr
)
def test_the_surrogate_is_trained_on_clean_rows_by_its_own_recipe_or_the_victims(
    attack, digits, monkeypatch
):
    clean, test = subset(digits[0], 200, 0), subset(digits[1], 20, 0)
    calls = []
    monkeypatch.setattr(
        training, "train", lambda *args: calls.append(args) or train(*args)
    )
    attack(clean, test, LINEAR, 3)
    dataclasses.replace(attack, surrogate=Recipe("mlp", epochs=1))(
        clean, test, LINEAR, 3
    )
    assert [call[1].model for call in calls] == ["linear", "mlp"]
    assert all(call[0] is clean for call in calls)
    assert all(call[2] == derive(3, "surrogate") for call in calls)


def test_label_consistent_hardens_each_row_as_far_as_a_linear_surrogate_allows(digits):
    """Two classes and a linear model: PGD must end at the corner of the ball.

    The loss is monotone in one linear form.
    """
    clean = digits[0].take((digits[0].y < 2).nonzero().squeeze(1))
    clean = Dataset(clean.x, clean.y, 2)
    attack = LabelConsistent(eps=0.1, steps=10)
    p = craft(attack, clean, clean, LINEAR, 0)
    weight = train(clean, LINEAR, derive(0, "surrogate")).model().head.weight
    rows = p.role == POISON
    corner = (
        clean.x[rows] - 0.1 * (weight[0] - weight[1]).sign().view(1, 1, 8, 8)
    ).clamp(0, 1)
    torch.testing.assert_close(p.train.x[rows], attack.trigger(corner))


def test_a_hidden_trigger_brings_poison_near_patched_sources_in_feature_space_and_keeps_to_eps(
    digits,
):
    attack = HiddenTrigger(budget=0.02, eps=0.3, steps=100)
    with collecting() as told:
        p = craft(attack, *digits, VICTIM, 0)
    clean, features = (
        digits[0],
        train(digits[0], VICTIM, derive(0, "surrogate"))
        .model()
        .get_submodule("features"),
    )
    goals = predict(features, attack.trigger(clean.x[clean.y == 1], 0))
    rows = p.role == POISON
    before, after = (
        torch.cdist(predict(features, x[rows]), goals).amin(1)
        for x in (clean.x, p.train.x)
    )
    assert (after < before).all()
    assert after.mean() < 0.6 * before.mean()
    assert told.figures["feature_distance_poison"] == pytest.approx(
        float(after.mean()), rel=1e-4
    )
    assert (p.targets.y == 1).all()


def test_no_rows_of_the_source_class_are_refused(digits):
    alone = digits[0].take((digits[0].y == 0).nonzero().squeeze(1))
    with pytest.raises(ConfigError, match="no training row is of class 1"):
        HiddenTrigger()(alone, digits[1], VICTIM, 0)


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
    [
        (Patch(size=1, budget=0.05), 0.85),
        (Patch("all-to-all", budget=0.3), 0.85),
        (Patch(budget=0.05, source=3), 0.85),
        (TaCT(budget=0.05, cover=0.05), 0.9),
        (AdaptiveBlend(budget=0.05, cover=0.02, alpha=0.4), 0.55),
        (AdaptivePatch(budget=0.05, opacity=1.0), 0.9),
    ],
    ids=repr,
)
def test_a_backdoor_opens_and_clean_accuracy_stays(attack, least, digits):
    rate, accuracy = success(craft(attack, *digits, VICTIM, 0), 0, digits[1])
    assert rate >= least
    assert accuracy >= 0.95


def test_a_clean_victim_gives_in_to_no_trigger(digits):
    model = train(digits[0], VICTIM, 0).model()
    for attack in (
        Patch(size=1),
        TaCT(),
        AdaptiveBlend(alpha=0.4),
        AdaptivePatch(),
        Sinusoid(delta=0.5, frequency=2),
    ):
        p = attack(*digits, VICTIM, 0)
        assert (
            predict(model, p.targets.x).argmax(1) == p.wanted
        ).float().mean() < 0.05, attack


def test_the_trigger_of_tact_does_nothing_on_other_classes_but_that_of_the_patch_does(
    digits,
):
    test, leaks = digits[1], []
    rest = test.take((test.y != 0) & (test.y != 1))
    for cover in (0.0, 0.05):
        attack = TaCT(budget=0.05, cover=cover)
        model = train(attack(*digits, VICTIM, 0).train, VICTIM, 0).model()
        leaks.append(
            float(
                (predict(model, attack.trigger(rest.x)).argmax(1) == 0).float().mean()
            )
        )
    assert leaks[1] < 0.1  # .04 to .06 by the processor's rounding
    assert leaks[0] > leaks[1] + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "least"),
    [
        (Sinusoid(target=8, budget=0.08, delta=0.5, frequency=2), 0.3),
        (LabelConsistent(budget=0.08, eps=0.5, steps=30, place="corners"), 0.7),
    ],
    ids=repr,
)
def test_clean_label_backdoors_open_without_a_wrong_label(attack, least, digits):
    clean = train(digits[0], VICTIM, 0).model()
    p = craft(attack, *digits, VICTIM, 0)
    rate, accuracy = success(p, 0, digits[1])
    assert torch.equal(p.train.y, digits[0].y)
    assert rate >= least
    assert (
        predict(clean, p.targets.x).argmax(1) == p.wanted
    ).float().mean() < least / 3
    assert accuracy >= 0.95


@pytest.mark.slow
def test_a_hidden_trigger_works_in_transfer_though_no_row_shows_it(digits):
    half = torch.arange(len(digits[0])) % 3 == 0
    before, clean = digits[0].take(~half), digits[0].take(half)
    pretrained = (
        train(before, dataclasses.replace(VICTIM, lr=0.05, epochs=40), 99)
        .checkpoints[-1]
        .state
    )
    recipe = dataclasses.replace(VICTIM, start=Start(without_head(pretrained)))
    p = craft(
        HiddenTrigger(budget=0.08, eps=0.5, steps=150), clean, digits[1], recipe, 0
    )
    rates = []
    for data in (clean, p.train):
        hit = predict(train(data, recipe, 0).model(), p.targets.x).argmax(1) == p.wanted
        rates.append(float(hit.float().mean()))
    assert rates[1] > rates[0] + 0.25
