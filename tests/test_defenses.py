"""Every detector against one contract, and each against its definition in loops.

A new one is a row.
"""

import math
import statistics
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch
from conftest import random_data
from planted import ATTACKED, POISONED, planted, triggered
from scipy.stats import chi2, kstest
from torch import Tensor, nn

from defenses import DETECTORS
from defenses.baselines.class_similarity import ClassSimilarity, foreignness
from defenses.baselines.confidence import Confidence
from defenses.baselines.deep_knn import DeepKNN
from defenses.baselines.norm_only import NormOnly
from defenses.baselines.random import RandomScores
from defenses.baselines.scale_up import ScaleUp
from defenses.baselines.strip import Strip, entropy
from defenses.detectors.closeness import Closeness
from defenses.detectors.concentration import EffectiveCount, Gini, TopMass
from defenses.detectors.exclusive_proponents import ExclusiveProponents
from defenses.detectors.foreign_or_fragile import ForeignOrFragile
from defenses.detectors.foreign_proponents import ForeignProponents
from defenses.detectors.foreign_support import ForeignSupport
from defenses.detectors.influence_collapse import InfluenceCollapse, falls
from defenses.detectors.rehearsed import Rehearsed
from defenses.detectors.removal_by_retraining import RemovalByRetraining
from defenses.detectors.removal_support import RemovalSupport
from defenses.detectors.shared_proponents import SharedProponents
from defenses.detectors.support_without_the_few import SupportWithoutTheFew
from defenses.detectors.tail_heaviness import TailHeaviness
from defenses.kit.features import encoder, features_of
from defenses.kit.scale import MAD_FACTOR, QN_FACTOR
from defenses.kit.tail_probability import surprise, surprise_among
from defenses.kit.transforms.images import perturbed
from poisonbench.contracts.protocols import Detector
from poisonbench.contracts.values import Evidence
from poisonbench.data import Layout
from poisonbench.gradients import Form, dot_products, gradient_norms
from poisonbench.models import build, predict
from poisonbench.notes import collecting
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train


@dataclass(frozen=True)
class Row:
    """A detector and what holds of it beyond the contract.

    Attributes:
        detector: with hyperparameters for the planted example.
        sees: it must find the planted points.
        each: a point's score depends on that point (and the trusted ones) alone.
        shift: a constant added to all influences of a point changes nothing.
        free: of the units of influence: a positive factor on all influences of a point changes
            nothing.
        images: it works on images, and is shown the example with a trigger.
    """

    detector: Detector
    sees: bool = True
    each: bool = True
    shift: bool = True
    free: bool = True
    images: bool = False


ROWS = [
    Row(TailHeaviness(5)),
    Row(TailHeaviness(5, scale="mad")),
    Row(TailHeaviness(5, scope="all")),
    Row(TailHeaviness(5, standardise="two-way"), each=False),
    Row(TailHeaviness(5, scope="all", standardise="two-way"), each=False),
    Row(SupportWithoutTheFew(few=POISONED, neighbours=9)),
    Row(SupportWithoutTheFew(few=POISONED, neighbours=9, layer="penultimate")),
    Row(TailHeaviness(5, standardise="reference")),
    Row(TailHeaviness(5, scope="all", scale="mad", standardise="reference")),
    # concentration within the label: seen where the few outweigh the class,
    # for which there are known cases below
    Row(TopMass(k=5), sees=False, shift=False),
    Row(TopMass("all", 5), shift=False),
    Row(EffectiveCount(), sees=False, shift=False),
    Row(EffectiveCount("all"), shift=False),
    Row(Gini(), sees=False, shift=False),
    Row(Gini("all"), shift=False),
    Row(RemovalSupport("sum"), shift=False, free=False),
    Row(RemovalSupport("sum", units="margin"), shift=False, free=False),
    Row(RemovalSupport(), shift=False),
    Row(RemovalSupport("newton", most=20)),
    Row(RemovalSupport("second", layer="penultimate"), sees=False),
    Row(RemovalSupport("first")),
    Row(RemovalByRetraining()),
    Row(RemovalByRetraining(5, 0.3, layer="penultimate"), sees=False),
    Row(ClassSimilarity()),
    Row(ClassSimilarity("penultimate")),
    Row(ForeignProponents()),
    Row(ForeignProponents(12, "penultimate")),
    Row(ForeignSupport()),
    Row(ForeignSupport(3, "penultimate")),
    Row(ForeignOrFragile()),
    Row(ForeignOrFragile(0.0, 3, 5), sees=False, images=True),  # as influence-collapse
    # no trusted point of the example has the label that the poison bears
    Row(Closeness(), sees=False, shift=False),
    Row(Closeness("mean", centred=True), sees=False),
    Row(ExclusiveProponents(5, 0.0), sees=False),
    Row(ExclusiveProponents(), sees=False),
    Row(SharedProponents(5), each=False),
    # the prior alone, and in full: `test_rehearsal`
    Row(Rehearsed(0), shift=False, free=False),
    Row(Rehearsed(0, stream=True), each=False, shift=False, free=False),
    Row(DeepKNN(30)),
    Row(DeepKNN(30, "inner")),
    Row(Confidence()),
    Row(
        InfluenceCollapse(5), sees=False, images=True
    ),  # only points of the class that the poison comes from
    Row(ScaleUp(), images=True),
    Row(Strip(), images=True),
    Row(NormOnly(5)),
    Row(RandomScores(), sees=False, each=False),
]
ORDERLY = [row for row in ROWS if not isinstance(row.detector, RandomScores)]
BY_INFLUENCE = [row for row in ROWS if "influence" in row.detector.uses]


def name(row: Row) -> str:
    return repr(row.detector)


@pytest.fixture(scope="module")
def vectors() -> Evidence:
    return planted()


@pytest.fixture(scope="module")
def images() -> Evidence:
    return triggered()


@pytest.fixture
def evidence(
    request: pytest.FixtureRequest, vectors: Evidence, images: Evidence
) -> Evidence:
    """The example that the test's row works on."""
    row = (
        request.node.callspec.params.get("row")
        if hasattr(request.node, "callspec")
        else None
    )
    return images if row is not None and row.images else vectors


def at(evidence: Evidence, index: Tensor) -> Evidence:
    """The same with these probe points alone, in this order."""
    influence = None if evidence.influence is None else evidence.influence[index]
    trusted = None if evidence.trusted is None else evidence.trusted[index]
    return replace(
        evidence, test=evidence.test.take(index), influence=influence, trusted=trusted
    )


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
    assert set(row.detector.uses) <= {
        "influence",
        "probe",
        "reference",
        "features",
        "gradients",
        "retraining",
        "oracle",
    }
    hidden = {"influence": "influence", "reference": "trusted", "oracle": "role"}
    seen = replace(
        evidence,
        **{
            field: None for use, field in hidden.items() if use not in row.detector.uses
        },
    )
    before = None if evidence.influence is None else evidence.influence.clone()
    state = torch.random.get_rng_state()
    scores = row.detector(evidence)
    assert scores.shape == (len(evidence.test),)
    assert scores.isfinite().all()
    assert torch.equal(scores, row.detector(seen)), (
        "not deterministic, or reads what it does not declare"
    )
    assert before is None or torch.equal(before, influence_of(evidence)), (
        "the influence was changed in place"
    )
    assert torch.equal(state, torch.random.get_rng_state()), (
        "the global generator was used"
    )


@pytest.mark.parametrize("row", [row for row in ROWS if row.sees], ids=name)
def test_larger_scores_mean_more_suspicious(row: Row, evidence: Evidence) -> None:
    scores = row.detector(evidence)
    assert scores[:ATTACKED].min() > scores[ATTACKED:].max()


@pytest.mark.parametrize("row", ORDERLY, ids=name)
def test_the_order_of_the_training_rows_does_not_matter(
    row: Row, evidence: Evidence
) -> None:
    order = torch.randperm(len(evidence.trace.train), generator=generator(2, "order"))
    trace = replace(evidence.trace, train=evidence.trace.train.take(order))
    influence = None if evidence.influence is None else evidence.influence[:, order]
    moved = replace(evidence, trace=trace, influence=influence)
    assert close(row.detector(moved), row.detector(evidence))


@pytest.mark.parametrize("row", ORDERLY, ids=name)
def test_the_order_of_the_probe_points_does_not_matter(
    row: Row, evidence: Evidence
) -> None:
    order = torch.randperm(len(evidence.test), generator=generator(3, "order"))
    assert close(row.detector(at(evidence, order)), row.detector(evidence)[order])


@pytest.mark.parametrize("row", ORDERLY, ids=name)
def test_the_other_probe_points_matter_only_where_uses_says_so(
    row: Row, evidence: Evidence
) -> None:
    assert evidence.trusted is not None
    part = (
        ((torch.arange(len(evidence.test)) % 3 == 0) | evidence.trusted)
        .nonzero()
        .squeeze(1)
    )
    alone = row.detector(at(evidence, part))
    assert (
        close(alone, row.detector(evidence)[part])
        == row.each
        == ("probe" not in row.detector.uses)
    )


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in BY_INFLUENCE
        if row.each and row.free and "reference" not in row.detector.uses
    ],
    ids=name,
)
def test_units_of_a_points_influence_do_not_matter(
    row: Row, evidence: Evidence
) -> None:
    g = generator(4, "affine")
    a, b = (
        torch.rand((len(evidence.test), 1), generator=g, dtype=torch.float64)
        for _ in range(2)
    )
    moved = replace(
        evidence, influence=(0.1 + 9 * a) * influence_of(evidence) + 10 * row.shift * b
    )
    assert close(row.detector(moved), row.detector(evidence))


@pytest.mark.parametrize("row", BY_INFLUENCE, ids=name)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_influence_that_is_not_finite_gives_no_score_and_a_warning(
    row: Row, bad: float, evidence: Evidence
) -> None:
    influence = influence_of(evidence).clone()
    own = evidence.trace.train.y == evidence.test.y[3]
    influence[3, own.nonzero()[0]] = bad
    with pytest.warns(
        UserWarning, match="1 of 40 probe points have an influence that is not finite"
    ):
        scores = row.detector(replace(evidence, influence=influence))
    rest = torch.arange(len(scores)) != 3
    without = row.detector(at(evidence, rest))
    assert scores[3].isnan()
    assert close(scores[rest], without)
    with pytest.warns(UserWarning, match="40 of 40"):
        assert (
            row.detector(replace(evidence, influence=torch.full_like(influence, bad)))
            .isnan()
            .all()
        )


OF_LABEL = [
    row for row in BY_INFLUENCE if getattr(row.detector, "reads", "all") == "label"
]


def test_the_detectors_that_read_rows_of_the_label_alone_say_so() -> None:
    assert {type(row.detector) for row in OF_LABEL} == {
        TailHeaviness,
        TopMass,
        EffectiveCount,
        Gini,
        ForeignProponents,
        SupportWithoutTheFew,
    }
    for row in OF_LABEL:
        assert getattr(row.detector, "standardise", "row") == "row"


@pytest.mark.parametrize("row", OF_LABEL, ids=name)
def test_what_reads_rows_of_the_label_alone_needs_no_others(
    row: Row, evidence: Evidence
) -> None:
    want = row.detector(evidence)
    other = evidence.trace.train.y != evidence.test.y[:, None]
    scores = influence_of(evidence).masked_fill(other, torch.nan)
    assert torch.equal(row.detector(replace(evidence, influence=scores)), want)


@pytest.mark.parametrize("row", BY_INFLUENCE, ids=name)
def test_absent_or_misshapen_influence_is_refused(row: Row, evidence: Evidence) -> None:
    with pytest.raises(ValueError, match="needs the influence"):
        row.detector(replace(evidence, influence=None))
    m, n = influence_of(evidence).shape
    with pytest.raises(
        ValueError, match=rf"shape \(m, n\) = \({m}, {n}\), got \({m}, {n - 1}\)"
    ):
        row.detector(replace(evidence, influence=influence_of(evidence)[:, 1:]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TailHeaviness(0), "k must be at least 1, got 0"),
        (lambda: TailHeaviness(scale="iqr"), "scale must be one of qn, mad, got 'iqr'"),
        (
            lambda: TailHeaviness(scope="class"),
            "scope must be one of label, all, got 'class'",
        ),
        (
            lambda: TailHeaviness(standardise="both"),
            "standardise must be one of row, two-way, reference, got 'both'",
        ),
        (lambda: SupportWithoutTheFew(few=0), "few must be at least 1, got 0"),
        (
            lambda: SupportWithoutTheFew(neighbours=-1),
            "neighbours must be at least 1, got -1",
        ),
        (
            lambda: SupportWithoutTheFew(layer="first"),
            "layer must be one of inner, penultimate, got 'first'",
        ),
        (lambda: TopMass(k=0), "k must be at least 1, got 0"),
        (lambda: Gini("class"), "scope must be one of label, all, got 'class'"),
        (
            lambda: ClassSimilarity("first"),
            "layer must be one of inner, penultimate, got 'first'",
        ),
        (lambda: DeepKNN(0), "neighbours must be at least 1, got 0"),
        (lambda: ForeignOrFragile(1.5), r"foreign must lie in \[0, 1\], got 1.5"),
        (lambda: InfluenceCollapse(0), "k must be at least 1, got 0"),
        (lambda: ScaleUp((3.0, 1.0)), "factors must be numbers above 1, got"),
        (lambda: ScaleUp(()), "factors must be numbers above 1, got"),
        (lambda: Strip(0), "overlays must be at least 1, got 0"),
        (
            lambda: Strip(mode="blend"),  # type: ignore[arg-type]
            "mode must be one of add, average, got 'blend'",
        ),
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
    if detector.standardise != "row":
        assert evidence.trusted is not None
        known = [
            i
            for i, trusted in enumerate(evidence.trusted.tolist())
            if trusted or detector.standardise == "two-way"
        ]
        for i in range(len(rows[0])):
            column = [rows[j][i] for j in known]
            middle, width = statistics.median(column), scale_of(column, "mad")
            for row in rows:
                row[i] = (row[i] - middle) / width
    labels = evidence.trace.train.y.tolist()
    scores = []
    for row, label in zip(rows, evidence.test.y.tolist(), strict=True):
        values = [
            v
            for v, y in zip(row, labels, strict=True)
            if detector.scope == "all" or y == label
        ]
        middle, width = statistics.median(values), scale_of(values, detector.scale)
        scores.append(
            sorted(((v - middle) / width for v in values), reverse=True)[detector.k - 1]
        )
    return scores


@pytest.mark.parametrize("scale", ["qn", "mad"])
@pytest.mark.parametrize("scope", ["label", "all"])
@pytest.mark.parametrize("standardise", ["row", "two-way", "reference"])
@pytest.mark.parametrize("k", [1, 4])
def test_tail_heaviness_is_its_definition_in_loops(
    k: int, standardise, scope, scale, evidence: Evidence
) -> None:
    detector = TailHeaviness(k, scale, scope, standardise)
    part = at(evidence, torch.arange(2, len(evidence.test), 4))
    assert close(
        detector(part), torch.tensor(tail_in_loops(detector, part), dtype=torch.float64)
    )


def test_tail_heaviness_gives_no_score_to_a_label_with_fewer_than_k_rows(
    evidence: Evidence,
) -> None:
    labels = evidence.trace.train.y.clone()
    labels[(labels == 2).nonzero()[4:]] = 1  # four rows of label 2 are left
    moved = replace(
        evidence,
        trace=replace(evidence.trace, train=evidence.trace.train.relabel(labels)),
    )
    with pytest.warns(
        UserWarning, match="a tail of k = 5 needs 5 training rows, there are 4"
    ):
        scores = TailHeaviness(5)(moved)
    assert torch.equal(scores.isnan(), evidence.test.y == 2)
    assert TailHeaviness(4)(moved).isfinite().all()


@pytest.mark.parametrize("scale", ["qn", "mad"])
def test_tail_heaviness_floors_a_scale_of_zero_with_a_warning(
    scale, evidence: Evidence
) -> None:
    influence = influence_of(evidence).clone()
    influence[0] = 0
    influence[0, -POISONED:] = 5.0  # all but 12 of the rows tie
    influence[1] = 2.5  # constant
    tied = replace(evidence, influence=influence)
    with pytest.warns(
        UserWarning, match="more than half of the values tie in 2 of 10 rows"
    ):
        scores = TailHeaviness(5, scale)(tied)
    assert scores.isfinite().all()
    assert scores[0] > scores[2:].max()
    assert scores[1] == 0


# support-without-the-few


@pytest.mark.parametrize(
    ("few", "neighbours", "layer"),
    [(3, 5, "inner"), (3, 5, "penultimate"), (15, 5, "inner"), (15, 40, "inner")],
)
def test_support_without_the_few_is_its_definition_in_loops(
    few: int, neighbours: int, layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, test = random_data(60, classes=3), random_data(9, classes=3, seed=1)
    trace = train(data, Recipe(epochs=1, batch_size=20, checkpoints=1), seed=0)
    influence = torch.randn(
        9, 60, generator=generator(0, "influence"), dtype=torch.float64
    )
    monkeypatch.setattr(
        "defenses.kit.similarity.cosines._BLOCK", 200
    )  # three points a block
    encode = (
        trace.model().features
        if layer == "penultimate"
        else trace.model().features[:-2]
    )
    expected = []
    with torch.no_grad():
        a, b = encode(test.x).flatten(1), encode(data.x).flatten(1)
    for j, label in enumerate(test.y.tolist()):
        own = [i for i in range(60) if int(data.y[i]) == label]
        dropped = sorted(own, key=lambda i, j=j: -float(influence[j, i]))[
            : min(few, len(own) // 2)
        ]
        rest = [i for i in range(60) if i not in dropped]
        near = sorted(
            rest, key=lambda i, j=j: -float(torch.cosine_similarity(a[j], b[i], dim=0))
        )[:neighbours]
        expected.append(sum(int(data.y[i]) != label for i in near) / neighbours)
    scores = SupportWithoutTheFew(few, neighbours, layer)(
        Evidence(trace, test, influence)
    )
    assert close(scores, torch.tensor(expected, dtype=torch.float64))
    assert 0 < scores.mean() < 1


def test_inner_features_are_what_enters_the_last_layer_with_parameters() -> None:
    shape = (1, 8, 8)
    widths = {"linear": 64, "mlp": 64, "cnn": 128, "resnet9": 512, "cnn7": 256}
    for model, width in widths.items():
        encode = encoder(build(model, Layout(shape, 10, "image"), 0), "inner")
        assert encode(torch.zeros(2, *shape)).flatten(1).shape == (2, width)
    net = build("mlp", Layout(shape, 10, "image"), 0)
    features = net.features
    assert isinstance(features, nn.Sequential)
    x = torch.rand(2, *shape, generator=generator(0, "x"))
    assert torch.equal(encoder(net, "penultimate")(x), features(x))
    assert torch.equal(features[4:](encoder(net, "inner")(x)), features(x))
    net.features = nn.ModuleDict(
        {"x": nn.Identity()}
    )  # no nn.Sequential: nothing to cut
    assert encoder(net, "inner") is net.features


def test_support_without_the_few_leaves_half_of_a_small_class(
    evidence: Evidence,
) -> None:
    scores = SupportWithoutTheFew(45, 5)(
        evidence
    )  # classes 1 and 2 have 40 rows, and nothing but its own lies near class 2
    assert bool(scores.isfinite().all())
    assert bool((scores[evidence.test.y == 2] == 0).all())


def test_support_without_the_few_gives_no_score_without_neighbours(
    evidence: Evidence,
) -> None:
    with pytest.warns(UserWarning, match="more than the 132 training rows"):
        assert SupportWithoutTheFew(30, 103)(evidence).isnan().all()


# concentration


@pytest.mark.parametrize(
    ("values", "top", "count", "gini"),
    [
        ([1.0, 1.0, 1.0, 1.0], 0.5, 4.0, 0.0),
        ([8.0, 0.0, -3.0, 0.0], 1.0, 1.0, 0.75),
        ([3.0, 1.0, 0.0, -1.0], 1.0, 1.6, 0.625),
        ([4.0, 3.0, 2.0, 1.0], 0.7, 100 / 30, 0.25),
    ],
)
def test_concentration_of_known_cases(
    values: list[float], top: float, count: float, gini: float, vectors: Evidence
) -> None:
    data = random_data(4, shape=(8,), classes=3)
    data = data.relabel(torch.zeros(4, dtype=torch.int64))
    one = Evidence(
        replace(vectors.trace, train=data),
        data.take(torch.tensor([0])),
        torch.tensor([values], dtype=torch.float64),
    )
    for detector, expected in (
        (TopMass(k=2), top),
        (EffectiveCount(), -count),
        (Gini(), gini),
    ):
        assert float(detector(one)) == pytest.approx(expected)


def test_a_point_without_positive_influence_has_no_concentration(
    vectors: Evidence,
) -> None:
    influence = influence_of(vectors).clone()
    influence[5] = -1.0
    with pytest.warns(UserWarning, match="1 probe points have no positive influence"):
        scores = Gini()(replace(vectors, influence=influence))
    assert scores.isnan().nonzero().squeeze(1).tolist() == [5]


# rivals without influence


def test_entropy_is_over_the_classes_of_each_superposition_and_not_over_the_superpositions() -> (
    None
):
    sure, even = torch.tensor([[100.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)
    assert float(entropy(sure)) == pytest.approx(0, abs=1e-6)
    assert float(entropy(even)) == pytest.approx(math.log(4))
    # a point that turns into another class under each overlay is sure each time:
    # no entropy, though the mean of p is even
    assert float(entropy(100 * torch.eye(4)).mean()) == pytest.approx(0, abs=1e-6)


def entropy_in_loops(p: list[float]) -> float:
    return -sum(q * math.log(q) for q in p)


def strip_in_loops(
    evidence: Evidence, drawn: list[int], most: int, mode: str
) -> list[float]:
    """Minus the mean entropy under the first `most` of the drawn points that are not the point."""
    model, x = evidence.trace.model(), evidence.test.x
    scores = []
    for point in range(len(x)):
        entropies = []
        for overlay in [other for other in drawn if other != point][:most]:
            total = x[point] + x[overlay]
            mixed = total.clamp(max=1) if mode == "add" else 0.5 * total
            entropies.append(
                entropy_in_loops(predict(model, mixed[None]).softmax(1)[0].tolist())
            )
        scores.append(-statistics.mean(entropies))
    return scores


@pytest.mark.parametrize("mode", ["add", "average"])
def test_strip_is_its_definition_and_lays_no_trusted_point_over_itself(
    images: Evidence, mode: Literal["add", "average"]
) -> None:
    assert images.trusted is not None
    known = images.trusted.nonzero().squeeze(1)
    expected = strip_in_loops(images, known.tolist(), 64, mode)
    scores = Strip(mode=mode)(images)
    assert close(scores, torch.tensor(expected, dtype=torch.float64))
    other = replace(images, trace=replace(images.trace, seed=1))
    assert close(scores, Strip(mode=mode)(other)), (
        "there are no more trusted points than N"
    )


def test_strip_draws_its_overlays_by_the_seed_and_replaces_the_point_itself(
    images: Evidence,
) -> None:
    assert images.trusted is not None
    known = images.trusted.nonzero().squeeze(1)
    order = torch.randperm(len(known), generator=generator(images.trace.seed, "strip"))
    drawn = known[order].tolist()
    expected = strip_in_loops(images, drawn, 5, "add")
    assert close(Strip(5)(images), torch.tensor(expected, dtype=torch.float64))
    other = replace(images, trace=replace(images.trace, seed=1))
    assert not close(Strip(5)(images), Strip(5)(other))


def test_a_trusted_point_is_not_scored_higher_by_strip_for_being_trusted(
    images: Evidence,
) -> None:
    """Its own image over itself, clipped, is as sure as ever: that is no evidence of a trigger."""
    trusted = torch.zeros(len(images.test), dtype=torch.bool)
    trusted[[20, 21, 22]] = True
    without = trusted.clone()
    without[20] = False
    inside = Strip(2)(replace(images, trusted=trusted))[20]
    outside = Strip(2)(replace(images, trusted=without))[20]
    assert float(inside) == pytest.approx(float(outside), rel=1e-12)


def test_scale_up_counts_the_factors_that_keep_the_label(images: Evidence) -> None:
    model, test = images.trace.model(), images.test
    factors = (1.5, 4.0)
    kept = [
        sum(int(model((f * x).clamp(0, 1)[None]).argmax()) == int(y) for f in factors)
        / 2
        for x, y in zip(test.x, test.y, strict=True)
    ]
    assert ScaleUp(factors)(images).tolist() == kept


def test_scale_up_cuts_amplified_pixels_at_1() -> None:
    trace = train(
        random_data(40, classes=3), Recipe("linear", epochs=1, checkpoints=1), seed=0
    )
    test = random_data(60, classes=3, seed=1)
    model = trace.model()
    cut = [
        predict(model, (f * test.x).clamp(max=1)).argmax(1) == test.y
        for f in (2.0, 6.0)
    ]
    raw = [predict(model, f * test.x).argmax(1) == test.y for f in (2.0, 6.0)]
    scores = ScaleUp((2.0, 6.0))(Evidence(trace, test))
    assert torch.equal(scores, torch.stack(cut).double().mean(0))
    assert not torch.equal(scores, torch.stack(raw).double().mean(0))


def test_confidence_is_minus_the_log_odds_of_the_predicted_label(
    vectors: Evidence,
) -> None:
    p = (
        predict(vectors.trace.model(), vectors.test.x)
        .softmax(1)
        .gather(1, vectors.test.y[:, None])
        .squeeze(1)
    )
    assert torch.allclose(Confidence()(vectors), ((1 - p) / p).log(), rtol=1e-6)


def test_class_similarity_is_its_definition_in_loops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("defenses.kit.similarity.cosines._BLOCK", 100)
    points, rows = (
        random_data(7, shape=(5,), classes=3),
        random_data(41, shape=(5,), classes=3, seed=1),
    )
    expected = []
    for j, x in enumerate(points.x):
        middle = []
        for c in range(3):
            near = [
                float(torch.cosine_similarity(x, r, dim=0))
                for i, r in enumerate(rows.x)
                if rows.y[i] == c
            ]
            middle.append(statistics.median(near))
        label = int(points.y[j])
        expected.append(
            max(v for c, v in enumerate(middle) if c != label) - middle[label]
        )
    scores = foreignness(points.x, points.y, rows.x, rows.y)
    assert close(scores, torch.tensor(expected, dtype=torch.float64))
    absent = foreignness(points.x, points.y, rows.x, rows.y.clamp(min=1))
    assert torch.equal(absent.isnan(), points.y == 0)


def test_influence_collapses_where_a_transformation_takes_the_trigger_away(
    images: Evidence,
) -> None:
    scores = InfluenceCollapse(5)(images)
    alike = scores[
        0:ATTACKED:2
    ]  # of the class that the poisoned rows come from: they share trigger, bar and runner-up
    assert alike.min() > scores[ATTACKED:].max()


def test_influence_collapse_is_its_definition_in_loops(images: Evidence) -> None:
    model, data = images.trace.model(), images.trace.train
    one = images.test.take(torch.tensor([1]))
    form = Form("margin", "all")
    before = dot_products(model, data, one, form)[0].tolist()
    own = [i for i, y in enumerate(data.y.tolist()) if y == int(one.y)]
    top = sorted(own, key=lambda i: -before[i])[:5]
    lost = []
    for changed in perturbed(one.x, data.x):
        after = dot_products(model, data, replace(one, x=changed), form)[0].tolist()
        lost += [before[i] - after[i] for i in top]
    assert float(InfluenceCollapse(5)(images)[1]) == pytest.approx(
        statistics.mean(lost)
    )


@pytest.mark.parametrize(
    "detector",
    [
        Strip(),
        TailHeaviness(standardise="reference"),
        ForeignSupport(),
        ForeignOrFragile(),
    ],
    ids=repr,
)
def test_a_detector_with_a_reference_refuses_to_do_without(
    detector: Detector, vectors: Evidence
) -> None:
    with pytest.raises(ValueError, match="needs probe points known to be clean"):
        detector(replace(vectors, trusted=None))
    with pytest.raises(
        ValueError, match=r"trusted must be a bool mask of shape \(40,\)"
    ):
        detector(replace(vectors, trusted=torch.ones(39, dtype=torch.bool)))
    with pytest.raises(ValueError, match="needs at least"):
        detector(replace(vectors, trusted=torch.zeros(40, dtype=torch.bool)))


# foreign proponents, foreign support


def test_foreign_proponents_are_their_definition_in_loops(vectors: Evidence) -> None:
    data = vectors.trace.train
    rows = features_of(vectors.trace, "inner", data)

    def foreign(i: int) -> float:
        cosines = [float(torch.cosine_similarity(rows[i], row, dim=0)) for row in rows]
        middle = [
            statistics.median(
                c for c, y in zip(cosines, data.y.tolist(), strict=True) if y == k
            )
            for k in range(3)
        ]
        own = middle.pop(int(data.y[i]))
        return max(middle) - own

    expected = []
    for v, label in zip(
        influence_of(vectors).tolist(), vectors.test.y.tolist(), strict=True
    ):
        few = sorted(
            (i for i in range(len(v)) if int(data.y[i]) == label),
            key=lambda i, v=v: -v[i],
        )[:4]
        expected.append(statistics.mean(foreign(i) for i in few))
    assert close(
        ForeignProponents(4)(vectors), torch.tensor(expected, dtype=torch.float64)
    )


def test_a_label_with_fewer_rows_than_proponents_gets_no_score_and_that_is_told(
    vectors: Evidence,
) -> None:
    too_many = "k 50 is more than the 40 training rows of label"
    with pytest.warns(UserWarning, match=too_many):
        scores = ForeignProponents(50)(vectors)
    few_rows = vectors.test.y != 0  # 52 rows bear label 0, 40 each other
    assert torch.equal(scores.isnan(), few_rows)
    with pytest.warns(UserWarning, match=too_many):
        support = ForeignSupport(50)(vectors)
    assert support.isnan().all(), "no trusted point has a score"


def test_foreign_support_needs_ten_trusted_points(vectors: Evidence) -> None:
    assert vectors.trusted is not None
    few = vectors.trusted & (vectors.trusted.cumsum(0) <= 9)
    with pytest.raises(
        ValueError,
        match="at least 10 trusted probe points, got 9: a larger calibration",
    ):
        ForeignSupport()(replace(vectors, trusted=few))


def test_foreign_support_is_led_by_what_is_seldom_not_by_what_is_large(
    vectors: Evidence,
) -> None:
    point, proponents = ClassSimilarity()(vectors), ForeignProponents()(vectors)
    known = vectors.trusted
    assert known is not None
    s = surprise_among(point, known) + surprise_among(proponents, known)
    assert close(
        ForeignSupport()(vectors), -torch.from_numpy(chi2.logsf(2 * s.numpy(), 4))
    )
    for a, b in ((1e-3, 5.0), (1e3, -5.0)):  # units do not matter
        assert torch.allclose(
            surprise(a * point + b, a * point[known] + b),
            surprise(point, point[known]),
            rtol=1e-6,
        )


def test_foreign_or_fragile_asks_for_fragility_where_clean_points_look_foreign(
    images: Evidence,
) -> None:
    known = images.trusted
    assert known is not None
    lost = [surprise_among(fall, known).double() for fall in falls(images, 10)]
    fragile = -torch.from_numpy(chi2.logsf(2 * torch.stack(lost).sum(0).numpy(), 6))
    share = float((ClassSimilarity()(images)[known] > 0).double().mean())
    assert 0 <= share < 0.5
    with collecting() as told:
        assert torch.equal(ForeignOrFragile()(images), ForeignSupport()(images))
    assert told.figures["foreign_trusted"] == share
    assert torch.allclose(ForeignOrFragile(share)(images), fragile, rtol=1e-5)


def test_what_is_no_image_is_fragile_in_the_manner_of_its_kind(
    vectors: Evidence,
) -> None:
    known = vectors.trusted
    assert known is not None
    even, odd = (surprise_among(fall, known).double() for fall in falls(vectors, 10))
    fragile = -torch.from_numpy(chi2.logsf(2 * (even + odd).numpy(), 4))
    assert torch.allclose(ForeignOrFragile(0.0)(vectors), fragile, rtol=1e-5)


def test_surprise_is_the_log_of_the_share_of_clean_scores_as_high_and_goes_on_beyond_them() -> (
    None
):
    clean = torch.arange(100, dtype=torch.float64)
    assert float(
        surprise(torch.tensor([49.5], dtype=torch.float64), clean)
    ) == pytest.approx(-math.log(50.5 / 101))
    exponential = -torch.rand(
        200_000, generator=generator(0, "exponential"), dtype=torch.float64
    ).log()
    s = torch.tensor([0.1, 1.0, 3.0, 8.0, 40.0], dtype=torch.float64)
    assert torch.allclose(
        surprise(s, exponential), s, rtol=0.02
    )  # its survival function is exp(-s)
    s = torch.linspace(-5, 300, 2000, dtype=torch.float64)
    assert bool((surprise(s, clean).diff() >= 0).all())
    assert bool((surprise(s, clean)[s > 79].diff() > 0).all())


def test_surprise_of_odd_clean_scores() -> None:
    nan, s = torch.nan, torch.tensor([0.0, 1.0, torch.nan], dtype=torch.float64)
    assert surprise(s, torch.tensor([nan, nan], dtype=torch.float64)).isnan().all()
    tied = surprise(s, torch.zeros(30, dtype=torch.float64))
    assert tied[:2].isfinite().all()
    assert tied[1] > tied[0] + 100
    assert tied[2].isnan()
    some = torch.tensor([1.0, 2.0, 3.0, nan], dtype=torch.float64)
    assert close(surprise(s, some), surprise(s, some[:3]))


# floors


def test_random_scores_are_uniform_and_know_nothing_but_the_seed_and_the_probe(
    evidence: Evidence,
) -> None:
    test = random_data(4000, shape=(2,))
    many = replace(evidence, test=test, influence=None)
    scores = RandomScores()(many)
    assert kstest(scores.numpy(), "uniform").pvalue > 0.01
    assert torch.equal(
        scores, RandomScores()(replace(many, influence=torch.zeros(4000, 132)))
    )
    assert torch.equal(
        scores, RandomScores()(replace(many, test=test.relabel(test.y.flip(0))))
    )
    others = [
        replace(many, trace=replace(evidence.trace, seed=2)),
        replace(many, test=replace(test, x=test.x.flip(0))),
    ]
    for other in others:
        assert (
            abs(
                float(
                    torch.corrcoef(torch.stack([scores, RandomScores()(other)]))[0, 1]
                )
            )
            < 0.06
        )


def test_norm_only_is_the_tail_of_the_norms_and_constant_in_a_label(
    evidence: Evidence,
) -> None:
    trace, labels = evidence.trace, evidence.test.y
    scores = NormOnly(5)(evidence)
    assert all(len(scores[labels == c].unique()) == 1 for c in labels.unique())
    assert len(scores.unique()) == len(labels.unique())
    norms = sum(
        c.lr * gradient_norms(trace.model(k), trace.train)
        for k, c in enumerate(trace.checkpoints)
    )
    assert isinstance(norms, Tensor)
    rows = replace(
        evidence,
        influence=norms.repeat(len(labels), 1) / sum(c.lr for c in trace.checkpoints),
    )
    assert close(scores, TailHeaviness(5)(rows))
