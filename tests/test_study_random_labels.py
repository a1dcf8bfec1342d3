"""The study of random labels: its statistics against closed forms, and a small run."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from scipy import stats
from torch import Tensor

from experiments.study.__main__ import main
from experiments.study.means import mean
from experiments.study.random_labels import statistics
from experiments.study.random_labels.series import Value, read, save, series
from poisonbench.seeding import generator


def rows(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_the_own_share_is_one_of_all_absolute_influence():
    own = torch.tensor([1])
    found = rows(1.0, 6.0, -3.0)
    assert statistics.own_share(found, own).item() == pytest.approx(0.6)
    assert statistics.own_first(found, own).item() == 1
    assert statistics.own_first(found, torch.tensor([0])).item() == 0
    assert statistics.next_by_own(found, own).item() == pytest.approx(1 / 6)
    assert statistics.next_by_own(found, torch.tensor([0])).item() == 6


@pytest.mark.parametrize("equal", [1, 3, 7])
@pytest.mark.parametrize("size", [1.0, 1e-180])
def test_equal_proponents_are_counted_whatever_their_size_and_the_opponents(
    equal: int, size: float
):
    found = torch.full((1, 10), -4.0 * size, dtype=torch.float64)
    found[0, :equal] = size
    assert statistics.proponents(found).item() == pytest.approx(equal)
    assert statistics.proponents(-found).item() == pytest.approx(10 - equal)


def test_balance_is_a_half():
    assert statistics.positive_share(rows(2.0, -1.0, -1.0)).item() == 0.5
    assert statistics.positive_share(rows(3.0, -1.0)).item() == 0.75
    assert statistics.proponents(rows(-1.0, -2.0)).isnan().all()


def test_agreement_is_the_rank_correlation_with_ties():
    draws = generator(0, "agreement")
    one = torch.randint(6, (4, 30), generator=draws).double()
    other = torch.randint(6, (4, 30), generator=draws).double()
    found = statistics.agreement(one, other)
    for k in range(4):
        known = stats.spearmanr(one[k], other[k]).statistic
        assert found[k].item() == pytest.approx(known)
    assert statistics.agreement(one, one.exp()).tolist() == pytest.approx([1] * 4)


def test_a_tail_is_read_among_the_rows_of_the_label():
    found = rows(0.0, 1.0, 2.0, 3.0, 4.0, 90.0, 91.0, 92.0, 500.0, 501.0, 502.0)
    train_labels = torch.tensor([0] * 8 + [1] * 3)
    label = torch.tensor([0])
    before = statistics.heaviness(found, label, train_labels)
    found[0, 8:] = 0
    assert torch.equal(before, statistics.heaviness(found, label, train_labels))
    found[0, 5] = 30.0  # the third largest
    assert statistics.heaviness(found, label, train_labels) < before


def test_the_interval_of_a_mean_is_that_of_student():
    values = [1.0, 2.0, 4.0, 9.0]
    found = mean(values)
    low, high = stats.t.interval(
        0.95, 3, loc=stats.tmean(values), scale=stats.sem(values)
    )
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert str(mean([2.0])) == "2"


def test_series_are_means_over_the_seeds_by_share(tmp_path: Path):
    def value(share: float, seed: int, found: float, name: str = "error") -> Value:
        return Value("mlp", share, seed, "model", "test points", name, found, 50)

    values = [value(1.0, 0, 0.8), value(0.0, 0, 0.1), value(1.0, 1, 0.6)]
    values.append(value(1.0, 0, 7.0, "other"))
    kept = tmp_path / "values.json"
    save(values, kept)
    assert read(kept) == values
    found = series(read(kept), "mlp", "model", "test points", "error")
    assert list(found) == [0.0, 1.0]
    assert found[1.0].value == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("name", "numbers", "least", "most"),
    [
        ("error", [0.9, 0.7, 1.0], 0, 1),
        ("error", [0.0, 0.0, 0.0], 0, 1),  # some of 50 other points may have one
        ("own first", [1.0, 0.2], 0, 1),
        ("own share", [0.01, 0.2], 0, 1),
        ("positive share", [0.98, 0.7], 0, 1),
        ("proponents", [1.5, 9.0], 1, 99),
        ("agreement", [0.99, -0.2], -1, 1),
    ],
)
def test_an_interval_holds_the_mean_and_does_not_leave_the_range(
    name: str, numbers: list[float], least: float, most: float
):
    values = [
        Value("mlp", 0.0, seed, "gas", "test points", name, number, 50)
        for seed, number in enumerate(numbers)
    ]
    found = series(values, "mlp", "gas", "test points", name)[0.0]
    assert found.value == pytest.approx(sum(numbers) / len(numbers))
    assert least <= found.low <= found.value <= found.high <= most
    assert found.low < found.high


GRID = """
name = "small"
dataset = {name = "digits", classes = [3, 8], train = 60, test = 60}
seeds = [0]
[recipe]
model = "mlp"
epochs = 60
batch_size = 16
weight_decay = 0.0
checkpoints = 2
[probe]
controls = 6
calibration = 1
[[attack]]
name = "none"
[[attack]]
name = "random-labels"
[[estimator]]
name = "gas"
[[estimator]]
name = "shapley"
method = "knn"
"""


def cells(output: str) -> list[list[str]]:
    lines = [line for line in output.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_one_command_fits_random_labels_and_shows_what_influence_says(tmp_path: Path):
    grid = tmp_path / "small.toml"
    grid.write_text(GRID, encoding="utf-8")
    figure = tmp_path / "labels.svg"
    arguments = ["random-labels", str(grid), "-o", str(tmp_path / "run")]
    arguments += ["--points", "10", "--figure", str(figure), "--workers", "0"]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    shown = cells(first.stdout)
    none, everything = shown[2], shown[3]
    assert none[0], everything[0] == ("0%", "100%")
    assert everything[1].startswith("0")
    assert float(none[2].split()[0]) < 0.2
    assert 0.2 < float(everything[2].split()[0]) < 0.8
    gas = [line for line in shown if line[0] == "gas"]
    # the cosine of a gradient with itself is the largest that there is
    assert [line[3].split()[0] for line in gas] == ["1"] * 2
    assert [line[0] for line in shown][-1] == "gas, shapley"
    assert "tail heaviness" in figure.read_text(encoding="utf-8")
    again = CliRunner().invoke(main, [*arguments[:-4], "--workers", "0"])
    assert again.stdout == first.stdout


def test_numbers_that_are_kept_are_not_those_of_another_grid(tmp_path: Path):
    grid = tmp_path / "small.toml"

    def shown(seeds: str, folder: str) -> str:
        grid.write_text(GRID.replace("seeds = [0]", f"seeds = {seeds}"))
        arguments = ["random-labels", str(grid), "-o", str(tmp_path / folder)]
        arguments += ["--points", "10", "--workers", "0"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    fewer = shown("[0]", "run")
    assert shown("[0, 1]", "run") == shown("[0, 1]", "apart") != fewer
