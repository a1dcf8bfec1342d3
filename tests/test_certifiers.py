"""Certificates by partition: nothing within the radius ever moves a label.

Insertions and deletions are checked one by one.
"""

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_data
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluate import scene_config, write_scene
from test_mitigation import killed_and_whole
from test_run import PATCH, SMALL, assert_same, results
from torch import Tensor

from defenses import CERTIFIERS
from defenses.certifiers import deep_partition_aggregation, finite_aggregation
from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from defenses.certifiers.finite_aggregation import FiniteAggregation
from defenses.certifiers.votes import in_order, plurality, row_hash
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.kinds.certificates import RADII
from experiments.evaluation.load import load_results
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Grid
from experiments.report.pictures.look import save
from experiments.report.plots.certified import certified_figure, curve
from experiments.report.render import render
from experiments.runner.run import Options, run
from experiments.scene.cost import measured
from poisonbench import log
from poisonbench.contracts.protocols import Certifier
from poisonbench.contracts.values import Certified
from poisonbench.data import Dataset, join
from poisonbench.training import Recipe

RECIPE = Recipe(model="linear", lr=0.5, momentum=0.0)
ROWS = [
    DeepPartitionAggregation(5, epochs=3, batch_size=4),
    FiniteAggregation(3, 2, epochs=3, batch_size=4),
]


def name(certifier: Certifier) -> str:
    return repr(certifier)


def nearest_row(train: Dataset, masks: Tensor, test: Dataset) -> Tensor:
    """A cheap base learner that depends on its own rows alone.

    It gives the label of the nearest row, class 0 without rows.
    """
    distance = torch.cdist(test.x.flatten(1), train.x.flatten(1))
    votes = []
    for mask in masks:
        far = distance.masked_fill(~mask, torch.inf)
        votes.append(torch.where(mask.any(), train.y[far.argmin(1)], 0))
    return torch.stack(votes)


def striped(n: int, seed: int) -> Dataset:
    """Points of the unit square, labelled by three stripes, one of them wide."""
    data = random_data(n, (2,), 3, seed)
    return data.relabel((data.x[:, 0] > 0.2).long() + (data.x[:, 0] > 0.8).long())


def certified(train: Dataset, test: Dataset, parts: int, d: int | None) -> Certified:
    """DPA (d None) or finite aggregation of the cheap learner.

    Over the library's own hash, spread and certificate.
    """
    rows, value = in_order(train)
    if d is None:
        masks = value % parts == torch.arange(parts)[:, None]
        return deep_partition_aggregation.certify(
            nearest_row(rows, masks, test), test.classes
        )
    spread = FiniteAggregation(parts, d).spread()
    masks = torch.zeros(len(spread), len(rows), dtype=torch.bool)
    masks[spread[value % len(spread)], torch.arange(len(rows))[:, None]] = True
    return finite_aggregation.certify(
        nearest_row(rows, masks, test), spread, test.classes
    )


@pytest.mark.parametrize(
    ("parts", "d"), [(5, None), (7, None), (3, 2), (5, 2)], ids=str
)
@pytest.mark.parametrize("seed", range(2))
def test_no_insertion_or_deletion_within_the_radius_changes_a_label(
    parts: int, d: int | None, seed: int
) -> None:
    """Every way to change the rows twice at most.

    To delete up to two, to insert up to two of ten others, and one of each.
    """
    train, test, others = (
        striped(n, seed + offset) for n, offset in ((14, 0), (40, 100), (10, 200))
    )
    before = certified(train, test, parts, d)
    assert before.radius.max() >= 1, "nothing is certified: the test would be empty"
    everything = join([train, others])
    start = set(range(len(train)))
    for size in (1, 2):
        for changed in itertools.combinations(range(len(everything)), size):
            rows = torch.tensor(sorted(start ^ set(changed)))
            after = certified(everything.take(rows), test, parts, d)
            held = before.radius >= size
            assert torch.equal(after.labels[held], before.labels[held]), changed


VOTES = st.integers(2, 4).flatmap(
    lambda c: st.tuples(
        st.just(c),
        st.lists(
            st.lists(st.integers(0, c - 1), min_size=6, max_size=6),
            min_size=3,
            max_size=3,
        ),
    )
)


@settings(max_examples=40, deadline=None)
@given(VOTES, st.sampled_from([(6, 1), (3, 2), (2, 3)]))
def test_the_radius_holds_for_any_votes_of_the_changed_parts_and_for_dpa_it_is_the_largest_such(
    drawn: tuple[int, list[list[int]]], shape: tuple[int, int]
) -> None:
    classes, columns = drawn
    votes = torch.tensor(columns).T
    spread = FiniteAggregation(*shape).spread()
    found = finite_aggregation.certify(votes, spread, classes)
    for point, radius in enumerate(found.radius.tolist()):
        label = int(found.labels[point])

        def beaten(size: int, point: int = point, label: int = label) -> bool:
            for parts in itertools.combinations(range(len(spread)), size):
                models = spread[list(parts)].unique()
                for value in range(
                    classes
                ):  # the worst that an attacker can do for a rival: all votes to it
                    moved = votes[:, point].clone()
                    moved[models] = value
                    if int(plurality(moved[:, None], classes)[0]) != label:
                        return True
            return False

        assert not any(beaten(size) for size in range(1, min(radius, 6) + 1))
        if shape[1] == 1 and radius < 6:
            assert beaten(radius + 1), "DPA's bound is tight"


@settings(max_examples=60, deadline=None)
@given(VOTES)
def test_finite_aggregation_with_d_one_is_deep_partition_aggregation(
    drawn: tuple[int, list[list[int]]],
) -> None:
    classes, columns = drawn
    votes = torch.tensor(columns).T
    a = deep_partition_aggregation.certify(votes, classes)
    b = finite_aggregation.certify(votes, FiniteAggregation(6, 1).spread(), classes)
    assert torch.equal(a.labels, b.labels)
    assert torch.equal(a.radius, b.radius)


def test_the_radius_of_a_vote_counted_by_hand() -> None:
    # 5 votes for class 1, 2 for class 0, which wins a tie:
    # one changed vote leaves 4 to 3, a second 3 to 4
    votes = torch.tensor([1, 1, 1, 1, 1, 0, 0])[:, None]
    found = deep_partition_aggregation.certify(votes, 2)
    assert (int(found.labels), int(found.radius)) == (1, 1)
    # the same votes for class 0 against 1:
    # 3 to 3 would still be class 0, but that takes half a vote
    found = deep_partition_aggregation.certify(1 - votes, 2)
    assert (int(found.labels), int(found.radius)) == (0, 1)
    assert (
        int(deep_partition_aggregation.certify(torch.tensor([[1], [0]]), 2).labels) == 0
    ), "ties go to the lower class"


def test_every_part_is_seen_by_d_models_and_every_model_sees_d_parts() -> None:
    spread = FiniteAggregation(5, 3).spread()
    assert all(len(set(row)) == 3 for row in spread.tolist())
    assert torch.equal(spread.flatten().bincount(), torch.full((15,), 3))


def test_the_hash_depends_on_content_alone_and_spreads_evenly() -> None:
    x = torch.rand(3000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[:, :, :4] = 0  # digits have many equal pixels
    value = row_hash(x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    assert torch.equal(row_hash(x[order]), value[order])
    assert len(value.unique()) == len(x)
    for parts in (2, 10, 50):
        counts = (value % parts).bincount(minlength=parts)
        expected = len(x) / parts
        assert (
            float((counts - expected).square().sum() / expected)
            < parts + 5 * (2 * parts) ** 0.5
        ), "chi-squared"
    pair = torch.tensor([[0.0, 1.0], [-0.0, 1.0]])
    assert row_hash(pair).unique().numel() == 1, "0 and -0 are one pixel"
    words = torch.cartesian_prod(torch.arange(50), torch.arange(60))
    value = row_hash(words)
    assert len(value.unique()) == 3000, "sentences of two words"
    assert torch.equal(row_hash(words[7:9]), value[7:9])


@pytest.mark.parametrize("certifier", ROWS, ids=name)
def test_the_order_of_the_rows_does_not_matter(certifier: Certifier) -> None:
    train, test = random_data(60, (1, 4, 4), 3), random_data(25, (1, 4, 4), 3, seed=1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    a, b = (
        certifier(train, test, RECIPE, 0),
        certifier(train.take(order), test, RECIPE, 0),
    )
    assert torch.equal(a.labels, b.labels)
    assert torch.equal(a.radius, b.radius)


@pytest.mark.parametrize("certifier", ROWS, ids=name)
def test_a_certifier_keeps_its_contract(certifier: Certifier, tmp_path) -> None:
    assert {type(row) for row in ROWS} == set(CERTIFIERS.values())
    assert isinstance(certifier, Certifier)
    train, test = random_data(60, (1, 4, 4), 3), random_data(25, (1, 4, 4), 3, seed=1)
    state = torch.random.get_rng_state()
    found = certifier(train, test, RECIPE, 0, tmp_path / "scratch")
    assert torch.equal(state, torch.random.get_rng_state()), (
        "moved the global generator"
    )
    for value in (found.labels, found.radius):
        assert value.dtype == torch.int64
        assert value.shape == (25,)
    assert found.labels.min() >= 0
    assert found.labels.max() < 3
    assert found.radius.min() >= 0
    blocks = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.h5")}
    assert blocks, "no restart blocks"
    again = certifier(train, test, RECIPE, 0, tmp_path / "scratch")
    assert torch.equal(again.labels, found.labels)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.h5")} == blocks, (
        "the blocks were not used"
    )


@pytest.mark.parametrize("certifier", ROWS, ids=name)
def test_deleting_any_one_row_of_a_trained_vote_respects_the_radius(
    certifier: Certifier,
) -> None:
    train, test = striped(24, 0), striped(30, 1)
    certifier = replace(certifier, epochs=20)
    before = certifier(train, test, RECIPE, 0)
    held = before.radius >= 1
    assert held.any()
    for row in range(len(train)):
        keep = torch.arange(len(train)) != row
        after = certifier(train.take(keep), test, RECIPE, 0)
        assert torch.equal(after.labels[held], before.labels[held]), row


def test_a_changed_label_counts_once() -> None:
    """The hash does not see labels, so the row stays in its part."""
    data = random_data(30, (2,), 3)
    flipped = data.relabel((data.y + 1) % 3)
    assert torch.equal(row_hash(data.x), row_hash(flipped.x))
    before = certified(data, random_data(40, (2,), 3, 9), 5, None)
    for row in range(len(data)):
        y = data.y.clone()
        y[row] = (y[row] + 1) % 3
        after = certified(data.relabel(y), random_data(40, (2,), 3, 9), 5, None)
        held = before.radius >= 1
        assert torch.equal(after.labels[held], before.labels[held])


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: DeepPartitionAggregation(0), "parts must be at least 1, got 0"),
        (lambda: replace(ROWS[0], epochs=0), "epochs must be at least 1, got 0"),
        (lambda: FiniteAggregation(d=0), "d must be at least 1, got 0"),
    ],
)
def test_a_bad_value_is_named(make, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make()


# ---- the stage


def certifying(*certifiers: dict, **more: object) -> Grid:
    plain = {"estimator": [], "detector": []}
    return parse(
        {**SMALL, **plain, "attack": [PATCH], "certifier": list(certifiers), **more}
    )


DPA = {"name": "deep-partition-aggregation", "parts": 5, "epochs": 2}


def test_certifiers_run_in_a_grid_and_are_judged_by_clean_and_attacked_points(
    tmp_path: Path,
) -> None:
    both = certifying(DPA, {"name": "finite-aggregation", "k": 3, "d": 2, "epochs": 2})
    assert run(both, Place(tmp_path), Options(workers=0)).failed == []
    for record in (log.read(p) for p in tmp_path.rglob("certify-*.h5")):
        assert len(record.data["label"]) == 150
        scene = log.read(record.path.parent / "scene.h5")
        assert np.array_equal(
            record.data["targets/wanted"], scene.data["targets/wanted"]
        )
    rows = rows_of(load_results(tmp_path), "certify")
    assert len(rows) == 2
    for row in rows:
        certified_at = [row.metrics[f"certified_{r}"].value for r in RADII]
        assert certified_at == sorted(certified_at, reverse=True)
        assert certified_at[0] == row.metrics["accuracy"].value
    assert "CERTIFIED" in render(load_results(tmp_path))
    assert not list(tmp_path.rglob("models-*.h5")), (
        "restart blocks go when the stage is done"
    )
    figure = certified_figure(load_results(tmp_path).of("certify"))
    picture = save(figure, tmp_path / "certified.png")
    assert picture.stat().st_size > 5000
    before = results(tmp_path)
    for path in tmp_path.rglob("certify-*.h5"):
        path.unlink()
    run(both, Place(tmp_path), Options(workers=0))
    assert_same(results(tmp_path), before)


def write_certificate(folder: Path, **changes: np.ndarray) -> Path:
    place = write_scene(folder, scene_config({"name": "patch"}))
    data = {
        "label": np.array([0, 1, 1, 2]),
        "radius": np.array([3, 0, 9, 1]),
        "truth": np.array([0, 1, 0, 2]),
    }
    data |= {
        "targets/label": np.array([1, 0]),
        "targets/radius": np.zeros(2, int),
        "targets/y": np.array([0, 0]),
    }
    data |= {"targets/wanted": np.array([1, 1])}
    config = {
        "scene": log.read(place / "scene.h5").config,
        "certifier": {"name": "toy"},
    }
    log.write(
        place / "certify-toy.h5",
        "certify",
        config=config,
        data={**data, **changes},
        attributes={"seconds": 1.0},
    )
    return place / "certify-toy.h5"


def test_certified_accuracy_counted_by_hand(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    [row] = rows_of(load_results(tmp_path), "certify")
    values = {key: metric.value for key, metric in row.metrics.items()}
    assert [values[f"certified_{r}"] for r in (0, 1, 2, 4)] == [0.75, 0.5, 0.25, 0], (
        "a wrong label is never certified"
    )
    assert (values["median_radius"], values["asr"]) == (2, 0.5)
    [record] = load_results(tmp_path).of("certify")
    assert curve(record, 4).tolist() == [0.75, 0.5, 0.25, 0.25, 0]
    assert certified_figure([record]).axes[0].get_ylabel() == "certified accuracy"


@pytest.mark.parametrize(
    "changes",
    [{"radius": np.zeros(3, int)}, {"targets/label": np.zeros((2, 1), int)}],
    ids=["short", "matrix"],
)
def test_a_certificate_that_does_not_fit_is_damaged(
    tmp_path: Path, changes: dict
) -> None:
    write_certificate(tmp_path, **changes)
    [error] = load_results(tmp_path).damaged
    assert "are not vectors of one length" in error.reason


@pytest.mark.slow
def test_killed_among_its_models_a_certifier_goes_on_to_the_same_log(
    tmp_path: Path,
) -> None:
    certifier = (
        '[[certifier]]\nname = "deep-partition-aggregation"\nparts = 40\nepochs = 12'
    )
    killed, whole = killed_and_whole(tmp_path, certifier, "models-*.h5", "certify-*.h5")
    assert_same(results(killed), results(whole))


def test_the_hash_is_that_of_all_rows_at_once_and_holds_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.rand(4000, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with measured(torch.device("cpu")) as cost:
        found = row_hash(x)
    assert cost.peak_bytes < x.nbytes, "all rows as whole numbers take four times x"
    few = x[:50]
    monkeypatch.setattr("defenses.certifiers.votes._AT_ONCE", few.numel())
    at_once = row_hash(few)
    monkeypatch.setattr("defenses.certifiers.votes._AT_ONCE", 1)
    assert torch.equal(row_hash(few), at_once)
    assert torch.equal(found[:50], at_once)


VOTED = """
import torch
from defenses.certifiers.finite_aggregation import FiniteAggregation
from experiments.scene.cost import measured
from poisonbench.data import Dataset
from poisonbench.training import Recipe

x = torch.rand(20_000, 1, 32, 32, generator=torch.Generator().manual_seed(0))
train = Dataset(x, torch.arange(20_000) % 2, 2)
test = train.take(torch.arange(4))
recipe = Recipe(model="linear", epochs=1)
certifier = FiniteAggregation(k=5, d=2, epochs=1, batch_size=64)
certifier(test, test, recipe, 0)  # what is imported late
with measured(torch.device("cpu")) as cost:
    certifier(train, test, recipe, 0)
print(cost.peak_bytes / x.nbytes)
"""


def test_a_vote_holds_the_rows_in_order_and_as_they_are_seen_and_no_more() -> None:
    command = [sys.executable, "-c", VOTED]  # a process of its own
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 2.8, "in order and as they are seen: twice the data"
