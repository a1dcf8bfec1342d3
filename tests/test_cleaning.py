"""`poisonbench clean`: what is removed, what that does, and that nothing else is touched."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from additive import Sums
from click.testing import CliRunner, Result
from conftest import random_data
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experiments.cleaning.apart import check_apart
from experiments.cleaning.material import material_of, read_parts, set_apart
from experiments.cleaning.noise import with_noise
from experiments.cleaning.outcome import Curve, difference_of, outcomes
from experiments.cleaning.removal import kept, retrained, seeds_of
from experiments.cleaning.run import run_cleaning
from experiments.cleaning.suspects import write_suspects
from experiments.cli import main
from experiments.plan.cleaning.parse import parse_cleaning
from experiments.plan.cleaning.resolved import resolved_cleaning
from experiments.plan.cleaning.spec import Cleaning, Noise
from experiments.plan.gridfile import loaded
from experiments.plan.paths import Place
from poisonbench import log
from poisonbench.data import load
from poisonbench.data.dataset import stratified
from poisonbench.errors import DataError, RunWarning
from poisonbench.log import Record, names
from poisonbench.models import predict
from poisonbench.seeding import derive
from poisonbench.training import Recipe, train

SMALL: dict[str, Any] = {
    "dataset": {"name": "digits", "train": 400, "test": 200},
    "recipe": {"model": "mlp", "epochs": 12, "batch_size": 32, "checkpoints": 3},
    "noise": [{"kind": "random", "share": 0.1}],
    "remove": [0.1, 0.2],
    "seeds": [0],
    "trainings": 1,
}
GAME: dict[str, Any] = {
    "dataset": {"name": "digits", "classes": [3, 8], "train": 80, "test": 60},
    "recipe": {"model": "linear", "train": "additive:sums"},
    "estimator": "additive:Sums",
    "filter": [{"name": "unhelpful", "parts": 3}, "perfect-filter"],
    "memorisation": [],
    "noise": [{"kind": "random", "share": 0.2}],
    "remove": [0.1, 0.2, 0.5],
    "seeds": [3],
    "trainings": 1,
}


def cleaned(raw: dict[str, Any], folder: Path) -> list[Record]:
    done = run_cleaning(parse_cleaning(raw), Place(folder))
    assert done.failed == ()
    return [log.read(path, "clean") for path in done.logs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cleaned")
    cleaned(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    [path] = folder.glob("clean-*.h5")
    return log.read(path, "clean")


def labels(record: Record) -> list[str]:
    return [criterion["label"] for criterion in record.config["criteria"]]


def material(cleaning: Cleaning) -> Any:
    parts = read_parts(cleaning.source, Place(Path()))
    [noise] = cleaning.noise
    [seed] = cleaning.seeds
    return material_of(cleaning, parts, noise, seed, "cpu")


# --- what is planted is found, and removing nothing changes nothing ---


def test_planted_noise_is_found_far_beyond_chance_and_not_by_random_removal(
    record: Record,
):
    planted = record.data[names.ROW_LABEL] != record.data[names.ROW_GIVEN]
    n = len(planted)
    count = int(planted.sum())
    assert count == round(0.1 * n)
    chance = count / n
    # of a draw of as many rows without replacement
    spread = (chance * (1 - chance) * (n - count) / (n - 1) / count) ** 0.5
    for label, scores in zip(
        labels(record), record.data[names.CRITERIA_SCORE], strict=True
    ):
        first = np.argsort(-scores, kind="stable")[:count]
        found = planted[first].mean()
        if label == "random-filter":
            assert abs(found - chance) < 4 * spread
        else:
            assert found > chance + 8 * spread, label


def test_where_nothing_is_removed_the_model_is_that_of_all_rows_bit_for_bit():
    cleaning = parse_cleaning(SMALL)
    data = material(cleaning)
    scores = torch.rand(len(data.train))
    assert kept(scores, 0.0).all()
    again = train(data.train.take(kept(scores, 0.0)), cleaning.recipe, 0)
    first = train(data.train, cleaning.recipe, 0)
    for key, value in first.checkpoints[-1].state.items():
        assert torch.equal(value, again.checkpoints[-1].state[key])


def test_the_accuracy_without_removal_is_that_of_the_run_that_was_judged(
    record: Record,
):
    cleaning = parse_cleaning(SMALL)
    data = material(cleaning)
    run = train(data.train, cleaning.recipe, 0)
    for name, points in (
        (names.RIGHT_TEST, data.test),
        (names.RIGHT_HELD_OUT, data.held_out),
    ):
        right = predict(run.model(), points.x).argmax(1) == points.y
        stored = record.data[name]
        for criterion in range(len(stored)):
            assert (stored[criterion, 0, 0] == right.numpy()).all()


def test_the_accuracy_after_removal_is_that_of_a_model_trained_without_the_rows(
    record: Record,
):
    cleaning = parse_cleaning(SMALL)
    data = material(cleaning)
    number = labels(record).index("loss-rank")
    scores = torch.as_tensor(record.data[names.CRITERIA_SCORE][number])
    run = train(data.train.take(kept(scores, 0.2)), cleaning.recipe, 0)
    right = predict(run.model(), data.test.x).argmax(1) == data.test.y
    stored = record.data[names.RIGHT_TEST][number, 2, 0]
    assert (stored == right.numpy()).mean() > 0.98  # equal up to rounding


# --- an additive game ---


def test_in_an_additive_game_scores_and_accuracies_are_those_of_the_sums(
    tmp_path: Path,
):
    """Margins are sums over rows: those without some rows are known without training."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, size in (("train", 80), ("test", 60)):
        y = np.arange(size) % 2
        x = rng.normal(size=(size, 5)) + 0.3 * (2 * y[:, None] - 1)
        parts[name] = str(tmp_path / f"{name}.npz")
        np.savez(parts[name], x=x.astype("float32"), y=y)
    raw = {**GAME, **parts, "remove": [0.2, 0.5, 0.8, 0.95]}
    del raw["dataset"]
    [record] = cleaned(raw, tmp_path)
    data = material(parse_cleaning(raw))
    run = train(data.train, parse_cleaning(raw).recipe, 3)
    scorer = Sums().fit(run)
    effect = scorer(data.held_out)
    place = labels(record).index("unhelpful parts=3, Sums")
    scores = record.data[names.CRITERIA_SCORE][place]
    mean = effect.mean(0).double().numpy()
    told = f"{names.CRITERIA_TOLD}{place}/{names.AGREEMENT}"
    np.testing.assert_allclose(scores, -mean * record.data[told], rtol=1e-4, atol=1e-6)
    margins = scorer(data.test).double()  # (m0, n), each row's part of the margin
    patterns = set()
    for number, of_criterion in enumerate(record.data[names.CRITERIA_SCORE]):
        for at, share in enumerate(record.config["remove"]):
            keep = kept(torch.as_tensor(of_criterion), share)
            margin = margins[:, keep].sum(1)
            clear = margin.abs() > 1e-3
            right = torch.as_tensor(record.data[names.RIGHT_TEST][number, at, 0])
            assert ((margin > 0) == right)[clear].all()
            assert clear.float().mean() > 0.9
            patterns.add(tuple(right.tolist()))
    assert len(patterns) > 6  # removal matters here


def test_the_perfect_filter_removes_the_planted_rows_alone(tmp_path: Path):
    [record] = cleaned(GAME, tmp_path)
    place = labels(record).index("perfect-filter")
    keep = kept(torch.as_tensor(record.data[names.CRITERIA_SCORE][place]), 0.2)
    planted = record.data[names.ROW_LABEL] != record.data[names.ROW_GIVEN]
    assert (~keep.numpy() == planted).all()


def test_equal_sets_of_rows_are_trained_on_once_and_seeds_differ():
    data = material(parse_cleaning(GAME))
    scores = torch.rand(1, len(data.train)).repeat(2, 1)
    recipe = Recipe("mlp", epochs=1, checkpoints=1, lr=0.01)
    right = retrained(data, scores, [0.0, 0.3], recipe, seeds_of(3, 2))
    assert right.test.shape == (2, 2, 2, 60)
    assert right.held_out.shape == (2, 2, 2, 16)
    assert torch.equal(right.test[0], right.test[1])
    assert not torch.equal(right.test[0, 0, 0], right.test[0, 0, 1])
    assert seeds_of(3, 2)[0] == 3


# --- rows, noise, points ---


def test_the_rows_that_are_removed_are_those_of_the_highest_finite_scores():
    scores = torch.tensor([0.0, torch.nan, 5.0, 3.0, 3.0, -torch.inf])
    assert kept(scores, 0.2).tolist() == [True, True, False, True, True, True]
    assert kept(scores, 0.4).tolist() == [True, True, False, False, True, True]
    assert kept(scores, 0.99).tolist() == [False, True, False, False, False, True]
    assert kept(torch.ones(3), 0.99).sum() == 1


@pytest.mark.parametrize("kind", ["random", "class"])
def test_noise_changes_as_many_labels_as_it_says(kind: Any):
    y = torch.arange(1400) % 7
    noisy = with_noise(y, 7, Noise(kind, 0.3), 1, 1)
    changed = noisy != y
    assert changed.sum() == 420
    assert noisy.min() >= 0
    assert noisy.max() < 7
    targets = [set(noisy[changed & (y == label)].tolist()) for label in range(7)]
    if kind == "class":
        assert all(len(found) == 1 for found in targets)
        assert len(set.union(*targets)) == 7
    else:
        assert all(len(found) == 6 for found in targets)
    assert not torch.equal(noisy, with_noise(y, 7, Noise(kind, 0.3), 2, 1))
    assert torch.equal(with_noise(y, 7, Noise(), 1, 1), y)
    with pytest.raises(DataError, match="none of 3 rows"):
        with_noise(y[:3], 7, Noise(kind, 0.1), 1, 1)


def test_noise_reaches_the_held_out_points_where_it_is_asked_for():
    clean = material(parse_cleaning(SMALL))
    noise = {"kind": "class", "share": 0.1, "held_out": True}
    noisy = material(parse_cleaning({**SMALL, "noise": noise}))
    assert torch.equal(noisy.held_out.x, clean.held_out.x)
    changed = noisy.held_out.y != clean.held_out.y
    assert changed.sum() == 8
    assert noisy.planted.sum() == 32
    # one and the same wrong label for a class, on both sides
    pairs = set(
        zip(
            clean.held_out.y[changed].tolist(),
            noisy.held_out.y[changed].tolist(),
            strict=True,
        )
    )
    rows = noisy.planted
    own = set(
        zip(noisy.given[rows].tolist(), noisy.train.y[rows].tolist(), strict=True)
    )
    assert len(own) == 10
    assert pairs <= own


def test_held_out_points_are_no_training_rows_and_keep_their_labels(record: Record):
    digits, _ = load("digits")
    data = material(parse_cleaning(SMALL))
    assert len(data.train) + len(data.held_out) == 400
    assert (data.train.x == digits.x[data.row]).all()
    assert (data.given == digits.y[data.row]).all()
    rows = {row.numpy().tobytes() for row in digits.x[data.row]}
    held = {row.numpy().tobytes() for row in data.held_out.x}
    tested = {row.numpy().tobytes() for row in data.test.x}
    assert not held & tested
    assert not rows & held
    assert (record.data[names.ROW] == data.row.numpy()).all()
    counts = data.held_out.y.bincount(minlength=10)
    assert counts.min() >= 6  # 80 points, the labels in proportion
    with pytest.raises(DataError, match="sets 0 of 3 rows apart"):
        set_apart(random_data(3), 0.1, 0)


# --- what the logs come to ---


def by_hand(right: Any, held: Any, shares: list[float], path: Path) -> Path:
    """A log of two criteria and as many points as are given."""
    n = 10
    label = np.arange(n) % 2
    given = label.copy()
    given[:2] = 1 - given[:2]
    scores = np.stack([np.arange(n, 0, -1.0), np.arange(n, dtype=float)])
    criteria = [{"label": "mine"}, {"label": "random-filter"}]
    log.write(
        path,
        "clean",
        config={
            "criteria": criteria,
            "remove": shares,
            "noise": {"label": "some"},
            "seed": 0,
        },
        data={
            names.ROW: np.arange(100, 100 + n),
            names.ROW_GIVEN: given,
            names.ROW_LABEL: label,
            names.CRITERIA_SCORE: scores,
            f"{names.CRITERIA_TOLD}0/{names.SUSPECT}": scores[0] > 6,
            names.RIGHT_TEST: np.asarray(right, bool),
            names.RIGHT_HELD_OUT: np.asarray(held, bool),
        },
    )
    return path


def curves(tmp_path: Path) -> tuple[Curve, ...]:
    test = [
        [[[1, 1, 0, 0]], [[1, 1, 1, 1]], [[1, 0, 0, 0]]],
        [[[1, 1, 0, 0]], [[0, 1, 0, 0]], [[1, 1, 0, 0]]],
    ]
    held = [[[[0, 0]], [[0, 1]], [[1, 1]]], [[[1, 1]], [[1, 1]], [[0, 1]]]]
    path = by_hand(test, held, [0.0, 0.2, 0.4], tmp_path / "clean-x.h5")
    [outcome] = outcomes([path])
    assert (outcome.planted, outcome.rows, outcome.seeds) == (2, 10, (0,))
    return outcome.curves


def test_accuracy_is_of_the_test_points_and_the_share_is_chosen_by_the_held_out(
    tmp_path: Path,
):
    mine, other = curves(tmp_path)
    assert [metric.value for metric in mine.accuracy] == [0.5, 1.0, 0.25]
    assert [metric.value for metric in mine.gain] == [0.0, 0.75, -0.25]
    assert mine.held_out == (0.0, 0.5, 1.0)
    assert mine.chosen == 2
    assert other.chosen == 0  # the smaller of two


def test_what_is_found_is_counted_among_planted_rows(tmp_path: Path):
    mine, other = curves(tmp_path)
    assert mine.found.auroc.value == 1.0
    assert mine.found.recall.value == 1.0
    assert mine.found.suspects.value == 4
    assert mine.found.precision.value == 0.5
    assert mine.found.of_planted.value == 1.0
    assert other.found.auroc.value == 0.0
    assert other.found.suspects.value is None


def test_differences_are_paired_by_point():
    rng = np.random.default_rng(0)
    shared = (rng.random(4000) < 0.5).astype(float)
    better = shared.copy()
    better[np.flatnonzero(shared == 0)[:40]] = 1.0
    metric = difference_of([better], [shared])
    assert metric.value == pytest.approx(0.01)
    assert metric.interval is not None
    low, high = metric.interval
    want = 1.96 * (0.01 * 0.99 / 4000 + 2 / 4002**2) ** 0.5
    assert (high - low) / 2 == pytest.approx(want, rel=0.01)


def test_where_nothing_differs_the_interval_of_a_gain_is_not_a_point():
    same = np.ones(50)
    metric = difference_of([same, same], [same, same])
    assert metric.value == 0
    assert metric.interval is not None
    low, high = metric.interval
    assert low == -high < -0.01


def test_the_table_of_suspects_has_the_rows_that_the_largest_share_removes(
    tmp_path: Path,
):
    curves(tmp_path)
    path = tmp_path / "suspects.csv"
    assert write_suspects([tmp_path / "clean-x.h5"], path) == 4
    with path.open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["row"]) for line in lines] == [100, 101, 102, 103]
    assert [line["removed_at"] for line in lines] == ["0.2", "0.2", "0.4", "0.4"]
    assert [line["planted"] for line in lines] == ["1", "1", "0", "0"]
    assert {line["criterion"] for line in lines} == {"mine"}
    assert lines[0]["reason"] == "mine 10, above that of 90.0% of the rows"


def test_every_criterion_gives_its_own_reasons(folder: Path, record: Record):
    path = folder / "suspects.csv"
    count = write_suspects([record.path], path)
    with path.open() as file:
        lines = list(csv.DictReader(file))
    n = len(record.data[names.ROW])
    assert count == len(lines) == 4 * round(0.2 * n)
    first = {line["criterion"]: line["reason"] for line in reversed(lines)}
    assert "hurts the held-out points" in first["unhelpful, gas"]
    assert "models that did not see it" in first["confident-learning"]
    assert first["loss-rank"].startswith("loss-rank ")
    assert first["self-influence, tracin"].startswith("memorised")


# --- files ---


def test_the_file_that_is_written_parses_to_the_same_cleaning():
    raw = {
        **SMALL,
        "estimator": ["gas", {"name": "tracin", "weights": "balanced"}],
        "filter": [{"name": "unhelpful", "estimator": "gas"}],
        "memorisation": {"name": "self-influence", "estimator": "tracin"},
        "held_out": 0.3,
    }
    cleaning = parse_cleaning(raw)
    assert [criterion.name for criterion in cleaning.criteria] == [
        "unhelpful, gas",
        "self-influence, tracin weights=balanced",
        "random-filter",
    ]
    assert set(parse_cleaning(loaded(resolved_cleaning(cleaning))).criteria) == set(
        cleaning.criteria
    )
    again = parse_cleaning(loaded(resolved_cleaning(cleaning)))
    assert replace(again, criteria=cleaning.criteria) == cleaning


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["clean", *arguments])


MODULE = """
import torch
from torch import nn
from torch.nn import functional as F

def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))

def descend(model, data, seed):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(data.x), data.y).backward()
        optimizer.step()
    yield 40, 0.5, model.state_dict()

def fails(model, data, seed):
    raise RuntimeError("no such step")
    yield

def held():
    import numpy as np
    with np.load("held.npz") as file:
        return file["x"], file["y"]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as a user may have them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "cleaned_net.py").write_text(MODULE)
    train_set, test = load("digits")
    parts = {
        "train": train_set.take(torch.arange(200)),
        "held": train_set.take(torch.arange(200, 280)),
        "test": test.take(torch.arange(150)),
        "part": train_set.take(torch.arange(190, 160, -1)),
    }
    for name, part in parts.items():
        np.savez(folder / f"{name}.npz", x=part.x.numpy(), y=part.y.numpy())
    np.savez(folder / "bare.npz", x=test.x[:20].numpy())
    return folder


@pytest.fixture
def inside(own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(own)
    monkeypatch.syspath_prepend(own)
    return own


OWN = ["--train", "train.npz", "--test", "test.npz", "--model", "cleaned_net:net"]
QUICK = ["--remove", "0.1", "--set", "seeds=[0]", "--set", "trainings=1"]
LOOP = ["--set", "recipe.train=cleaned_net:descend"]


def test_data_model_and_loop_of_the_user_are_cleaned(inside: Path, tmp_path: Path):
    folder = tmp_path / "out"
    figure = tmp_path / "own.svg"
    files = [*OWN, *LOOP, "--held-out", "cleaned_net:held", *QUICK]
    result = call(*files, "--figure", str(figure), "-o", str(folder))
    assert result.exit_code == 0, result.output
    assert "ACCURACY: no planted noise, 200 training rows, seeds 0" in result.output
    assert "PLANTED" not in result.output
    assert "unhelpful, gas" in result.output
    [path] = folder.glob("clean-*.h5")
    record = log.read(path, "clean")
    assert record.data[names.ROW].tolist() == list(range(200))
    assert record.data[names.RIGHT_HELD_OUT].shape[-1] == 80
    assert record.data[names.RIGHT_TEST].shape[-1] == 150
    # the estimators see the loop's run
    assert record.data[names.RIGHT_TEST][:, 0].mean() > 0.5
    assert (folder / "suspects.csv").is_file()
    assert "no planted noise" in figure.read_text(encoding="utf-8")
    shown = CliRunner().invoke(main, ["show", str(path)])
    assert "kind: clean" in shown.output


def test_what_is_done_is_not_done_again_and_what_is_damaged_is_made_anew(
    inside: Path, tmp_path: Path
):
    arguments = [*OWN, *LOOP, *QUICK, "--filter", "loss-rank", "--estimator", "tracin"]
    arguments += ["--set", "memorisation=[]", "-o", str(tmp_path)]
    assert call(*arguments).exit_code == 0
    [path] = tmp_path.glob("clean-*.h5")
    before = log.read(path)
    stamp = path.stat().st_mtime_ns
    assert call(*arguments).exit_code == 0
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(path.read_bytes()[:500])
    assert call(*arguments).exit_code == 0
    assert log.same_results(log.read(path), before)
    assert call(*arguments, "--set", "held_out=0.3").exit_code == 0
    assert len(list(tmp_path.glob("clean-*.h5"))) == 2


@pytest.mark.parametrize("seen", [5, 20])
def test_parts_that_share_instances_are_refused_with_their_number(seen: int):
    train = random_data(60, (6,), seed=0)
    new = random_data(40, (6,), seed=1)
    more = random_data(40, (6,), seed=2)
    mixed = new.rows(torch.cat([train.x[:seen], new.x[seen:]]), new.y)
    crossed = new.rows(torch.cat([more.x[:seen], new.x[seen:]]), new.y)
    check_apart(train, new, more)
    with pytest.raises(DataError, match=f"{seen} of 40 points on which accuracy"):
        check_apart(train, mixed, more)
    with pytest.raises(DataError, match=rf"{seen} of 40 held-out .* training set"):
        check_apart(train, more, mixed)
    with pytest.raises(DataError, match=rf"{seen} of 40 held-out .* test points"):
        check_apart(train, more, crossed)


def test_parts_that_share_a_few_instances_by_chance_are_told_of():
    train = random_data(60, (6,), seed=0)
    new = random_data(40, (6,), seed=1)
    mixed = new.rows(torch.cat([train.x[:2], new.x[2:]]), new.y)
    with pytest.warns(RunWarning, match="2 of 40 points on which accuracy"):
        check_apart(train, mixed, None)


@given(
    copies=st.lists(st.integers(0, 30), min_size=30, max_size=60),
    seed=st.integers(0, 5),
)
@settings(max_examples=30, deadline=None)
def test_copies_of_an_instance_are_held_out_together(copies: list[int], seed: int):
    source = random_data(31, (4,), 2)
    x = source.x[copies]
    data = source.rows(x, torch.arange(len(x)) % 2)
    assume(len(set(copies)) > 9)  # fewer may leave nothing on one side
    apart = set_apart(data, 0.3, seed)
    held = {copies[row] for row in apart.nonzero().squeeze(1).tolist()}
    left = {copies[row] for row in (~apart).nonzero().squeeze(1).tolist()}
    assert not held & left


def test_rows_that_are_all_copies_cannot_be_set_apart():
    source = random_data(1, (4,), 2)
    data = source.rows(source.x.repeat(20, 1), torch.arange(20) % 2)
    with pytest.raises(DataError, match="20 rows with copies among them"):
        set_apart(data, 0.3, 0)


def test_without_copies_the_rows_set_apart_are_those_drawn():
    data = random_data(50, (4,), 2)
    wanted = stratified(data, 10, derive(3, "held-out"))
    assert torch.equal(set_apart(data, 0.2, 3).nonzero().squeeze(1), wanted)


REFUSED = [
    (["--set", "recipe.epochs=0"], "epochs must be at least 1"),
    (["--set", "recpie.epochs=3"], "unknown key"),
    (["--filter", "unhelpfull"], "unhelpful"),
    (["--estimator", "toy_estimator:Flat"], "has no method self_influence"),
    (["--set", "estimator=[]"], "works on influence: name an estimator"),
    (["--remove", "1.0"], "each share of remove"),
    (["--noise", "random"], "share must lie in (0, 1), got 0.0"),
    (["--noise", "sometimes:0.1"], "should be 'none', 'random' or 'class'"),
    (["--filter", "perfect-filter"], "knows the planted noise, and there is none"),
    (["--dataset", "digits"], "not both"),
    (
        ["--held-out", "test.npz"],
        "held-out points, by which rows are chosen, are test points",
    ),
    (
        ["--held-out", "train.npz"],
        "held-out points, by which rows are chosen, are rows of",
    ),
    (["--test", "train.npz"], "accuracy is reported are rows of the training set"),
    (["--test", "part.npz"], "accuracy is reported are rows of the training set"),
    (
        ["--set", 'estimator=["screened"]', "--set", "memorisation=[]"],
        "and Screened gives that of the most influential",
    ),
    (["--held-out", "bare.npz"], "has no labels"),
    (["--held-out", "1.5"], "held_out"),
    (["--train", "nowhere.npz"], "nowhere.npz"),
    (["--model", "text-cnn"], "recipe.model"),
    (["--estimator", "hydra", *LOOP], "needs the batch and the learning rate"),
    (["--figure", "x.gif"], "a picture ends in"),
    (["--set", "seeds=[-1]"], "seeds must be at least 0"),
    (["--set", "trainings=0"], "trainings must be at least 1"),
    (
        ["--set", 'filter=[{name = "unhelpful", estimator = "trakk"}]'],
        "has no [[estimator]] 'trakk'",
    ),
]


@pytest.mark.parametrize(("options", "told"), REFUSED, ids=lambda o: str(o)[:40])
def test_what_cannot_be_done_is_told_before_any_work(
    options: list[str], told: str, inside: Path, tmp_path: Path
):
    folder = tmp_path / "out"
    result = call(*OWN, *QUICK, "-o", str(folder), *options)
    assert result.exit_code == 2, result.output
    assert told in result.output
    assert not list(folder.glob("*.h5"))
    assert not (folder / "suspects.csv").exists()


def test_a_loop_that_fails_leaves_nothing_half(inside: Path, tmp_path: Path):
    arguments = [*OWN, *QUICK, "-o", str(tmp_path)]
    result = call(*arguments, "--set", "recipe.train=cleaned_net:fails")
    assert result.exit_code == 1
    assert "no such step" in result.output
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".h5"] == []
    assert not (tmp_path / "suspects.csv").exists()


def test_a_criterion_to_which_all_rows_are_alike_is_told(inside: Path, tmp_path: Path):
    result = call(
        *OWN,
        *LOOP,
        *QUICK,
        *["--estimator", "toy_estimator:Flat", "--set", "memorisation=[]"],
        *["--filter", "unhelpful", "-o", str(tmp_path)],
    )
    assert result.exit_code == 0, result.output
    assert "unhelpful, Flat: all rows alike, removed by position" in result.output


def test_the_grids_of_the_page_are_sound():
    grids = Path(__file__).parent.parent / "experiments" / "grids" / "cleaning"
    for path in grids.glob("*.toml"):
        pytest.importorskip("cleanlab")
        cleaning = parse_cleaning(loaded(path.read_text(encoding="utf-8")))
        assert len(cleaning.criteria) >= 6
