"""Every filter of training rows against one contract, and each against its definition.

A new one is a row.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from conftest import random_data
from planted import ATTACKED, POISONED, planted
from scipy.stats import kstest
from sklearn.covariance import MinCovDet
from torch import Tensor
from torch.nn import functional as F

from defenses import FILTERS
from defenses.filters.activation_clustering import ActivationClustering
from defenses.filters.confident_learning import (
    ConfidentLearning,
    confident_labels,
    held_out_probabilities,
)
from defenses.filters.deep_knn import DeepKNNFilter
from defenses.filters.influence_rank import INNER, InfluenceRank
from defenses.filters.isolation import Isolation
from defenses.filters.loss_rank import LossRank
from defenses.filters.perfect_filter import PerfectFilter
from defenses.filters.random_filter import RandomFilter
from defenses.filters.self_influence import SelfInfluence
from defenses.filters.spectral_signatures import SpectralSignatures, top_projection
from defenses.filters.spectre import Spectre, que, whitened
from defenses.filters.unhelpful import Unhelpful
from defenses.kit.features import features_of
from poisonbench.contracts.protocols import Filter
from poisonbench.contracts.values import Evidence, Means
from poisonbench.errors import ConfigError
from poisonbench.gradients.products import dot_products
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.roles import COVER
from poisonbench.seeding import generator
from poisonbench.training import Recipe, Trace, train


@dataclass(frozen=True)
class Row:
    """A filter, and whether it must find the 12 mislabelled rows of the planted example.

    Among those of their label.
    """

    filter: Filter
    sees: bool = True


ROWS = [
    Row(ActivationClustering(3)),
    Row(ActivationClustering(3, layer="inner")),
    Row(ConfidentLearning(3)),
    Row(DeepKNNFilter(9)),
    Row(DeepKNNFilter(9, layer="inner")),
    Row(InfluenceRank("tail-heaviness", ATTACKED)),
    Row(
        InfluenceRank("support-without-the-few", ATTACKED), sees=False
    ),  # its default of 60 rows is too much for 132
    Row(InfluenceRank("rehearsed", ATTACKED)),
    Row(Isolation(), sees=False),  # these rows are learnt late
    Row(LossRank()),
    Row(PerfectFilter()),
    Row(RandomFilter(), sees=False),
    Row(SelfInfluence()),
    Row(SpectralSignatures()),
    Row(SpectralSignatures("inner")),
    Row(Spectre(2)),
    Row(Spectre(3, layer="inner")),
    Row(Unhelpful(), sees=False),  # these rows help the points that rest on them
]


def name(row: Row) -> str:
    return repr(row.filter)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    found = planted()
    return replace(found, means=again(found))


def again(evidence: Evidence) -> Means:
    """Training by the recipe and the seed of the run."""
    trace = evidence.trace
    return Means(
        retrain=lambda keep: train(trace.train.take(keep), trace.by_recipe, trace.seed)
    )


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True)


def test_every_filter_of_the_table_has_a_row() -> None:
    assert {type(row.filter) for row in ROWS} == set(FILTERS.values())


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_contract(row: Row, evidence: Evidence) -> None:
    uses = row.filter.uses
    assert isinstance(row.filter, Filter)
    assert set(uses) <= {
        "influence",
        "probe",
        "reference",
        "features",
        "gradients",
        "retraining",
        "oracle",
    }
    hidden = {
        "influence": "influence",
        "reference": "trusted",
        "oracle": "role",
        "retraining": "means",
    }
    seen = replace(
        evidence, **{field: None for use, field in hidden.items() if use not in uses}
    )
    state = torch.random.get_rng_state()
    scores = row.filter(seen)
    assert scores.shape == (len(evidence.trace.train),)
    assert scores.dtype == torch.float64
    assert scores.isfinite().all() or not row.sees
    assert torch.equal(scores.nan_to_num(), row.filter(evidence).nan_to_num()), (
        "not deterministic, or reads what it does not declare"
    )
    assert torch.equal(state, torch.random.get_rng_state()), (
        "the global generator was used"
    )


@pytest.mark.parametrize("row", [row for row in ROWS if row.sees], ids=name)
def test_larger_scores_mean_more_suspicious(row: Row, evidence: Evidence) -> None:
    scores = row.filter(evidence)[evidence.trace.train.y == 0]
    assert scores[-POISONED:].min() > scores[:-POISONED].max()


# what trains again walks other batches
UNTRAINED = [row for row in ROWS if row.sees and "retraining" not in row.filter.uses]


@pytest.mark.parametrize("row", UNTRAINED, ids=name)
def test_the_order_of_the_training_rows_does_not_matter(
    row: Row, evidence: Evidence
) -> None:
    order = torch.randperm(len(evidence.trace.train), generator=generator(2, "order"))
    trace = replace(evidence.trace, train=evidence.trace.train.take(order))
    assert evidence.influence is not None
    assert evidence.role is not None
    moved = replace(
        evidence,
        trace=trace,
        influence=evidence.influence[:, order],
        role=evidence.role[order],
    )
    assert close(row.filter(moved), row.filter(evidence)[order])


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_probe_matters_only_where_uses_says_so(
    row: Row, evidence: Evidence
) -> None:
    if {"probe", "influence"} & set(row.filter.uses):
        return
    other = replace(
        evidence,
        test=random_data(3, shape=(8,), classes=3),
        influence=None,
        trusted=None,
    )
    assert torch.equal(row.filter(other), row.filter(evidence))


@pytest.mark.parametrize(
    "row",
    [Row(f) for f in (ActivationClustering(3), SpectralSignatures(), Spectre(2))],
    ids=name,
)
def test_a_class_of_one_row_and_a_class_of_equal_rows_score_zero(
    row: Row, evidence: Evidence
) -> None:
    data = evidence.trace.train
    labels, x = data.y.clone(), data.x.clone()
    x[80:120] = x[80]
    labels[-1] = 1
    labels[labels == 1] = torch.where(torch.arange(int((labels == 1).sum())) == 0, 1, 0)
    odd = replace(
        evidence, trace=replace(evidence.trace, train=replace(data, x=x, y=labels))
    )
    scores = row.filter(odd)
    assert scores.isfinite().all()
    assert scores[labels == 1].tolist() == [0]
    assert scores[labels == 2].abs().max() < 1e-9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActivationClustering(0), "dimensions must be at least 1, got 0"),
        (
            lambda: ActivationClustering(layer="first"),
            "layer must be one of inner, penultimate, got 'first'",
        ),
        (lambda: DeepKNNFilter(0), "neighbours must be at least 1, got 0"),
        (
            lambda: InfluenceRank("random"),
            "detector must be one of tail-heaviness, .* got 'random'",
        ),
        (lambda: InfluenceRank(points=0), "points must be at least 1, got 0"),
        (lambda: Isolation(-1), "checkpoint must be at least 0, got -1"),
        (lambda: SpectralSignatures("last"), "layer must be"),
        (
            lambda: Spectre(contamination=0.5),
            r"contamination must lie in \(0, 0.5\), got 0.5",
        ),
        (lambda: Spectre(alpha=-1), "alpha must be at least 0, got -1"),
        (lambda: Spectre(0), "dimensions must be at least 1, got 0"),
    ],
)
def test_a_field_out_of_range_names_the_rule_and_the_value(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# spectral methods


def test_spectral_signatures_are_those_of_a_direct_decomposition_a_class(
    evidence: Evidence,
) -> None:
    data = evidence.trace.train
    rows = features_of(evidence.trace, "penultimate", data)
    scores = SpectralSignatures()(evidence)
    for label in range(3):
        own = rows[data.y == label]
        values, axes = torch.linalg.eigh(
            torch.cov(own.T)
        )  # the other way: eigenvectors of the covariance
        expected = ((own - own.mean(0)) @ axes[:, values.argmax()]).square()
        assert close(scores[data.y == label], expected)


def test_spectral_signatures_centre_by_class_and_the_uncentred_form_is_another() -> (
    None
):
    g = generator(0, "offset")
    rows = torch.randn(50, 4, generator=g, dtype=torch.float64) * torch.tensor(
        [1, 3, 1, 1]
    ) + torch.tensor([100, 0, 0, 0])
    assert close(
        top_projection(rows), top_projection(rows - 7)
    )  # a shift of all rows changes nothing
    v = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    uncentred = (rows @ v).square()
    assert (
        abs(float(torch.corrcoef(torch.stack([top_projection(rows), uncentred]))[0, 1]))
        < 0.5
    )
    assert abs(float(v[0])) > 0.99  # the uncentred direction is that of the mean


def test_spectre_whitens_by_the_clean_rows_as_the_minimum_covariance_determinant_does() -> (
    None
):
    g = generator(1, "whiten")
    clean = torch.randn(300, 3, generator=g, dtype=torch.float64) * torch.tensor(
        [5.0, 1.0, 0.2]
    )
    rows = torch.cat(
        [
            clean,
            torch.tensor([0.0, 0.0, 4.0])
            + 0.05 * torch.randn(60, 3, generator=g, dtype=torch.float64),
        ]
    )
    white = whitened(rows, 240)
    reference = MinCovDet(support_fraction=240 / 360, random_state=0).fit(rows.numpy())
    raw = rows[torch.as_tensor(reference.raw_support_)]
    expected = torch.cov(raw.T).inverse()
    centred = rows - raw.mean(0)
    assert torch.allclose(
        white.square().sum(1), ((centred @ expected) * centred).sum(1), rtol=0.05
    )
    scores = que(white, 4.0)
    assert scores[300:].min() > scores[:300].max()
    plain = top_projection(rows)  # the direction of the clean variance hides them
    assert plain[300:].mean() < plain[:300].mean()


def test_quantum_entropy_scores_are_their_definition() -> None:
    g = generator(2, "que")
    z = torch.randn(40, 3, generator=g, dtype=torch.float64) * torch.tensor(
        [2.0, 1.0, 0.5]
    )
    moment = z.T @ z / 40
    norm = torch.linalg.matrix_norm(moment, 2)
    q = torch.linalg.matrix_exp(4.0 * (moment - torch.eye(3)) / (norm - 1))
    expected = torch.stack([row @ q @ row / q.trace() for row in z])
    assert close(que(z, 4.0), expected)
    assert close(
        que(z, 0.0), z.square().mean(1)
    )  # alpha 0: the squared norm over the dimensions


# clustering and neighbours


def test_activation_clustering_tells_a_lopsided_class_from_an_even_one() -> None:
    g = generator(3, "clusters")
    x = 0.1 * torch.randn(200, 8, generator=g, dtype=torch.float64)
    x[:50, 0] += 3  # class 0: 50 against 50
    x[100:110, 0] += 3  # class 1: 10 against 90
    data = replace(
        random_data(200, shape=(8,), classes=2),
        x=x,
        y=torch.arange(2).repeat_interleave(100),
    )
    trace = train(
        data, Recipe(model="linear", epochs=1, checkpoints=1), seed=0
    )  # its features are the instances
    scores = ActivationClustering(2)(Evidence(trace, data))
    assert scores[:100].abs().max() == 0
    assert scores[100:110].min() > 0.6
    assert scores[110:].max() < -0.6


@pytest.mark.parametrize("neighbours", [3, 1000])
def test_the_deep_knn_filter_is_its_definition_in_loops(
    neighbours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("defenses.kit.similarity.cosines._BLOCK", 200)
    data = random_data(40, classes=3)
    trace = train(data, Recipe(epochs=1, batch_size=20, checkpoints=1), seed=0)
    rows = features_of(trace, "penultimate", data)
    expected = []
    for i in range(40):
        others = sorted(
            (j for j in range(40) if j != i),
            key=lambda j, i=i: -float(torch.cosine_similarity(rows[i], rows[j], dim=0)),
        )
        near = others[:neighbours]
        expected.append(sum(int(data.y[j] != data.y[i]) for j in near) / len(near))
    assert close(
        DeepKNNFilter(neighbours)(Evidence(trace, data)),
        torch.tensor(expected, dtype=torch.float64),
    )


# losses, gradients, influence


def test_loss_rank_and_isolation_are_the_loss_at_the_last_and_at_an_early_checkpoint(
    evidence: Evidence,
) -> None:
    trace = evidence.trace
    for k, scores in (
        (1, LossRank()(evidence)),
        (0, -Isolation()(evidence)),
        (1, -Isolation(1)(evidence)),
    ):
        expected = F.cross_entropy(
            predict(trace.model(k), trace.train.x), trace.train.y, reduction="none"
        )
        assert torch.equal(scores, expected)
    with pytest.raises(
        ValueError, match="must be below the 2 that the recipe keeps, got 2"
    ):
        Isolation(2)(evidence)


def test_self_influence_is_the_diagonal_of_the_influence_of_the_training_set_on_itself(
    evidence: Evidence,
) -> None:
    trace = evidence.trace
    full = sum(
        c.lr * dot_products(trace.model(k), trace.train, trace.train)
        for k, c in enumerate(trace.checkpoints)
    )
    assert isinstance(full, Tensor)
    assert close(SelfInfluence()(evidence), full.diagonal())


@pytest.mark.parametrize("detector", ["tail-heaviness", "support-without-the-few"])
def test_influence_rank_stands_on_the_influences_that_are_there(detector: str) -> None:
    """An estimator may score some rows alone, as of one label."""
    evidence = planted()
    assert evidence.influence is not None
    rank = InfluenceRank(detector, 1)  # type: ignore[arg-type]
    assert evidence.trusted is not None
    scores = INNER[detector](evidence)
    suspect = scores.masked_fill(evidence.trusted, -torch.inf).argmax()
    own = evidence.trace.train.y == evidence.test.y[suspect]
    foreign = evidence.trace.train.y != evidence.test.y[:, None]
    some = evidence.influence.masked_fill(foreign, torch.nan)
    got = rank(replace(evidence, influence=some)).double()
    assert (got[~own] == 0).all()
    values = evidence.influence[suspect][own].double()
    middle = values.quantile(0.5)
    scale = 1.482602218505602 * (values - middle).abs().quantile(0.5)
    torch.testing.assert_close(
        got[own], (values - middle) / scale, rtol=1e-4, atol=1e-4
    )


def standings(evidence: Evidence) -> Tensor:
    """What each probe point says of each row, (m, n)."""
    assert evidence.influence is not None
    values = evidence.influence
    middle = values.quantile(0.5, 1, keepdim=True)
    scale = (values - middle).abs().quantile(0.5, 1, keepdim=True)
    supports = evidence.trace.train.y == evidence.test.y[:, None]
    standing = (values - middle) / (1.482602218505602 * scale)
    return standing.masked_fill(~supports, 0)


@pytest.mark.parametrize("points", [3, 33])
def test_a_point_that_ties_for_the_last_place_counts_alike_wherever_it_lies(
    points: int, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe of a grid begins with the attacked points: ties by position would choose them."""

    def tied(given: Evidence) -> Tensor:
        return given.test.x[:, 0].double().sign()

    monkeypatch.setitem(INNER, "tail-heaviness", tied)
    score = InfluenceRank("tail-heaviness", points)
    first = tied(evidence) > 0
    known = torch.zeros_like(first)
    known[(~first).nonzero()[:3]] = True
    seen = replace(evidence, trusted=known)
    found = score(seen)
    assert close(found, standings(evidence)[first].mean(0))
    assert evidence.influence is not None
    back = torch.arange(len(evidence.test)).flip(0)
    turned = replace(
        evidence,
        test=evidence.test.take(back),
        influence=evidence.influence[back],
        trusted=known[back],
    )
    assert close(score(turned), found)


@pytest.mark.parametrize(("points", "last"), [(20, 31), (4, 36)])
def test_points_are_asked_that_are_above_all_that_are_known_to_be_clean(
    points: int, last: int, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = torch.arange(40).double()
    monkeypatch.setitem(INNER, "tail-heaviness", lambda _: order)
    known = (order == 5) | (order == 30)
    found = InfluenceRank("tail-heaviness", points)(replace(evidence, trusted=known))
    assert close(found, standings(evidence)[last:].mean(0))


def test_where_none_is_above_those_known_to_be_clean_the_most_suspicious_is_asked(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = torch.arange(40).double()
    monkeypatch.setitem(INNER, "tail-heaviness", lambda _: order)
    found = InfluenceRank("tail-heaviness")(replace(evidence, trusted=order > 35))
    assert close(found, standings(evidence)[35])


def test_influence_rank_is_not_moved_by_a_probe_point_without_influence(
    evidence: Evidence,
) -> None:
    assert evidence.influence is not None
    assert evidence.trusted is not None
    influence = evidence.influence.clone()
    influence[0, 0] = torch.nan
    inner = InfluenceRank("tail-heaviness", ATTACKED - 1)
    with pytest.warns(
        UserWarning, match="1 of 40 probe points have an influence that is not finite"
    ):
        scores = inner(replace(evidence, influence=influence))
    rest = torch.arange(40) > 0
    assert close(
        scores,
        inner(
            replace(
                evidence,
                test=evidence.test.take(rest),
                influence=influence[rest],
                trusted=evidence.trusted[rest],
            )
        ),
    )
    with (
        pytest.warns(UserWarning, match="scores none of the"),
        pytest.warns(UserWarning, match="40 of 40"),
    ):
        assert (
            inner(replace(evidence, influence=torch.full_like(influence, torch.nan)))
            .isnan()
            .all()
        )
    with pytest.raises(ValueError, match="needs the influence"):
        inner(replace(evidence, influence=None))


# baselines


def test_the_perfect_filter_names_poison_and_not_cover_and_refuses_to_guess(
    evidence: Evidence,
) -> None:
    assert evidence.role is not None
    role = evidence.role.clone()
    role[0] = COVER
    assert torch.equal(
        PerfectFilter()(replace(evidence, role=role)), (evidence.role == 1).double()
    )
    with pytest.raises(ValueError, match="needs the role"):
        PerfectFilter()(replace(evidence, role=None))


def test_the_random_filter_is_uniform_and_knows_nothing_but_the_seed(
    evidence: Evidence,
) -> None:
    data = random_data(4000, shape=(8,), classes=3)
    many = replace(evidence, trace=replace(evidence.trace, train=data))
    scores = RandomFilter()(many)
    assert kstest(scores.numpy(), "uniform").pvalue > 0.01
    other = RandomFilter()(replace(many, trace=replace(many.trace, seed=2)))
    assert abs(float(torch.corrcoef(torch.stack([scores, other]))[0, 1])) < 0.06


# --- unhelpful rows ---


def test_unhelpful_is_the_mean_influence_on_trusted_points_of_agreeing_parts(
    evidence: Evidence,
):
    n = len(evidence.trace.train)
    trusted = torch.zeros(40, dtype=torch.bool)
    trusted[:4] = True
    influence = torch.full((40, n), 7.0, dtype=torch.float64)
    influence[:4] = 1.0
    influence[:4, 0] = torch.tensor([-1.0, -2.0, -3.0, -2.0])  # in both parts
    influence[:4, 1] = torch.tensor([4.0, -5.0, 4.0, -5.0])  # in one of two
    seen = replace(
        evidence,
        influence=influence,
        trusted=trusted,
        test=evidence.test.relabel(torch.zeros(40, dtype=torch.int64)),
    )
    with collecting() as told:
        scores = Unhelpful(parts=2)(seen)
    assert scores[0] == 2.0
    assert scores[1] == 0.5 * 0.5
    assert (scores[2:] == -1.0).all()
    assert told.arrays["suspect"].nonzero().flatten().tolist() == [0]
    assert told.arrays["agreement"][:2].tolist() == [1.0, 0.5]


def test_the_parts_of_unhelpful_hold_points_of_every_label(evidence: Evidence):
    """With one trusted point of each label in a part, labels alone decide nothing."""
    n = len(evidence.trace.train)
    labels = torch.arange(40) % 4
    influence = torch.where(labels == 3, -9.0, 1.0).double()[:, None].repeat(1, n)
    seen = replace(
        evidence,
        influence=influence,
        trusted=torch.ones(40, dtype=torch.bool),
        test=evidence.test.relabel(labels),
    )
    with collecting() as told:
        Unhelpful(parts=10)(seen)
    assert told.arrays["suspect"].all()


def test_points_without_finite_influence_do_not_count(evidence: Evidence):
    assert evidence.influence is not None
    bad = evidence.influence.clone()
    bad[12] = torch.nan
    assert evidence.trusted is not None
    without = evidence.trusted.clone()
    assert without[12 + 2]
    bad[14] = torch.nan
    without[14] = False
    with pytest.warns(UserWarning, match="not finite"):
        got = Unhelpful()(replace(evidence, influence=bad))
    assert torch.equal(got, Unhelpful()(replace(evidence, trusted=without)))
    lost = torch.full_like(bad, torch.nan)
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(ValueError, match="no trusted point"),
    ):
        Unhelpful()(replace(evidence, influence=lost))


# --- confident learning ---


def test_the_confident_joint_of_a_case_by_hand():
    """Thresholds: .7 and .6, the means of label 0 over rows 0-2, of label 1 over rows 3-4."""
    labels = torch.tensor([0, 0, 0, 1, 1])
    first = torch.tensor([0.9, 0.8, 0.4, 0.75, 0.05])
    probability = torch.stack([first, 1 - first], 1)
    # row 2 reaches .6 of label 1, row 3 the .7 of label 0
    assert confident_labels(probability, labels).tolist() == [0, 0, 1, 0, 1]
    unsure = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    assert confident_labels(unsure, torch.tensor([0, 0])).tolist() == [-1, 0]


def test_label_errors_are_those_of_cleanlab():
    issues = pytest.importorskip("cleanlab.filter")
    g = torch.Generator().manual_seed(0)
    for n, classes in ((80, 3), (300, 5), (500, 10)):
        labels = torch.randint(classes, (n,), generator=g)
        logits = torch.randn(n, classes, generator=g, dtype=torch.float64)
        logits[torch.arange(n), labels] += 1.5
        probability = logits.softmax(1)
        counted = confident_labels(probability, labels)
        mine = (counted >= 0) & (counted != labels)
        theirs = issues.find_label_issues(
            labels.numpy(),
            probability.numpy(),
            filter_by="confident_learning",
            n_jobs=1,
        )
        assert mine.any()
        assert mine.tolist() == theirs.tolist()


def test_cleanlab_as_a_filter_finds_what_ours_finds(evidence: Evidence):
    pytest.importorskip("cleanlab")
    from experiments.bench.peers.cleanlab_peer import Cleanlab

    peer = Cleanlab(3, "confident_learning")
    assert torch.equal(peer(evidence), ConfidentLearning(3)(evidence))


def test_probabilities_are_of_models_that_did_not_see_the_row(evidence: Evidence):
    masks: list[Tensor] = []

    def retrain(keep: Tensor) -> Trace:
        masks.append(keep)
        return evidence.trace

    found = held_out_probabilities(replace(evidence, means=Means(retrain)), 4)
    assert torch.equal(torch.stack(masks).sum(0), torch.full((len(masks[0]),), 3))
    labels = evidence.trace.train.y
    for keep in masks:
        shares = labels[~keep].bincount() / labels.bincount()
        assert (shares - 0.25).abs().max() < 0.05
    want = predict(evidence.trace.model(), evidence.trace.train.x).softmax(1)
    assert torch.allclose(found, want)


def test_errors_come_first_and_rows_by_their_margin(evidence: Evidence):
    with collecting() as told:
        scores = ConfidentLearning(3)(evidence)
    errors = told.arrays["suspect"]
    assert scores[errors].min() >= 1 >= scores[~errors].max()
    train_y = evidence.trace.train.y
    assert (told.arrays["other_label"] != train_y).all()
    found = held_out_probabilities(evidence, 3)
    own = found.gather(1, train_y[:, None]).squeeze(1)
    assert close(told.arrays["own_probability"], own)
    row = int(scores.argmax())
    others = found[row].clone()
    others[train_y[row]] = 0
    assert scores[row] == pytest.approx(1 + (1 - float(own[row] - others.max())) / 2)


def test_confident_learning_of_a_run_that_cannot_be_made_again_is_refused(
    evidence: Evidence,
):
    with pytest.raises(ConfigError, match="trains again"):
        ConfidentLearning()(replace(evidence, means=None))
    with pytest.raises(ConfigError, match="folds must be at most the 132 rows"):
        ConfidentLearning(133)(evidence)
