"""Every detector against one contract (a new one is a row), and each against its definition written out in loops."""

import statistics
from dataclasses import dataclass, replace

import pytest
import torch
from conftest import random_data
from planted import ATTACKED, POISONED, planted
from scipy.stats import kstest
from torch import Tensor, nn

from defenses import DETECTORS
from defenses.features import encoder
from defenses.norm_only import NormOnly
from defenses.random import RandomScores
from defenses.scale import MAD_FACTOR, QN_FACTOR
from defenses.support_without_the_few import SupportWithoutTheFew
from defenses.tail_heaviness import TailHeaviness
from poisonbench.contracts import Detector, Evidence
from poisonbench.gradients import gradient_norms
from poisonbench.models import build
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train


@dataclass(frozen=True)
class Row:
    """A detector and what holds of it beyond the contract.

    Attributes:
        detector: with hyperparameters for the planted example.
        sees: it must find the planted points.
        each: a point's score depends on that point alone.
    """

    detector: Detector
    sees: bool = True
    each: bool = True


ROWS = [
    Row(TailHeaviness(5)),
    Row(TailHeaviness(5, scale="mad")),
    Row(TailHeaviness(5, scope="all")),
    Row(TailHeaviness(5, standardise="two-way"), each=False),
    Row(TailHeaviness(5, scope="all", standardise="two-way"), each=False),
    Row(SupportWithoutTheFew(few=POISONED, neighbours=9)),
    Row(SupportWithoutTheFew(few=POISONED, neighbours=9, layer="penultimate")),
    Row(NormOnly(5)),
    Row(RandomScores(), sees=False, each=False),
]
BY_INFLUENCE = [row for row in ROWS if "influence" in row.detector.uses]


def name(row: Row) -> str:
    return repr(row.detector)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return planted()


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


def influence_of(evidence: Evidence) -> Tensor:
    assert evidence.influence is not None
    return evidence.influence


def test_every_detector_of_the_table_has_a_row() -> None:
    assert {type(row.detector) for row in ROWS} == set(DETECTORS.values())


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_contract(row: Row, evidence: Evidence) -> None:
    assert isinstance(row.detector, Detector)
    assert set(row.detector.uses) <= {"influence", "probe", "reference", "features", "gradients", "oracle"}
    assert "influence" in row.detector.uses or row.detector(replace(evidence, influence=None)).isfinite().all()
    before, state = influence_of(evidence).clone(), torch.random.get_rng_state()
    scores = row.detector(evidence)
    assert scores.shape == (len(evidence.test),)
    assert scores.isfinite().all()
    assert torch.equal(scores, row.detector(evidence)), "not deterministic"
    assert torch.equal(before, influence_of(evidence)), "the influence was changed in place"
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator was used"


@pytest.mark.parametrize("row", [row for row in ROWS if row.sees], ids=name)
def test_larger_scores_mean_more_suspicious(row: Row, evidence: Evidence) -> None:
    scores = row.detector(evidence)
    assert scores[:ATTACKED].min() > scores[ATTACKED:].max()


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_order_of_the_training_rows_does_not_matter(row: Row, evidence: Evidence) -> None:
    order = torch.randperm(len(evidence.trace.train), generator=generator(2, "order"))
    trace = replace(evidence.trace, train=evidence.trace.train.take(order))
    moved = replace(evidence, trace=trace, influence=influence_of(evidence)[:, order])
    assert close(row.detector(moved), row.detector(evidence))


@pytest.mark.parametrize("row", [row for row in ROWS if row.sees], ids=name)
def test_the_order_of_the_probe_points_does_not_matter(row: Row, evidence: Evidence) -> None:
    order = torch.randperm(len(evidence.test), generator=generator(3, "order"))
    moved = replace(evidence, test=evidence.test.take(order), influence=influence_of(evidence)[order])
    assert close(row.detector(moved), row.detector(evidence)[order])


@pytest.mark.parametrize("row", [row for row in ROWS if row.sees], ids=name)
def test_the_other_probe_points_matter_only_where_uses_says_so(row: Row, evidence: Evidence) -> None:
    part = torch.arange(0, len(evidence.test), 3)
    alone = row.detector(replace(evidence, test=evidence.test.take(part), influence=influence_of(evidence)[part]))
    assert close(alone, row.detector(evidence)[part]) == row.each == ("probe" not in row.detector.uses)


@pytest.mark.parametrize("row", [row for row in BY_INFLUENCE if row.each], ids=name)
def test_units_of_a_points_influence_do_not_matter(row: Row, evidence: Evidence) -> None:
    g = generator(4, "affine")
    a, b = (torch.rand((len(evidence.test), 1), generator=g, dtype=torch.float64) for _ in range(2))
    moved = replace(evidence, influence=(0.1 + 9 * a) * influence_of(evidence) + 10 * b)
    assert close(row.detector(moved), row.detector(evidence))


@pytest.mark.parametrize("row", BY_INFLUENCE, ids=name)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_influence_that_is_not_finite_gives_no_score_and_a_warning(row: Row, bad: float, evidence: Evidence) -> None:
    influence = influence_of(evidence).clone()
    influence[3, 7] = bad
    with pytest.warns(UserWarning, match="1 of 40 probe points have an influence that is not finite"):
        scores = row.detector(replace(evidence, influence=influence))
    rest = torch.arange(len(scores)) != 3
    without = row.detector(replace(evidence, test=evidence.test.take(rest), influence=influence[rest]))
    assert scores[3].isnan()
    assert close(scores[rest], without)
    with pytest.warns(UserWarning, match="40 of 40"):
        assert row.detector(replace(evidence, influence=torch.full_like(influence, bad))).isnan().all()


@pytest.mark.parametrize("row", BY_INFLUENCE, ids=name)
def test_absent_or_misshapen_influence_is_refused(row: Row, evidence: Evidence) -> None:
    with pytest.raises(ValueError, match="needs the influence"):
        row.detector(replace(evidence, influence=None))
    with pytest.raises(ValueError, match=r"shape \(m, n\) = \(40, 132\), got \(40, 131\)"):
        row.detector(replace(evidence, influence=influence_of(evidence)[:, 1:]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TailHeaviness(0), "k must be at least 1, got 0"),
        (lambda: TailHeaviness(scale="iqr"), "scale must be one of 'qn', 'mad', got 'iqr'"),
        (lambda: TailHeaviness(scope="class"), "scope must be 'label' or 'all', got 'class'"),
        (lambda: TailHeaviness(standardise="both"), "standardise must be 'row' or 'two-way', got 'both'"),
        (lambda: SupportWithoutTheFew(few=0), "few must be at least 1, got 0"),
        (lambda: SupportWithoutTheFew(neighbours=-1), "neighbours must be at least 1, got -1"),
        (lambda: SupportWithoutTheFew(layer="first"), "layer must be 'inner' or 'penultimate', got 'first'"),
        (lambda: NormOnly(k=0), "k must be at least 1, got 0"),
        (lambda: NormOnly(scale="iqr"), "scale must be one of"),
    ],
)
def test_a_field_out_of_range_names_the_rule_and_the_value(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# tail-heaviness


def scale_of(values: list[float], kind: str) -> float:
    if kind == "mad":
        middle = statistics.median(values)
        return MAD_FACTOR * statistics.median([abs(v - middle) for v in values])
    h = len(values) // 2 + 1
    gaps = sorted(abs(a - b) for i, a in enumerate(values) for b in values[:i])
    return QN_FACTOR * gaps[h * (h - 1) // 2 - 1]


def tail_in_loops(detector: TailHeaviness, evidence: Evidence) -> list[float]:
    rows: list[list[float]] = influence_of(evidence).tolist()
    if detector.standardise == "two-way":
        for i in range(len(rows[0])):
            column = [row[i] for row in rows]
            middle, width = statistics.median(column), scale_of(column, "mad")
            for row in rows:
                row[i] = (row[i] - middle) / width
    labels = evidence.trace.train.y.tolist()
    scores = []
    for row, label in zip(rows, evidence.test.y.tolist(), strict=True):
        values = [v for v, y in zip(row, labels, strict=True) if detector.scope == "all" or y == label]
        middle, width = statistics.median(values), scale_of(values, detector.scale)
        scores.append(sorted(((v - middle) / width for v in values), reverse=True)[detector.k - 1])
    return scores


@pytest.mark.parametrize("scale", ["qn", "mad"])
@pytest.mark.parametrize("scope", ["label", "all"])
@pytest.mark.parametrize("standardise", ["row", "two-way"])
@pytest.mark.parametrize("k", [1, 4])
def test_tail_heaviness_is_its_definition_in_loops(k: int, standardise, scope, scale, evidence: Evidence) -> None:
    detector = TailHeaviness(k, scale, scope, standardise)
    few = torch.arange(1, len(evidence.test), 5)
    part = replace(evidence, test=evidence.test.take(few), influence=influence_of(evidence)[few])
    assert close(detector(part), torch.tensor(tail_in_loops(detector, part), dtype=torch.float64))


def test_tail_heaviness_gives_no_score_to_a_label_with_fewer_than_k_rows(evidence: Evidence) -> None:
    labels = evidence.trace.train.y.clone()
    labels[(labels == 2).nonzero()[4:]] = 1  # four rows of label 2 are left
    moved = replace(evidence, trace=replace(evidence.trace, train=evidence.trace.train.relabel(labels)))
    with pytest.warns(UserWarning, match="a tail of k = 5 needs 5 training rows, there are 4"):
        scores = TailHeaviness(5)(moved)
    assert torch.equal(scores.isnan(), evidence.test.y == 2)
    assert TailHeaviness(4)(moved).isfinite().all()


@pytest.mark.parametrize("scale", ["qn", "mad"])
def test_tail_heaviness_floors_a_scale_of_zero_with_a_warning(scale, evidence: Evidence) -> None:
    influence = influence_of(evidence).clone()
    influence[0] = 0
    influence[0, -POISONED:] = 5.0  # all but 12 of the rows tie
    influence[1] = 2.5  # constant
    tied = replace(evidence, influence=influence)
    with pytest.warns(UserWarning, match="more than half of the values tie in 2 of 10 rows"):
        scores = TailHeaviness(5, scale)(tied)
    assert scores.isfinite().all()
    assert scores[0] > scores[2:].max()
    assert scores[1] == 0


# support-without-the-few


@pytest.mark.parametrize(("few", "layer"), [(3, "inner"), (3, "penultimate"), (15, "inner")])
def test_support_without_the_few_is_its_definition_in_loops(few: int, layer, monkeypatch: pytest.MonkeyPatch) -> None:
    neighbours = 5
    data, test = random_data(60, classes=3), random_data(9, classes=3, seed=1)
    trace = train(data, Recipe(epochs=1, batch_size=20, checkpoints=1), seed=0)
    influence = torch.randn(9, 60, generator=generator(0, "influence"), dtype=torch.float64)
    monkeypatch.setattr("defenses.support_without_the_few._BLOCK", 200)  # three points a block
    encode = trace.model().features if layer == "penultimate" else trace.model().features[:-2]
    expected = []
    with torch.no_grad():
        a, b = encode(test.x).flatten(1), encode(data.x).flatten(1)
    for j, label in enumerate(test.y.tolist()):
        own = [i for i in range(60) if int(data.y[i]) == label]
        dropped = sorted(own, key=lambda i, j=j: -float(influence[j, i]))[: min(few, len(own) // 2)]
        rest = [i for i in range(60) if i not in dropped]
        near = sorted(rest, key=lambda i, j=j: -float(torch.cosine_similarity(a[j], b[i], dim=0)))[:neighbours]
        expected.append(sum(int(data.y[i]) != label for i in near) / neighbours)
    scores = SupportWithoutTheFew(few, neighbours, layer)(Evidence(trace, test, influence))
    assert close(scores, torch.tensor(expected, dtype=torch.float64))
    assert 0 < scores.mean() < 1


def test_inner_features_are_what_enters_the_last_layer_with_parameters() -> None:
    shape = (1, 8, 8)
    for model, width in (("linear", 64), ("mlp", 64), ("cnn", 128), ("resnet9", 512)):
        encode = encoder(build(model, shape, 10, 0), "inner")
        assert encode(torch.zeros(2, *shape)).flatten(1).shape == (2, width)
    net = build("mlp", shape, 10, 0)
    features = net.features
    assert isinstance(features, nn.Sequential)
    x = torch.rand(2, *shape, generator=generator(0, "x"))
    assert torch.equal(encoder(net, "penultimate")(x), features(x))
    assert torch.equal(features[4:](encoder(net, "inner")(x)), features(x))
    net.features = nn.ModuleDict({"x": nn.Identity()})  # no nn.Sequential: nothing to cut
    assert encoder(net, "inner") is net.features


def test_support_without_the_few_leaves_half_of_a_small_class(evidence: Evidence) -> None:
    scores = SupportWithoutTheFew(45, 5)(evidence)  # classes 1 and 2 have 40 rows, and nothing but its own lies near class 2
    assert bool(scores.isfinite().all())
    assert bool((scores[evidence.test.y == 2] == 0).all())


def test_support_without_the_few_gives_no_score_without_neighbours(evidence: Evidence) -> None:
    with pytest.warns(UserWarning, match="more than the 132 training rows"):
        assert SupportWithoutTheFew(30, 103)(evidence).isnan().all()


# floors


def test_random_scores_are_uniform_and_know_nothing_but_the_seed_and_the_probe(evidence: Evidence) -> None:
    test = random_data(4000, shape=(2,))
    many = replace(evidence, test=test, influence=None)
    scores = RandomScores()(many)
    assert kstest(scores.numpy(), "uniform").pvalue > 0.01
    assert torch.equal(scores, RandomScores()(replace(many, influence=torch.zeros(4000, 132))))
    assert torch.equal(scores, RandomScores()(replace(many, test=test.relabel(test.y.flip(0)))))
    others = [replace(many, trace=replace(evidence.trace, seed=2)), replace(many, test=replace(test, x=test.x.flip(0)))]
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([scores, RandomScores()(other)]))[0, 1])) < 0.06


def test_norm_only_is_the_tail_of_the_norms_and_constant_in_a_label(evidence: Evidence) -> None:
    trace, labels = evidence.trace, evidence.test.y
    scores = NormOnly(5)(evidence)
    assert all(len(scores[labels == c].unique()) == 1 for c in labels.unique())
    assert len(scores.unique()) == len(labels.unique())
    norms = sum(c.lr * gradient_norms(trace.model(k), trace.train) for k, c in enumerate(trace.checkpoints))
    assert isinstance(norms, Tensor)
    rows = replace(evidence, influence=norms.repeat(len(labels), 1) / sum(c.lr for c in trace.checkpoints))
    assert close(scores, TailHeaviness(5)(rows))
