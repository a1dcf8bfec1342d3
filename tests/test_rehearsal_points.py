"""Generic poison against single points, and the weights for victims that train the head alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from defenses.detectors.rehearsed import Rehearsed
from defenses.questions.question import Question, side_names
from defenses.questions.table import QUESTIONS
from defenses.rehearsal.points import (
    ROWS,
    SHARE,
    Aim,
    aim,
    points_stage,
    rehearse_points,
)
from defenses.rehearsal.prior import head_priors, priors
from defenses.rehearsal.rehearse import in_order
from experiments.study.detectors.prior_head import Pointed, head_priors_of
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.models.head import body_of, head_name
from poisonbench.seeding import generator
from poisonbench.training import Recipe, Start, Trace, train, without_head

CLASSES = 4
RECIPE = Recipe(model="mlp", epochs=8, lr=0.1, batch_size=16, checkpoints=2)


def clusters(rows: int, seed: int) -> Dataset:
    """Vectors around a centre for each class."""
    g = generator(seed, "points")
    y = torch.arange(rows) % CLASSES
    centres = 2 * torch.eye(CLASSES, 12, dtype=torch.float64)
    noise = torch.randn(rows, 12, generator=g, dtype=torch.float64)
    return Dataset(centres[y] + 0.7 * noise, y, CLASSES)


@pytest.fixture(scope="module")
def whole() -> Trace:
    return train(clusters(160, 0), RECIPE, seed=1)


@pytest.fixture(scope="module")
def head_alone(whole: Trace) -> Trace:
    model = whole.model()
    state = without_head(whole.checkpoints[-1].state, head_name(model))
    recipe = replace(RECIPE, start=Start(state, "head"))
    return train(clusters(160, 2), recipe, seed=1)


def evidence_of(trace: Trace) -> Evidence:
    points = clusters(60, 5)
    test = points.relabel(predict(trace.model(), points.x).argmax(1))
    means = Means(
        retrain=lambda keep: train(trace.train.take(keep), trace.by_recipe, 1),
        influence=lambda run, many: torch.zeros(len(many), len(run.train)).double(),
        train=lambda data: train(data, trace.by_recipe, 1),
    )
    return Evidence(
        trace=trace,
        test=test,
        influence=torch.zeros(60, 160, dtype=torch.float64),
        trusted=torch.arange(60) < 40,
        means=means,
    )


@pytest.mark.parametrize("seed", range(4))
def test_two_points_are_aimed_at_by_rows_next_to_them(whole: Trace, seed: int) -> None:
    trusted = evidence_of(whole).test
    poisoned, (hit, beside) = aim(whole, trusted, seed)
    before = whole.train
    assert hit.point != beside.point
    assert len(hit.rows) == len(beside.rows) == ROWS
    assert not set(hit.rows.tolist()) & set(beside.rows.tolist())
    for one in (hit, beside):
        logits = predict(whole.model(), trusted.x[one.point][None])[0]
        order = logits.argsort(descending=True).tolist()
        order.remove(int(trusted.y[one.point]))
        assert one.wanted == order[0]
        assert bool((poisoned.y[one.rows] == one.wanted).all())
    # mixed with the point, with the labels that they had
    mixed = SHARE * trusted.x[hit.point] + (1 - SHARE) * before.x[hit.rows]
    assert torch.allclose(poisoned.x[hit.rows], mixed)
    assert torch.equal(poisoned.y[hit.rows], before.y[hit.rows])
    # the nearest of all rows with another label than the one wanted
    body = body_of(whole.model())
    point = predict(body, trusted.x[beside.point][None])[0]
    away = [float((row - point).norm()) for row in predict(body, before.x)]
    for row in range(len(before)):
        if row in hit.rows.tolist() or int(before.y[row]) == beside.wanted:
            away[row] = torch.inf
    nearest = sorted(range(len(away)), key=away.__getitem__)[:ROWS]
    assert set(beside.rows.tolist()) == set(nearest)
    assert torch.equal(poisoned.x[beside.rows], before.x[beside.rows])
    others = torch.ones(len(before), dtype=torch.bool)
    others[torch.cat([hit.rows, beside.rows])] = False
    assert torch.equal(poisoned.x[others], before.x[others])
    assert torch.equal(poisoned.y[others], before.y[others])


def test_attacked_points_are_no_clean_ones_and_are_taken_in_by_the_label_wanted(
    whole: Trace,
) -> None:
    trusted = evidence_of(whole).test
    nothing = torch.zeros(0, dtype=torch.int64)
    said = predict(whole.model(), trusted.x).argmax(1)
    right = Aim("collision", 7, int(said[7]), nothing)
    wrong = Aim("neighbours", 3, int(said[3] + 1) % CLASSES, nothing)
    stage = points_stage(whole, trusted, (right, wrong))
    clean = [place for place in range(60) if place not in (3, 7)]
    assert torch.equal(stage.points.x[stage.clean], trusted.x[clean])
    assert torch.equal(stage.points.x[stage.family == 0], trusted.x[7][None])
    assert torch.equal(stage.points.x[stage.family == 1], trusted.x[3][None])
    assert [stage.success(0), stage.success(1)] == [1.0, 0.0]
    assert torch.equal(stage.points.y, predict(whole.model(), stage.points.x).argmax(1))


class Near:
    """A question that tells points at which many rows lie: minus the distance to the tenth."""

    uses = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        away = torch.cdist(evidence.test.x, evidence.trace.train.x)
        return -away.topk(ROWS, largest=False).values[:, -1]


def test_a_rehearsal_of_points_trains_on_them_and_teaches_what_tells_them(
    whole: Trace,
) -> None:
    evidence = evidence_of(whole)
    assert evidence.means is not None
    trained = []

    def watching(data: Dataset) -> Trace:
        trained.append(data)
        return train(data, RECIPE, 1)

    means = replace(evidence.means, train=watching)
    asked = (Question("near", Near(), both=True),)
    found = rehearse_points(evidence, means, asked, 3)
    poisoned, _ = aim(whole, in_order(evidence), 3)
    [data] = trained
    assert torch.equal(data.x, poisoned.x)
    assert list(found.success) == ["collision", "neighbours"]
    assert found.success["collision"] == 1.0
    collided = found.lesson.surprises[0, found.lesson.family == 0]
    assert float(collided) > 2.5
    assert int((found.lesson.family < 0).sum()) == 38


def test_the_prior_is_that_of_what_is_trained(whole: Trace, head_alone: Trace) -> None:
    sides = side_names(QUESTIONS)
    detector = Rehearsed(rehearsals=0, prior="without-mnist")
    trained = {whole: priors()["without-mnist"]["vector"]}
    trained[head_alone] = head_priors()["without-mnist"]
    for trace, want in trained.items():
        weights = detector.fit(evidence_of(trace)).weights.tolist()
        assert weights == [want.get(side, 0.0) for side in sides]
    tuned = replace(head_alone.by_recipe, start=replace_trained(head_alone))
    fine = replace(head_alone, recipe=tuned)
    weights = detector.fit(evidence_of(fine)).weights.tolist()
    assert weights == [trained[whole].get(side, 0.0) for side in sides]
    of_all = Rehearsed(rehearsals=0, prior="without-cifar10")
    weights = of_all.fit(evidence_of(head_alone)).weights.tolist()
    assert weights == [head_priors()["all"].get(side, 0.0) for side in sides]


def replace_trained(trace: Trace) -> Start:
    """The start of a run, with all layers trained."""
    assert trace.by_recipe.start is not None
    return replace(trace.by_recipe.start, trained="all")


def test_a_prior_without_a_data_set_is_learned_on_the_others(whole: Trace) -> None:
    assert set(head_priors()) <= set(priors())
    for name, weights in head_priors().items():
        assert tuple(weights) == side_names(QUESTIONS), name
    evidence = evidence_of(whole)
    assert evidence.means is not None
    one = rehearse_points(evidence, evidence.means, QUESTIONS, 1)
    other = rehearse_points(evidence, evidence.means, QUESTIONS, 2)
    both = head_priors_of([Pointed("a", 0, (one,)), Pointed("b", 0, (other,))])
    assert both["without-a"] == head_priors_of([Pointed("b", 0, (other,))])["all"]
    assert both["without-a"] != both["all"]
