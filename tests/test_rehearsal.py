"""Rehearsals: generic poison of every kind, what is learned from it, and the detector that does it.

A new poison is a row of the table in `defenses.rehearsal.table`.
"""

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import random_data
from torch import Tensor

import poisonbench as pb
from defenses.detectors.rehearsed import Rehearsed
from defenses.kit.tail_probability import surprise
from defenses.questions.learned import Learned
from defenses.questions.question import MOST, Answers, Question, side_names
from defenses.questions.table import QUESTIONS
from defenses.rehearsal import rehearse as module
from defenses.rehearsal.poison import (
    LEAST,
    MOST_OF_A_CLASS,
    GenericPoison,
    Plant,
    plant,
)
from defenses.rehearsal.prior import priors
from defenses.rehearsal.rehearse import Lesson, Rehearsal, planted_for, rehearse
from defenses.rehearsal.ridge import Problem, solve
from defenses.rehearsal.stage import Stage, held_against_others
from defenses.rehearsal.table import POISONS
from defenses.rehearsal.weights import learned, shares
from experiments.check.planted import sample
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import PAD, Dataset
from poisonbench.data.tokens import ill_padded
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.seeding import generator
from poisonbench.training import Recipe, Trace, train

SOURCE = 4
ROWS = [
    pytest.param(kind, poison, id=f"{kind} {poison.family}")
    for kind, table in POISONS.items()
    for poison in table
]


def data_of(kind: str) -> Dataset:
    """Data of a kind, large enough for every poison."""
    if kind == "image":
        return random_data(300, (1, 16, 16), 10)
    return sample(kind)[0].take(torch.arange(600))


def planted_alone(kind: str, poison: GenericPoison, seed: int) -> tuple[Dataset, Plant]:
    """The training set with one poison, and what was planted."""
    planted = plant(data_of(kind), (poison,), (), SOURCE, seed)
    [one] = planted.plants
    return planted.train, one


# ---- generic poison


@pytest.mark.parametrize(("kind", "poison"), ROWS)
def test_contract_of_a_generic_poison(kind: str, poison: GenericPoison):
    before = data_of(kind)
    train_set, one = planted_alone(kind, poison, 0)
    assert train_set.x.shape == before.x.shape
    assert train_set.x.dtype == before.x.dtype
    assert train_set.layout == before.layout
    touched = torch.zeros(len(before), dtype=torch.bool)
    touched[torch.cat([one.rows, one.cover])] = True
    assert torch.equal(train_set.x[~touched], before.x[~touched])
    assert torch.equal(train_set.y[~touched], before.y[~touched])
    assert len(torch.cat([one.rows, one.cover]).unique()) == int(touched.sum())
    most = max(LEAST, round(poison.share * len(before)))
    assert 0 < len(one.rows) <= most
    assert bool((train_set.y[one.rows] == one.target).all())
    assert torch.equal(train_set.y[one.cover], before.y[one.cover])
    if poison.clean_label:
        assert bool((before.y[one.rows] == one.target).all())
        of_class = int((before.y == one.target).sum())
        assert len(one.rows) <= MOST_OF_A_CLASS * of_class
    else:
        assert bool((before.y[one.rows] != one.target).all())
    if poison.source:
        assert bool((before.y[one.rows] == SOURCE).all())
        assert one.target != SOURCE
        others = before.y[one.cover]
        assert len(others) > 0
        assert not bool(((others == SOURCE) | (others == one.target)).any())
        assert one.attacks(before.y).tolist() == (before.y == SOURCE).tolist()
    else:
        assert len(one.cover) == 0
        assert one.attacks(before.y).tolist() == (before.y != one.target).tolist()


@pytest.mark.parametrize(("kind", "poison"), ROWS)
def test_a_trigger_is_that_of_the_poison_rows_and_the_same_whatever_is_beside(
    kind: str, poison: GenericPoison
):
    before = data_of(kind)
    train_set, one = planted_alone(kind, poison, 0)
    source = before.x[:40].clone()
    shown = one.trigger.shown(source)
    assert torch.equal(source, before.x[:40]), "its argument was changed"
    assert shown.shape == source.shape
    assert shown.dtype == source.dtype
    changed = (shown != source).flatten(1).any(1)
    assert changed.double().mean() > 0.9
    alone = torch.cat([one.trigger.shown(x[None]) for x in source])
    assert torch.allclose(alone.double(), shown.double(), atol=1e-6)
    if not one.trigger.pieces:
        made = one.trigger.shown(before.x[one.rows])
        assert torch.equal(train_set.x[one.rows], made)
        return
    # a piece shows a part of the trigger: between the row as it was and the whole trigger
    count = len(one.trigger.pieces)
    for place, piece in enumerate(one.trigger.pieces):
        rows = one.rows[place::count]
        assert torch.equal(train_set.x[rows], piece(before.x[rows]))
    if kind != "tokens":
        whole = one.trigger.shown(before.x[one.rows])
        apart = (whole != before.x[one.rows]).sum()
        shows = (train_set.x[one.rows] != before.x[one.rows]).sum()
        assert shows < apart


@pytest.mark.parametrize(("kind", "poison"), ROWS)
def test_values_stay_those_of_the_kind(kind: str, poison: GenericPoison):
    data = data_of(kind)
    for seed in range(3):
        train_set, one = planted_alone(kind, poison, seed)
        for x in (train_set.x, one.trigger.shown(data.x)):
            if kind == "tokens":
                assert bool((x >= 0).all())
                assert bool((x < len(data.vocabulary)).all())
                assert not bool(ill_padded(x).any())
                assert bool(((x != PAD).sum(1) >= (data.x != PAD).sum(1)).all())
            else:
                assert bool(x.isfinite().all())
            if kind in ("image", "spectrogram"):
                assert bool((x >= 0).all())
                assert bool((x <= 1).all())


@pytest.mark.parametrize(("kind", "poison"), ROWS)
def test_equal_seeds_plant_alike_and_others_do_not(kind: str, poison: GenericPoison):
    first, one = planted_alone(kind, poison, 0)
    again, _ = planted_alone(kind, poison, 0)
    other, another = planted_alone(kind, poison, 1)
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.x, other.x)
    x = data_of(kind).x
    assert not torch.equal(one.trigger.shown(x), another.trigger.shown(x))


@pytest.mark.parametrize("kind", POISONS)
def test_several_poisons_have_rows_and_targets_of_their_own(kind: str):
    planted = plant(data_of(kind), POISONS[kind], (), SOURCE, 3)
    assert len(planted.plants) >= 5
    rows = torch.cat([torch.cat([one.rows, one.cover]) for one in planted.plants])
    assert len(rows.unique()) == len(rows)
    targets = [one.target for one in planted.plants if one.source is None]
    assert len(set(targets)) == len(targets)


@pytest.mark.parametrize("kind", POISONS)
def test_a_family_that_is_left_out_is_not_planted_and_changes_no_other(kind: str):
    whole = plant(data_of(kind), POISONS[kind], (), SOURCE, 3)
    without = plant(data_of(kind), POISONS[kind], ("spread",), SOURCE, 3)
    left = {one.family: one for one in without.plants}
    x = data_of(kind).x
    assert "spread" not in left
    for one in whole.plants:
        if one.family == "spread":
            continue
        other = left[one.family]
        assert (other.target, other.source) == (one.target, one.source)
        assert torch.equal(other.trigger.shown(x), one.trigger.shown(x))


def test_two_classes_are_planted_too_and_without_cover():
    data = sample("tokens")[0]
    two = replace(data, y=data.y % 2, classes=2)
    planted = plant(two, POISONS["tokens"], (), 1, 0)
    [of_source] = [one for one in planted.plants if one.source is not None]
    assert of_source.target == 0
    assert len(of_source.cover) == 0


def test_a_small_training_set_stays_mostly_clean():
    data = sample("image")[0].take(torch.arange(200))
    planted = plant(data, POISONS["image"], (), SOURCE, 0)
    sizes = [len(one.rows) for one in planted.plants if one.family != "waves"]
    assert sizes == [10, 10, 10, 10]
    assert (planted.train.y != data.y).double().mean() <= 0.2


def test_what_is_too_small_for_a_trigger_is_left_out():
    tiny = random_data(100, (1, 4, 4), 3)
    planted = plant(tiny, POISONS["image"], (), 0, 0)
    assert [one.family for one in planted.plants] == ["blend"]


# ---- weights


def problem(ridge: float) -> Problem:
    g = generator(0, "ridge")
    features = torch.randn(60, 4, generator=g, dtype=torch.float64)
    noise = torch.randn(60, generator=g, dtype=torch.float64)
    towards = torch.tensor([0.0, 0.5, -1.0, 2.0], dtype=torch.float64)
    share = torch.rand(60, generator=g, dtype=torch.float64)
    return Problem(
        features=features,
        positive=features[:, 0] + noise > 0.3,
        share=share / share.sum(),
        towards=towards,
        ridge=ridge,
    )


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
def test_the_ridge_solution_has_no_slope(ridge: float):
    it = problem(ridge)
    fit = solve(it)
    at = torch.cat([fit.weights, torch.tensor([fit.bias], dtype=torch.float64)])
    at.requires_grad_()
    values = it.features @ at[:-1] + at[-1]
    margin = torch.where(it.positive, values, -values)
    loss = (it.share * torch.log1p(torch.exp(-margin))).sum()
    whole = loss + ridge / 2 * (at[:-1] - it.towards).square().sum()
    slope = torch.autograd.grad(whole, at)[0]
    assert float(slope.abs().max()) < 1e-8


def test_weights_go_to_the_prior_as_the_ridge_grows():
    it = problem(1.0)
    away = [
        float((solve(replace(it, ridge=r)).weights - it.towards).norm())
        for r in (0.01, 1.0, 100.0, 1e6)
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-5


def test_points_far_on_their_sides_leave_the_weights_finite():
    one = torch.ones(20, 1, dtype=torch.float64)
    features = torch.cat([-50 * one, 50 * one])
    it = Problem(
        features=features,
        positive=features[:, 0] > 0,
        share=torch.full((40,), 1 / 40, dtype=torch.float64),
        towards=torch.zeros(1, dtype=torch.float64),
        ridge=1e-6,
    )
    fit = solve(it)
    assert fit.weights.isfinite().all()
    assert float(fit.weights) > 0


def test_clean_points_and_each_poison_have_their_shares():
    family = torch.tensor([-1] * 6 + [0] * 3 + [2])
    share = shares(family)
    assert float(share[family < 0].sum()) == pytest.approx(0.5)
    assert share[6:9].tolist() == pytest.approx([0.25 / 3] * 3)
    assert float(share[9]) == pytest.approx(0.25)


def test_equal_families_of_two_lessons_are_two():
    g = generator(1, "lessons")
    many = Lesson(
        torch.rand(2, 30, generator=g, dtype=torch.float64),
        torch.tensor([-1] * 10 + [0] * 20),
    )
    few = Lesson(
        torch.rand(2, 12, generator=g, dtype=torch.float64),
        torch.tensor([-1] * 10 + [0] * 2),
    )
    nothing = torch.zeros(2, dtype=torch.float64)
    apart = Lesson(few.surprises, torch.where(few.family < 0, -1, few.family + 5))
    assert torch.allclose(
        learned([many, few], nothing).weights, learned([many, apart], nothing).weights
    )


def test_without_poison_that_teaches_the_prior_stands():
    prior = torch.tensor([1.0, 2.0], dtype=torch.float64)
    clean = Lesson(torch.rand(2, 9, dtype=torch.float64), torch.full((9,), -1))
    assert torch.equal(learned([], prior).weights, prior)
    assert torch.equal(learned([clean], prior).weights, prior)


# ---- a rehearsal on made-up data


BIG = 6.0


def clusters(rows: int, seed: int, classes: int = 5) -> Dataset:
    """Vectors around a centre for each class; 16 further features are noise."""
    g = generator(seed, "clusters")
    y = torch.arange(rows) % classes
    centres = 3 * torch.eye(classes, classes + 16, dtype=torch.float64)
    noise = torch.randn(rows, classes + 16, generator=g, dtype=torch.float64)
    return Dataset(centres[y] + 0.5 * noise, y, classes)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    data = clusters(300, 0)
    recipe = Recipe(model="mlp", epochs=12, lr=0.1, batch_size=16, checkpoints=2)
    trace = train(data, recipe, seed=1)
    points = clusters(120, 1)
    test = points.relabel(predict(trace.model(), points.x).argmax(1))

    def again(other: Dataset) -> Trace:
        return train(other, recipe, 1)

    means = Means(
        retrain=lambda keep: again(data.take(keep)),
        influence=lambda run, many: torch.zeros(
            len(many), len(run.train), dtype=torch.float64
        ),
        train=again,
    )
    return Evidence(
        trace=trace,
        test=test,
        influence=torch.zeros(120, 300, dtype=torch.float64),
        trusted=torch.arange(120) % 2 == 0,
        means=means,
    )


class Largest:
    """A question that tells triggers beyond the values of the data."""

    uses = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        return evidence.test.x.amax(1)


class Noise:
    """A question that says nothing: a hash of the point."""

    uses = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        return (evidence.test.x.sum(1) * 1e4).sin()


ASKED = (Question("largest", Largest()), Question("noise", Noise()))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector asks the two questions alone."""
    monkeypatch.setattr("defenses.detectors.rehearsed.QUESTIONS", ASKED)


def test_a_rehearsal_trains_on_what_is_planted_and_tells_its_success(
    evidence: Evidence,
):
    assert evidence.means is not None
    trained = []

    def watching(data: Dataset) -> Trace:
        trained.append(data)
        return evidence.means.train(data)

    means = replace(evidence.means, train=watching)
    found = rehearse(evidence, means, ASKED, (), 7)
    planted = planted_for(evidence, (), 7)
    [data] = trained
    assert torch.equal(data.x, planted.train.x)
    assert torch.equal(data.y, planted.train.y)
    assert list(found.success) == [one.family for one in planted.plants]
    model = train(data, evidence.trace.recipe, 1).model()
    known = evidence.test.take(evidence.trusted)
    for place, one in enumerate(planted.plants):
        points = known.x[one.attacks(known.y)]
        got = predict(model, one.trigger.shown(points)).argmax(1) == one.target
        assert found.success[one.family] == pytest.approx(
            float(got.double().mean()), abs=0.25
        )
        teaches = bool((found.lesson.family == place).any())
        assert teaches == (found.success[one.family] >= module.SUCCESS)
    assert found.taught >= 2
    assert int((found.lesson.family < 0).sum()) == 60


def test_points_are_held_against_the_other_half_of_the_trusted_ones():
    g = generator(4, "halves")
    scores = torch.randn(1, 50, generator=g, dtype=torch.float64)
    origin = torch.cat([torch.arange(30), torch.arange(20)])
    family = torch.where(torch.arange(50) < 30, -1, 0)
    said = Answers(ASKED[:1], scores, (0.0,), ("",))
    nobody = torch.zeros(50, dtype=torch.bool)
    stage = Stage(clusters(50, 0), origin, family, nobody, nobody)
    found = held_against_others(said, stage)[0]
    for place in range(50):
        others = [i for i in range(30) if i % 2 != origin[place] % 2]
        want = surprise(scores[0, place : place + 1], scores[0, others])
        assert float(found[place]) == pytest.approx(
            float(want.clamp(0, MOST)), abs=1e-4
        )


def test_the_order_of_the_trusted_points_does_not_matter(evidence: Evidence):
    assert evidence.means is not None
    order = torch.randperm(120, generator=generator(5, "order"))
    moved = replace(
        evidence, test=evidence.test.take(order), trusted=evidence.trusted[order]
    )
    a = rehearse(evidence, evidence.means, ASKED, (), 7)
    b = rehearse(moved, evidence.means, ASKED, (), 7)
    assert torch.equal(a.lesson.surprises, b.lesson.surprises)
    assert a.success == b.success


@pytest.mark.usefixtures("asked")
def test_the_question_that_tells_gets_the_weight_and_flags_poison(evidence: Evidence):
    attacked = evidence.test.x[:20].clone()
    attacked[:, -1] = BIG  # another trigger than any that was planted
    points = torch.cat([attacked, evidence.test.x[20:]])
    judged = replace(
        evidence,
        test=evidence.test.rows(points, evidence.test.y),
        trusted=evidence.trusted & (torch.arange(120) >= 20),
    )
    detector = Rehearsed(prior="none")
    with collecting() as told:
        fitted = detector.fit(judged)
        scores = fitted(judged)
    assert isinstance(fitted, Learned)
    largest, noise = fitted.weights.tolist()
    assert largest > 0.1
    assert abs(noise) < 0.3 * largest
    assert torch.equal(scores, detector(judged))
    clean = ~judged.trusted & (torch.arange(120) >= 20)
    assert float((scores[:20, None] > scores[clean]).double().mean()) > 0.99
    assert str(told.figures["questions"]).split("\n") == list(side_names(ASKED))
    assert torch.equal(told.arrays["weights"], fitted.weights)
    seen = told.arrays["surprises"]
    assert torch.allclose(fitted.weights @ (seen - 1) + fitted.bias, scores)
    assert any(name.startswith("success_0_") for name in told.figures)


class First:
    """A question that is sure of the first points, and says of the others how far they are."""

    uses = ("probe",)

    def __call__(self, evidence: Evidence) -> Tensor:
        place = torch.arange(len(evidence.test), dtype=torch.float64)
        return torch.where(place < 5, 1000.0, -place)


@pytest.mark.usefixtures("asked")
def test_a_stream_only_adds_and_only_beyond_what_one_clean_point_in_twenty_has(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
):
    asked = (Question("first", First()),)
    monkeypatch.setattr("defenses.detectors.rehearsed.STREAM_QUESTIONS", asked)
    trusted = evidence.trusted & (torch.arange(120) >= 5)
    given = replace(evidence, trusted=trusted)
    alone = Rehearsed(prior="none").fit(given)
    beside = Rehearsed(stream=True, prior="none").fit(given)
    assert torch.equal(alone.weights, beside.weights)
    with collecting() as told:
        scores = beside(given)
    more = scores - alone(given)
    assert torch.allclose(more[:5], torch.full((5,), 0.5 * (MOST - 3.0)).double())
    assert float(more[5:].min()) == pytest.approx(0, abs=1e-9)
    assert float((more[5:] > 1e-9).double().mean()) <= 0.1
    rows = told.arrays["surprises"] - 1
    total = told.arrays["weights"] @ rows + beside.bias
    assert torch.allclose(total, scores)


@pytest.mark.usefixtures("asked")
def test_without_a_rehearsal_the_prior_stands(evidence: Evidence):
    fitted = Rehearsed(rehearsals=0, prior="none").fit(replace(evidence, means=None))
    assert fitted.weights.tolist() == [0, 0]
    automatic = Rehearsed(prior="none").fit(replace(evidence, means=None))
    assert automatic.weights.tolist() == [0, 0]
    with pytest.raises(ConfigError, match="cannot be made again"):
        Rehearsed(rehearsals=2).fit(replace(evidence, means=None))


@pytest.mark.usefixtures("asked")
def test_few_successes_are_warned_of(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
):
    few = POISONS["vector"][:2]
    monkeypatch.setitem(POISONS, "vector", few)
    with pytest.warns(UserWarning, match=r"of 2 generic poisons succeeded"):
        Rehearsed(prior="none").fit(evidence)
    monkeypatch.setattr("defenses.detectors.rehearsed.ENOUGH", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Rehearsed(prior="none").fit(evidence)


@pytest.mark.usefixtures("asked")
def test_a_family_left_out_is_not_rehearsed(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("defenses.detectors.rehearsed.ENOUGH", 0)
    with collecting() as told:
        Rehearsed(prior="none", leave_out=("beyond", "source")).fit(evidence)
    families = [name.split("_")[2] for name in told.figures if "success" in name]
    assert families == ["inside", "mixture", "spread", "shift"]
    with pytest.raises(ValueError, match="each of leave_out must"):
        Rehearsed(leave_out=("beyondd",))


@pytest.mark.usefixtures("asked")
def test_each_further_rehearsal_is_another_one(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
):
    seeds = []

    def watching(*given: Any) -> Rehearsal:
        seeds.append(given[-1])
        return rehearse(*given)

    monkeypatch.setattr("defenses.detectors.rehearsed.rehearse", watching)
    with collecting() as told:
        Rehearsed(2, prior="none").fit(evidence)
    Rehearsed(1, prior="none", seed=1).fit(evidence)
    assert len(set(seeds)) == len(seeds) == 3
    numbers = {name.split("_")[1] for name in told.figures if "success" in name}
    assert numbers == {"0", "1"}


@pytest.mark.parametrize(
    ("detector", "retrains", "probe"),
    [
        (Rehearsed(), True, False),
        (Rehearsed(0), False, False),
        (Rehearsed(stream=True), True, True),
        (Rehearsed(0, stream=True), False, True),
    ],
)
def test_it_declares_what_it_reads(detector: Rehearsed, retrains: bool, probe: bool):
    assert ("retraining" in detector.uses) == retrains
    assert ("probe" in detector.uses) == probe
    asked = {use for question in QUESTIONS for use in question.uses}
    assert not asked & {"probe", "oracle"}


def test_priors_know_the_questions_that_are_asked():
    for name, kinds in priors().items():
        sides = set(side_names(QUESTIONS))
        assert set(kinds["any"]) <= sides, f"{name}: no question of that name"
        assert len(kinds["any"]) >= 0.8 * len(sides), name
    with pytest.raises(ValueError, match="prior must"):
        Rehearsed(prior="without-nothing")


def test_a_guard_rehearses_once_and_judges_by_itself(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("defenses.detectors.rehearsed.QUESTIONS", ASKED)
    fits = []
    fit = Rehearsed.fit

    def counted(detector: Rehearsed, given: Evidence) -> Learned:
        fits.append(given)
        return fit(detector, given)

    monkeypatch.setattr(Rehearsed, "fit", counted)
    guard = pb.Guard(
        evidence.trace, clusters(120, 1), Rehearsed(prior="none"), "tracin"
    )
    x = clusters(12, 3).x
    x[0, -1] = BIG
    batch = guard(x)
    one = guard(x[0])
    assert bool(one.flag)
    assert float(one.suspicion) == pytest.approx(float(batch.suspicion[0]))
    assert len(fits) == 1
