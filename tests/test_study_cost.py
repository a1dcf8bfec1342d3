"""The study of costs: the fit of exponents, the bytes that scorers keep, and a small run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import random_data
from torch import Tensor, nn

from estimators.gas import GAS
from experiments.study.__main__ import main
from experiments.study.cost import measured
from experiments.study.cost.contestants import CONTESTANTS, Claim, Contestant
from experiments.study.cost.exponents import Exponent, exponent
from experiments.study.cost.held import held_bytes
from experiments.study.cost.measured import Growth, Spent, growths
from experiments.study.cost.numbers import read, save
from experiments.study.cost.sizes import Sizes, case
from experiments.study.cost.tables import is_apart, page
from poisonbench.data import Dataset
from poisonbench.training import Recipe, Trace, train

SIZES = (100, 200, 400, 800)
SMALL = Sizes(n=8, width=4, steps=16, models=1, m=2, batch=8)


# --- the fit


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_made_up_cost_is_found(power: float):
    costs = [[3e-3 * size**power] * 2 for size in SIZES]
    found = exponent(SIZES, costs)
    assert found.value == pytest.approx(power, abs=1e-12)
    assert found.last == pytest.approx(power, abs=1e-12)
    assert found.high - found.low < 1e-6


def test_a_constant_overhead_bends_the_line_and_the_last_doubling_tells():
    costs = [[100 + size] for size in SIZES]
    found = exponent(SIZES, costs)
    assert 0.5 < found.value < found.last < 1.0
    assert found.low < found.value < found.high


def test_intervals_hold_the_exponent_as_often_as_they_say():
    draws = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        noise = np.exp(0.1 * draws.standard_normal((4, 3)))
        costs = np.asarray(SIZES)[:, None] ** 1.3 * noise
        found = exponent(SIZES, costs.tolist())
        held += found.low <= 1.3 <= found.high
    assert 0.92 < held / 400 < 0.98


def test_what_deviates_from_what_is_claimed_is_told_from_the_last_doubling():
    assert not is_apart(Exponent(0.2, 0.0, 0.4, 0.9), 1.0)
    assert is_apart(Exponent(1.0, 0.9, 1.1, 0.2), 1.0)


# --- what is kept


def test_a_scorer_keeps_what_its_run_does_not_have():
    recipe = Recipe("linear", epochs=1, batch_size=8, checkpoints=1)
    trace = train(random_data(16), recipe, 0)
    kept = torch.zeros(5, 7)
    model = nn.Linear(3, 2)

    @dataclass(frozen=True)
    class Holder:
        rows: dict[str, Tensor]
        view: Tensor

    holder = Holder({"a": kept}, kept[1:])

    def scorer(test: Dataset) -> Tensor:
        return holder.rows["a"] + trace.train.x[0, 0] + model(test.x)

    assert held_bytes(scorer, trace) == 4 * (5 * 7 + 3 * 2 + 2)
    assert held_bytes(GAS().fit(trace), trace) == 0


# --- the runs


def test_a_case_has_the_sizes_that_it_is_asked_for():
    found = case(SMALL)
    assert len(found.trace.train) == 8
    assert len(found.trace.checkpoints) == 1
    assert found.trace.checkpoints[-1].step == 16
    assert found.size("p") == 75 * 4 + 10
    assert len(found.test) == len(found.more) == 2
    assert not torch.equal(found.test.x, found.more.x)
    grown = case(SMALL.grown("p", 2)).size("p")
    assert grown == 75 * 8 + 10
    twice = case(SMALL.grown("n", 2))
    assert len(twice.trace.train) == 16
    assert twice.trace.checkpoints[-1].step == 16
    assert len(case(SMALL.grown("K", 2)).trace.checkpoints) == 2
    with pytest.raises(ValueError, match="no whole passes over 256"):
        case(SMALL.grown("n", 32))


class Clock:
    """A clock that what is measured moves."""

    now = 0.0

    def process_time(self) -> float:
        return self.now


CLOCK = Clock()


@dataclass(frozen=True)
class MadeUp:
    """An estimator whose fit takes a time in proportion to n^1.5, and a scorer to m."""

    needs: ClassVar[tuple[str, ...]] = ("final model",)

    def fit(self, trace: Trace) -> Callable[[Dataset], Tensor]:
        n = len(trace.train)
        CLOCK.now += 1e-3 * n**1.5
        kept = torch.zeros(n, 3)

        def score(test: Dataset) -> Tensor:
            CLOCK.now += 1e-6 * len(test)
            return kept[: len(test)]

        return score


MADE_UP = Contestant(
    name="made up",
    make=lambda _: MadeUp(),
    base=Sizes(n=64, width=4, steps=64, models=1, m=2, batch=8),
    axes=("n", "m"),
    claim=Claim(full={"n": 1.5}, held={"n": 1.0}),
)


def test_growth_is_measured_along_the_axes_of_a_contestant(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(measured, "time", CLOCK)
    by_n, by_m = growths([MADE_UP], rounds=2)
    assert (by_n.axis, by_n.sizes) == ("n", (64, 128, 256, 512))
    assert (by_m.axis, by_m.sizes) == ("m", (2, 4, 8, 16))
    full = exponent(by_n.sizes, by_n.of("full"))
    assert full.value == pytest.approx(1.5, abs=1e-3)
    assert exponent(by_m.sizes, by_m.of("full")).value == pytest.approx(0.0, abs=1e-3)
    more = exponent(by_m.sizes, by_m.of("more"))
    assert more.value == pytest.approx(1.0, abs=1e-3)
    held = exponent(by_n.sizes, by_n.of("held"))
    assert held.value == pytest.approx(1.0, abs=1e-12)
    assert {len(row) for row in by_n.spent} == {2}


def test_tables_and_files_have_what_was_measured(tmp_path: Path):
    spent = tuple((Spent(2.0 * size, 1.0, 12 * size, 2**20),) for size in SIZES)
    growth = Growth("made up", "n", SIZES, spent)
    flat = tuple((Spent(2.0, 1.0, 0, 2**20),) for _ in SIZES)
    found = [growth, Growth("made up", "m", SIZES, flat)]
    text = page([MADE_UP], found)
    assert "**1.00 [1.00, 1.00]; 1.00 (1.5)**" in text
    assert "| 1.00 [1.00, 1.00]; 1.00 (1) |" in text
    assert "| none |" in text
    assert "1.0, 1.0" in text
    file = tmp_path / "costs.json"
    save(found, file)
    assert read(file) == found


def test_the_study_in_small(tmp_path: Path):
    figure = tmp_path / "cost.svg"
    numbers = tmp_path / "costs.json"
    arguments = ["cost", "--only", "tracin, check", "--divide", "64"]
    arguments += ["--rounds", "1", "--figure", str(figure), "--numbers", str(numbers)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.count("TracIn, checkpoints") == 4
    assert "seconds over those at the smallest size" in figure.read_text("utf-8")
    again = CliRunner().invoke(main, arguments)
    assert again.output == result.output


def test_an_estimator_that_is_not_there_is_told():
    result = CliRunner().invoke(main, ["cost", "--only", "hydro"])
    assert result.exit_code == 2
    assert "no estimator has hydro" in result.output


def test_every_estimator_of_the_table_of_the_field_is_measured():
    names = " ".join(one.name for one in CONTESTANTS).lower()
    for word in ("leave-one-out", "downsampling", "shapley", "influence functions"):
        assert word in names
    for word in ("representer point", "tracin", "hydra", "gas", "trak"):
        assert word in names
    for one in CONTESTANTS:
        assert set(one.axes) >= {"n", "p", "T", "m"}
        largest = one.base.n * 8
        assert one.base.steps * one.base.batch % largest == 0
