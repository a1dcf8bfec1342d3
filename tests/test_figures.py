"""What figures say of themselves: names, notes, intervals, and looks that stay the same."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_evaluate import scene_config, write_detect, write_scene
from test_plot_kinds import source, write_influence, write_run

from estimators import ESTIMATORS
from experiments.cleaning.figure import draw
from experiments.cleaning.found import Found
from experiments.cleaning.outcome import Curve, Outcome
from experiments.evaluation.intervals import wilson
from experiments.evaluation.load import load_results
from experiments.evaluation.means import mean_over
from experiments.evaluation.metrics import Metric
from experiments.evaluation.summary import summarise
from experiments.evaluation.views.agreement import agreement
from experiments.report.html.losses import loss_charts
from experiments.report.pictures.estimator_look import FIXED, numbers, point
from experiments.report.plots.agreement import agreement_figure
from experiments.report.plots.certified import certified_figure
from experiments.report.plots.kinds import DRAWN
from experiments.report.plots.methods import Looks, Method
from poisonbench import log


def said(figure: Figure) -> str:
    """All texts of a figure, lines joined, since notes are wrapped."""
    found = figure.findobj(Text)
    found += [text for legend in figure.legends for text in legend.get_texts()]
    shown = " ".join(text.get_text() for text in found)
    return " ".join(shown.split())


@pytest.fixture
def partly(tmp_path: Path) -> Path:
    """Two settings of an attack, one of which never succeeds; and a detector of nan."""
    for seed in (0, 1):
        for alpha, won in ((0.1, False), (0.3, True)):
            attack = {"name": "blend", "alpha": alpha}
            place = write_scene(tmp_path, scene_config(attack, seed), won=[won] * 4)
            write_influence(place, "gas", np.zeros((15, 7)), 1.0)
            write_detect(place, [9, 8, 2, 1, *range(11)], estimator="gas")
            lost = [float("nan")] * 15
            write_detect(place, lost, estimator=None, detector="lost")
    return tmp_path


@pytest.mark.parametrize("kind", ["roc", "auc-by-attack", "auc-by-success"])
def test_an_attack_is_called_as_in_the_tables_and_what_is_not_drawn_is_named(
    partly: Path, kind: str
):
    told = said(DRAWN[kind](source(partly)))
    assert "blend alpha=0.3" in told
    assert "blend alpha=0.1 (none of 4 attacks succeeded)" in told
    assert "lost" in told
    assert "scores not finite" in told


@pytest.mark.parametrize(
    "kind", ["roc", "auc-by-attack", "auc-by-success", "auc-by-cost"]
)
def test_intervals_are_of_95_percent_over_so_many_seeds(tmp_path: Path, kind: str):
    told = said(DRAWN[kind](source(write_run(tmp_path))))
    assert "95 %" in told
    assert "2 seeds" in told


def test_the_steps_of_costs_are_in_the_legend(tmp_path: Path):
    told = said(DRAWN["auc-by-cost"](source(write_run(tmp_path))))
    assert "no estimator is cheaper and better" in told
    assert "mean of 2 attacks" in told


def test_methods_and_detectors_that_are_not_drawn_are_named(tmp_path: Path):
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    for k in range(15):
        write_detect(place, np.roll(range(15), k), k=k)
    told = said(DRAWN["roc"](source(tmp_path)))
    assert "3 of 15 methods, of middling mean AUROC, are not drawn: tail" in told
    told = said(DRAWN["auc-by-success"](source(tmp_path)))
    assert "6 of 15 detectors, of lowest mean AUROC, are not drawn: tail" in told


def test_the_mean_column_has_the_interval_of_the_table(tmp_path: Path):
    made = source(write_run(tmp_path))
    figure = DRAWN["auc-by-attack"](made)
    written = [text.get_text() for text in figure.axes[0].texts]
    for row in mean_over(made.summary.rows["detections"]):
        metric = row.metrics["auroc"]
        if metric.value is not None:
            low, high = metric.interval
            assert f"{metric.value:.3f}\n[{low:.3f}, {high:.3f}]" in written


def test_the_only_estimator_of_a_run_is_in_the_legend_and_letters_are_of_one_size(
    partly: Path,
):
    figure = DRAWN["auc-by-success"](source(partly))
    figure.draw_without_rendering()
    assert "influence by gas" in said(figure)
    letters = [t for t in figure.legends[0].findobj(Text) if t.get_text() == "a"]
    assert [text.get_fontsize() for text in letters] == [8.0]


@pytest.mark.parametrize("count", [2, 3])
def test_no_text_of_agreement_is_cut_or_lies_over_another(tmp_path: Path, count: int):
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    for index in range(count):
        values = np.random.default_rng(index).normal(size=(15, 7))
        write_influence(place, f"estimator-of-long-name-{index}", values, 1.0)
    figure = agreement_figure(agreement(load_results(tmp_path)))
    figure.draw_without_rendering()
    assert "Spearman's rank correlation" in said(figure)
    titles = [ax.title for ax in figure.axes] + [ax._left_title for ax in figure.axes]
    boxes = [text.get_window_extent() for text in titles if text.get_text()]
    assert len(boxes) == 2
    assert not boxes[0].overlaps(boxes[1])
    for ax in figure.axes[:2]:
        boxes += [label.get_window_extent() for label in ax.get_xticklabels()]
    for box in boxes:
        assert figure.bbox.count_contains([box.p0, box.p1]) == 2


def certify(folder: Path, attack: str, seed: int, right: int) -> None:
    """The log of a certifier that is right and certain of some of ten points."""
    place = write_scene(folder, scene_config({"name": attack}, seed))
    data = {
        "label": np.array([0] * right + [1] * (10 - right)),
        "radius": np.full(10, 3),
        "truth": np.zeros(10, int),
        "targets/label": np.array([1]),
        "targets/radius": np.zeros(1, int),
        "targets/y": np.array([0]),
        "targets/wanted": np.array([1]),
    }
    scene = log.read(place / "scene.h5").config
    log.write(
        place / "certify-toy.h5",
        "certify",
        config={"scene": scene, "certifier": {"name": "toy"}},
        data=data,
        attributes={"seconds": 1.0},
    )


def test_certified_accuracy_without_attack_and_under_attacks_are_two_lines(
    tmp_path: Path,
):
    for seed, clean, patch, blend in ((0, 9, 4, 8), (1, 9, 6, 8)):
        certify(tmp_path, "none", seed, clean)
        certify(tmp_path, "patch", seed, patch)
        certify(tmp_path, "blend", seed, blend)
    figure = certified_figure(load_results(tmp_path).of("certify"))
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert set(lines) == {
        "toy, no attack, 2 seeds",
        "toy, mean of 2 attacks, 2 seeds",
    }
    assert lines["toy, no attack, 2 seeds"][0] == pytest.approx(0.9)
    assert lines["toy, mean of 2 attacks, 2 seeds"][0] == pytest.approx(0.65)
    assert "95 % intervals" in said(figure)


def test_the_band_of_certified_accuracy_is_the_interval_of_its_rates(tmp_path: Path):
    for seed, right in ((0, 4), (1, 6)):
        certify(tmp_path, "patch", seed, right)
    results = load_results(tmp_path)
    low, high = wilson([0.4, 0.6], 20)
    [band] = certified_figure(results.of("certify")).axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights[heights > 0].min() == pytest.approx(low)
    assert heights.max() == pytest.approx(high)


def test_training_curves_are_in_the_order_of_attack_and_seed(tmp_path: Path):
    for budget in (0.1, 0.02, 0.01):
        for seed in (10, 2):
            attack = {"name": "patch", "budget": budget}
            place = write_scene(tmp_path, scene_config(attack, seed))
            record = log.read(place / "scene.h5")
            data = {**record.data, log.names.VICTIM_LOSSES: np.array([1.0, 0.5])}
            path = place / "scene.h5"
            log.write(path, "scene", config=record.config, data=data, attributes={})
    results = load_results(tmp_path)
    charts = loss_charts(results, summarise(results).scenes["victims"])
    titles = [chart.title for chart in charts.charts]
    budgets = [title.split("budget=")[1].split()[0].rstrip(",") for title in titles]
    assert budgets == ["0.01", "0.01", "0.02", "0.02", "0.1", "0.1"]
    assert [title.split()[-1] for title in titles] == ["2", "10"] * 3


def test_a_cleaning_shows_its_intervals_its_seeds_and_what_was_planted(tmp_path: Path):
    accuracy = (Metric(0.9, interval=(0.8, 0.95)), Metric(0.7, interval=(0.6, 0.75)))
    nothing = Found(*[Metric(None)] * len(Found.__dataclass_fields__))
    curve = Curve("loss-rank", accuracy, accuracy, (0.9, 0.7), nothing)
    found = Outcome("noise", (0.0, 0.1), 60, 600, (0, 1, 2), (curve,))
    path = draw([found], tmp_path / "a.svg")
    drawn = path.read_text(encoding="utf-8")
    assert "200 rows, seeds 0, 1, 2" in drawn
    assert "95 % intervals" in drawn
    assert "share of rows planted" in drawn


def test_every_built_in_estimator_has_a_look_of_its_own_whatever_else_is_drawn():
    assert set(ESTIMATORS) < set(FIXED)
    alone = {name: numbers([name])[name] for name in FIXED}
    together = numbers([*FIXED, "mine:Own", "tracin mode=steps", "gas layerwise=true"])
    assert alone.items() <= together.items()
    looks = {str(point(number)) for number in together.values()}
    assert len(looks) == len(together)
    assert numbers(["mine:Own"]).items() <= together.items()
    assert (
        point(together["tracin"])["color"]
        == point(together["tracin mode=steps"])["color"]
    )


def test_many_settings_of_one_estimator_have_different_looks():
    found = numbers(f"tracin k={k}" for k in range(40))
    assert len(set(found.values())) == 40


def test_the_line_of_no_influence_and_of_gas_is_the_same_in_every_run():
    styles = []
    for others in (["tracin"], ["hydra", "representer-point"]):
        methods = [Method("d", name) for name in ["none", "gas", *others]]
        looks = Looks.of(methods)
        styles.append([looks.line(method)["linestyle"] for method in methods[:2]])
    assert styles[0] == styles[1]
