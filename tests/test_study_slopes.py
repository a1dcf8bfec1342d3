"""Runs with lowered weights: what they are, and where an exact derivative holds."""

import numpy as np
import torch
from click.testing import CliRunner
from conftest import random_data

from experiments.study.__main__ import main
from experiments.study.truth.slopes import (
    AFRESH,
    LOWERED,
    _told,
    held_against,
)
from experiments.study.truth.weighted import margins_of, weighted_runs
from poisonbench.training import Recipe, train, train_many

RECIPE = Recipe("mlp", epochs=3, batch_size=8, lr=0.05)


def test_rows_of_weight_zero_are_rows_left_out():
    data = random_data(30, (6,), 3)
    points = random_data(5, (6,), 3, seed=1)
    trace = train(data, RECIPE, 4)
    kept = torch.rand(4, 30, generator=torch.Generator().manual_seed(0)) < 0.6
    kept[0] = True
    got = margins_of(trace, weighted_runs(trace, kept.double()), points)
    want = train_many(
        data, kept, RECIPE, [4] * 4, batches="full", convention="A", points=points
    )
    torch.testing.assert_close(got, want.utility(points, "margin", trace.loss))


def test_the_exact_form_orders_what_small_changes_do_and_the_fast_form_does_not():
    data = random_data(40, (6,), 3)
    points = random_data(6, (6,), 3, seed=1)
    recipe = Recipe("mlp", epochs=10, batch_size=8, lr=0.1)
    found = held_against(data, points, recipe, seed=0, sets=12)
    smallest = _told(LOWERED[0])
    exact = found.scores("exact", smallest)
    assert exact.min() > 0.99
    assert found.scores("fast", smallest).mean() < 0.9
    assert np.isfinite(found.scores("exact", AFRESH)).all()


def test_the_command_shows_a_line_for_every_change():
    arguments = ["slopes", "--seeds", "2", "--sets", "4", "--points", "3"]
    result = CliRunner().invoke(main, [*arguments, "--rows", "40"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "| half of the rows | exact | fast |"
    assert len(lines) == 2 + len(LOWERED) + 1
    assert lines[-1].startswith(f"| {AFRESH} |")
