"""The curve of attack success: what is drawn is what the logs say, in the order of the axis."""

from pathlib import Path

import numpy as np
import pytest
from test_evaluate import scene_config, write_scene

from experiments.cli import main
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import load_results
from experiments.evaluation.means import aggregate
from experiments.evaluation.rows import Row
from experiments.report.pictures.look import save
from experiments.report.plots.curve import curve_figure, curves
from poisonbench.errors import ConfigError

RATES = {
    0.05: (7, 9),
    0.01: (2, 4),
    0.1: (10, 10),
}  # budget -> successes of ten points in either seed


def poisoned(share: float) -> list[int]:
    """Roles of 100 training rows, that share of them poison."""
    poison = round(100 * share)
    return [1] * poison + [0] * (100 - poison)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for seed in (0, 1):
        none = scene_config({"name": "none"}, seed)
        write_scene(tmp_path, none, targets=(0, 0), role=poisoned(0))
        blend = scene_config({"name": "blend", "alpha": 0.2, "budget": 0.05}, seed)
        write_scene(tmp_path, blend, role=poisoned(0.05))
        for budget, hits in RATES.items():
            for size in (2, 3):
                attack = {"name": "patch", "budget": budget, "size": size}
                config = scene_config(attack, seed)
                targets = (hits[seed], 10) if size == 2 else (10, 10)
                write_scene(tmp_path, config, targets=targets, role=poisoned(budget))
    return tmp_path


def rows(folder: Path) -> list[Row]:
    return aggregate(rows_of(load_results(folder), "scene"))


def test_a_curve_holds_the_values_of_its_axis_ascending_and_differs_from_others_in_its_name(
    run,
):
    found = curves(rows(run), "budget")
    assert list(found) == [
        "patch size=2",
        "patch size=3",
    ]  # one value of blend is no curve
    assert [point.x for point in found["patch size=2"]] == [0.01, 0.05, 0.1]
    assert [
        point.row.metrics["asr"].value for point in found["patch size=2"]
    ] == pytest.approx([0.3, 0.8, 1.0])


def test_any_numeric_hyperparameter_may_be_the_axis(run):
    assert list(curves(rows(run), "size")) == [
        "patch budget=0.01",
        "patch budget=0.05",
        "patch budget=0.1",
    ]


def test_an_axis_without_a_curve_is_refused_with_those_that_there_are(run):
    with pytest.raises(
        ConfigError, match="no attack in the logs has two values of 'alpha'"
    ) as error:
        curves(rows(run), "alpha")
    assert error.value.hint == "numeric hyperparameters: alpha, budget, size"


def test_the_figure_draws_the_means_their_bands_and_the_victims_without_poison(run):
    figure = curve_figure(rows(run))
    upper, lower = figure.axes
    line = next(line for line in upper.lines if line.get_label() == "patch size=2")
    np.testing.assert_allclose(
        line.get_xydata(), [(0.01, 0.3), (0.05, 0.8), (0.1, 1.0)]
    )
    low, high = (
        curves(rows(run), "budget")["patch size=2"][1].row.metrics["asr"].interval
    )
    outline = upper.collections[0].get_paths()[0].vertices
    assert {y for x, y in outline.tolist() if x == 0.05} == {low, high}
    assert low < 0.8 < high
    assert [
        float(y)
        for line in lower.lines
        if line.get_label() == "no poison"
        for y in line.get_ydata()
    ] == [0.9, 0.9]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(legend) == ["no poison", "patch size=2", "patch size=3"]


def test_the_command_saves_the_picture_and_names_what_is_missing(run, tmp_path, capsys):
    path = tmp_path / "pictures" / "asr.png"
    main(["plot", "curve", str(run), "-o", str(path)], standalone_mode=False)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit) as code:
        main(["plot", "curve", str(run), "-o", str(path), "--axis", "alpha"])
    assert code.value.code == 2
    assert (
        "Error: no attack in the logs has two values of 'alpha'"
        in capsys.readouterr().err
    )


def test_equal_logs_give_equal_pictures(run, tmp_path):
    first, second = (
        save(curve_figure(rows(run)), tmp_path / f"{i}.svg").read_text() for i in (1, 2)
    )
    assert first == second
    assert first.count("<path") > 10


def test_a_budget_that_was_missed_is_drawn_where_it_was_achieved_and_says_what_was_asked(
    tmp_path,
):
    for budget, share in ((0.1, 0.1), (0.5, 0.2)):
        for seed in (0, 1):
            config = scene_config({"name": "patch", "budget": budget}, seed)
            write_scene(tmp_path, config, role=poisoned(share))
    figure = curve_figure(rows(tmp_path))
    for ax in figure.axes:
        np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.1, 0.2])
    assert [text.get_text() for text in figure.axes[0].texts] == ["asked 50 %"]
    [(x, y)] = [text.xy for text in figure.axes[0].texts]
    assert (x, y) == (0.2, 0.8)


def test_another_axis_is_drawn_as_it_was_asked(tmp_path):
    for alpha in (0.1, 0.3):
        write_scene(
            tmp_path, scene_config({"name": "blend", "budget": 0.5, "alpha": alpha})
        )
    [points] = curves(rows(tmp_path), "alpha").values()
    assert [point.x for point in points] == [0.1, 0.3]


def test_the_curve_says_what_its_bands_are_and_which_attacks_it_leaves_out(run: Path):
    title = curve_figure(rows(run)).legends[0].get_title().get_text()
    assert "bands: 95 % intervals, 2 seeds" in title
    assert "not drawn, for one value of budget or none: blend" in title
