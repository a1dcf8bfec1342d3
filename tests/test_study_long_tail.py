"""The study of the long tail: rows whose memorisation is known, and a small run of it all."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import random_data

from estimators.downsampling import Downsampling
from experiments.study.__main__ import main
from experiments.study.long_tail.found import (
    Found,
    rank_agreement,
    reliability,
    shared_top,
)
from experiments.study.long_tail.memorised import (
    KNOWN,
    LOSS,
    SLOW,
    memorisation,
    self_influence,
)
from experiments.study.long_tail.pictures import check_images, chosen_rows
from experiments.study.long_tail.removed import accuracies, without_first
from experiments.study.runs import chosen
from poisonbench.data import Dataset, load
from poisonbench.errors import ConfigError
from poisonbench.training import Recipe, train


def unlike_any_other(n: int) -> Dataset:
    """Rows that share nothing: by sums of rows each is known from itself alone."""
    y = torch.arange(n) % 2
    return Dataset(torch.eye(n, dtype=torch.float64), y, 2)


SUMS = Recipe("linear", train="additive:sums")
CORRECT = Downsampling(models=60, fraction=0.5, measure="correct")


def test_rows_that_are_known_from_themselves_alone_are_memorised_wholly():
    """Without a row its margin is 0, a tie that goes to label 0: rows of label 1 are then lost."""
    data = unlike_any_other(24)
    found = memorisation(data, SUMS, CORRECT, 0)
    assert found.score.tolist() == data.y.double().tolist()
    assert torch.equal(found.halves, found.score.expand(2, -1))
    assert (found.error == 0).all()


def test_copies_of_a_row_are_not_memorised():
    data = unlike_any_other(12)
    rows = torch.arange(12).repeat_interleave(8)
    found = memorisation(data.take(rows), SUMS, CORRECT, 0)
    assert found.score.abs().max() < 0.2


def test_memorisation_is_the_self_influence_of_downsampling():
    data = random_data(40, (6,), 3)
    recipe = Recipe("mlp", epochs=3, lr=0.1)
    design = Downsampling(models=12, fraction=0.7, measure="correct")
    found = memorisation(data, recipe, design, 3)
    want = design.self_influence(train(data, recipe, 3))
    torch.testing.assert_close(found.score, want.double(), equal_nan=True)
    # each half of the models knows less, and something else
    first, second = found.halves
    assert not torch.allclose(first, second, equal_nan=True)
    assert (first.isnan() | second.isnan() | found.score.isfinite()).all()


def test_accuracy_without_rows_is_that_of_a_model_trained_without_them():
    data = unlike_any_other(20)
    # what is removed of label 1 is lost, in a test set of the rows themselves
    first = torch.arange(20, 0, -1).double()
    found = accuracies(data, data, {"first": first}, [0.0, 0.25, 0.5], SUMS, 3, 0)
    assert found.shape == (2, 3, 3)
    # of rows 0-4 two are of label 1, of rows 0-9 five
    assert found[0].tolist() == [[1.0] * 3, [0.9] * 3, [0.75] * 3]
    assert (found[:, 0] == 1).all()
    assert len(set(found[1, 1:].flatten().tolist())) > 1  # random rows differ


def test_the_first_of_an_order_are_removed():
    order = torch.tensor([3, 0, 4, 1, 2])
    assert without_first(order, 0.4).tolist() == [False, True, True, False, True]
    assert without_first(order, 0.0).all()


def test_ranks_and_tops_of_cases_by_hand():
    truth = np.array([0.0, 0.1, 0.2, 0.3])
    assert rank_agreement(truth**3, truth) == pytest.approx(1)
    assert rank_agreement(-truth, truth) == pytest.approx(-1)
    assert np.isnan(rank_agreement(np.ones(4), truth))
    assert np.isnan(rank_agreement(np.array([1, np.nan, 2, 3]), truth))
    assert shared_top(np.array([1.0, 2, 9, 8]), truth, 0.5) == 1.0
    assert shared_top(np.array([1.0, 9, 2, 8]), truth, 0.5) == 0.5
    # two halves that agree by .5 are together reliable by 2/3
    halves = np.array([[1.0, 2, 3], [1.0, 3, 2]])
    assert reliability(halves) == pytest.approx(2 / 3)


def test_each_estimator_ranks_mislabelled_rows_above_the_others():
    """A wrong label is the plainest case of a row that can only be memorised."""
    data = load("digits")[0].take(torch.arange(100))
    wrong = data.y.clone()
    wrong[:8] = (wrong[:8] + 3) % 10
    recipe = Recipe("mlp", epochs=25, lr=0.1, batch_size=32)
    run = train(data.relabel(wrong), recipe, 0)
    names = [name for name in chosen([], KNOWN, SLOW) if name != LOSS]
    assert SLOW not in names
    for name, scores in zip(names, self_influence(run, names), strict=True):
        above = (scores[:8, None] > scores[8:]).double().mean()
        assert above > 0.85, name


def test_a_line_of_pictures_has_the_most_memorised_and_some_that_are_not():
    scores = torch.tensor([0.9, 0.1, 0.0, 0.5, 0.3, -0.4, 0.02])
    members = torch.tensor([True, True, True, True, False, True, True])
    line = chosen_rows(members, scores)
    assert line[:6] == [0, 3, 1, 6, 2, 5]
    assert line[6:] == [None] * 6
    many = chosen_rows(torch.ones(30, dtype=torch.bool), torch.linspace(1, 0, 30))
    assert many == [*range(8), None, 29, 28, 27]
    with pytest.raises(ConfigError, match="of kind vector"):
        check_images(random_data(3, (6,)))


SMALL = ["long-tail", "--dataset", "digits", "--train", "60", "--models", "8"]
SMALL += ["--runs", "2", "--repeats", "2", "--epochs", "3", "--share", "0.1"]
SMALL += ["--estimator", "TracIn", "--estimator", LOSS]


def test_one_command_shows_the_tables_and_draws_the_figures(tmp_path: Path):
    numbers = tmp_path / "tail"  # any name will do
    figure = tmp_path / "tail.svg"
    pictures = tmp_path / "tail.png"
    kept = ["--numbers", str(numbers), "--figure", str(figure)]
    kept += ["--pictures", str(pictures)]
    first = CliRunner().invoke(main, [*SMALL, *kept])
    assert first.exit_code == 0, first.output
    assert "Of 60 rows" in first.stdout
    for name in ("TracIn", LOSS, "most memorised", "least memorised", "random"):
        assert f"| {name} |" in first.stdout
    assert "memorisation of a row" in figure.read_text(encoding="utf-8")
    assert pictures.stat().st_size > 10_000

    found = Found.read(numbers)
    assert found.ways[-1] == "random"
    assert found.accuracy.shape == (5, 2, 2)
    # where nothing is removed, all ways are one
    assert (found.accuracy[:, 0] == found.accuracy[0, 0]).all()
    again = CliRunner().invoke(main, [*SMALL, *kept])
    assert again.stdout == first.stdout
