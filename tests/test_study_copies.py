"""The study of copies: a closed form, an additive game, what is chosen, and a small run."""

from pathlib import Path

import additive
import numpy as np
import pytest
import ridge
import torch
from click.testing import CliRunner
from conftest import random_data

from attacks.patch import Patch
from experiments.study.__main__ import main
from experiments.study.copies.cases import KINDS, Case, Size, choose, split
from experiments.study.copies.effects import of_run, retrained, with_copies
from experiments.study.copies.found import Found, agreement, beyond_members
from poisonbench.data import Dataset
from poisonbench.models import build
from poisonbench.training import Recipe, train

COUNTS = (1, 2, 5, 12)


def problem() -> tuple[Dataset, Case]:
    """Two classes of random pixels, an instance and four points at its label."""
    base = random_data(30, (1, 3, 3), classes=2, seed=0)
    instance = random_data(1, (1, 3, 3), classes=2, seed=1)
    points = random_data(4, (1, 3, 3), classes=2, seed=2)
    label = instance.y.expand(len(points))
    return base, Case("typical", instance, points.relabel(label))


def test_copies_of_a_row_of_ridge_regression_are_worth_what_the_closed_form_says():
    base, case = problem()
    recipe = Recipe("linear", train="ridge:ridge")
    effects = retrained(base, case, COUNTS, recipe, [0], "margin")

    model = build("linear", base.layout, 0).double()
    rows = ridge.inputs(model, base)
    row = ridge.inputs(model, case.instance)[0]
    points = ridge.inputs(model, case.points)
    side = ridge.sides(case.instance.y)
    gram = rows.T @ rows + ridge.PENALTY * torch.eye(rows.shape[1]).double()
    weights = torch.linalg.solve(gram, rows.T @ ridge.sides(base.y))
    solved = torch.linalg.solve(gram, row)
    lever = row @ solved
    # Sherman and Morrison: c copies move a prediction by c s r / (1 + c h)
    moved = side * (side - row @ weights) * (points @ solved)
    copies = torch.tensor(COUNTS).double()[:, None]
    every = copies * moved / (1 + copies * lever)
    one = moved / ((1 + copies * lever) * (1 + (copies - 1) * lever))
    torch.testing.assert_close(effects.every[0], every, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(effects.one[0], one, rtol=1e-9, atol=1e-12)

    # so that the sum over the members lacks all but 1 / (1 + (c - 1) h)
    lacking = beyond_members(
        effects.one[0].T.numpy(), effects.every[0].T.numpy(), COUNTS
    )
    members = 1 / (1 + (np.array(COUNTS) - 1) * float(lever))
    np.testing.assert_allclose(lacking, 1 - members, atol=1e-9)
    assert lacking[-1] > 0.5


def test_where_rows_add_up_a_group_is_worth_the_sum_of_its_members():
    base, case = problem()
    recipe = Recipe("linear", train="additive:sums")
    truth = retrained(base, case, COUNTS, recipe, [0], "margin")
    one = truth.one[0].T.numpy()
    every = truth.every[0].T.numpy()
    np.testing.assert_allclose(beyond_members(one, every, COUNTS), 0, atol=1e-9)
    for k, count in enumerate(COUNTS):
        run = train(with_copies(base, case.instance, count), recipe, 0)
        answer = of_run(run, case.points, count, {"sums": additive.Sums()}, {})["sums"]
        scale = additive.SCALE
        torch.testing.assert_close(scale * answer.one, truth.one[0, k])
        torch.testing.assert_close(scale * answer.every, truth.every[0, k])


def test_instances_are_not_trained_on_and_their_points_have_their_label(
    digits: tuple[Dataset, Dataset],
):
    base, spare = split(digits[0], 80, 0)
    assert len(base) + len(spare) == len(digits[0])
    recipe = Recipe("linear", epochs=3, lr=0.05)
    cases = choose(base, spare, digits[1], recipe, Size(80, 2, 3), 0)
    assert [case.kind for case in cases] == [kind for kind in KINDS for _ in range(2)]
    test = digits[1].x.flatten(1)
    for case in cases:
        assert len(case.instance) == 1
        assert case.points.y.tolist() == case.instance.y.tolist() * 3
        known = (base.x == case.instance.x).flatten(1).all(1)
        assert not known.any()
        shown = torch.cdist(case.points.x.flatten(1), test).min(1).values
        if case.kind == "backdoored":
            stamped = Patch().trigger(case.points.x)
            assert torch.equal(stamped, case.points.x)
            assert (shown > 0).any()
        else:
            assert shown.max() < 1e-3
            far = torch.cdist(case.instance.x.flatten(1), test).squeeze(0)
            near = torch.cdist(
                case.instance.x.flatten(1), case.points.x.flatten(1)
            ).squeeze(0)
            torch.testing.assert_close(near, far.sort().values[:3])


def test_agreement_is_one_for_the_same_order_and_unknown_for_a_constant():
    truth = np.arange(12.0).reshape(3, 2, 2)
    assert agreement(truth**3, truth) == pytest.approx([1, 1])
    assert agreement(-truth, truth) == pytest.approx([-1, -1])
    assert np.isnan(agreement(np.ones_like(truth), truth)).all()


def test_a_further_seed_adds_instances_of_its_own_and_leaves_the_first_ones(
    tmp_path: Path,
):
    found = []
    for seeds in ("1", "2"):
        numbers = tmp_path / f"{seeds}.numbers"  # any name will do
        kept = ["--numbers", str(numbers), "--estimator", "KNN-Shapley"]
        result = CliRunner().invoke(main, [*SMALL, *kept, "--seeds", seeds])
        assert result.exit_code == 0, result.output
        found.append(Found.read(numbers))
    one, two = found
    assert one.kinds == KINDS
    assert two.kinds == (*KINDS, *KINDS)
    for which in ("one", "every"):
        alone = getattr(one, which)
        both = getattr(two, which)
        np.testing.assert_array_equal(both[:, :4], alone)
        # another instance, another effect
        assert (both[0, 4:] != alone[0]).all()


SMALL = ["copies", "--train", "40", "--instances", "1", "--points", "2"]
SMALL += ["--model", "linear", "--repeats", "1", "--copies", "1", "--copies", "4"]
ASKED = ("TracIn", "KNN-Shapley", "group, second order")


def test_one_command_shows_the_tables_and_draws_the_figure(tmp_path: Path):
    numbers = tmp_path / "copies.npz"
    figure = tmp_path / "copies.svg"
    kept = ["--numbers", str(numbers), "--figure", str(figure), "--seeds", "1"]
    for name in ASKED:
        kept += ["--estimator", name]
    first = CliRunner().invoke(main, [*SMALL, *kept])
    assert first.exit_code == 0, first.output
    lines = [line.split(" | ") for line in first.stdout.splitlines() if line]
    shown = [line[0].strip("| ") for line in lines]
    for name in (*KINDS, "training again", *ASKED):
        assert name in shown
    assert "by training again" in figure.read_text(encoding="utf-8")

    # one of one copy is all of them, whoever says so
    found = Found.read(numbers)
    assert found.counts == (1, 4)
    np.testing.assert_allclose(found.one[:, :, 0], found.every[:, :, 0], rtol=1e-5)
    # single rows are added up
    assert found.names == ("training again", *ASKED)
    np.testing.assert_allclose(4 * found.one[1:3, :, 1], found.every[1:3, :, 1])
    again = CliRunner().invoke(main, [*SMALL, *kept])
    assert again.stdout == first.stdout
