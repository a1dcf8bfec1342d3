"""The plots of a run: what is drawn is what the logs say; what is lacking is told."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import spearmanr
from test_evaluate import scene_config, write_detect, write_scene

from experiments.cli import main
from experiments.cli.results import PLOTS
from experiments.evaluation.load import load_results
from experiments.evaluation.metrics import Metric
from experiments.evaluation.summary import summarise
from experiments.evaluation.views.agreement import (
    agreement,
    standardised_ranks,
)
from experiments.evaluation.views.where import where
from experiments.report.pictures.estimator_look import point
from experiments.report.pictures.influence_scene import chosen
from experiments.report.pictures.legend import columns_of
from experiments.report.pictures.look import save
from experiments.report.plots.agreement import agreement_figure
from experiments.report.plots.auc_by_attack import map_figure
from experiments.report.plots.auc_by_cost import Point, front
from experiments.report.plots.auc_by_success import success_figure
from experiments.report.plots.influence import distribution_figure
from experiments.report.plots.kinds import DRAWN, Source
from experiments.report.plots.methods import Looks, Method
from poisonbench import log
from poisonbench.errors import ConfigError

ATTACKED = [9, 8, 2, 1]  # two of the four above all controls
CONTROLS = list(range(3, 9))
CALIBRATION = [0] * 5


def scores(k: int) -> list[float]:
    """Scores of the 15 probe points, another ranking for each k."""
    return [*np.roll(ATTACKED, k), *np.roll(CONTROLS, k), *CALIBRATION]


def write_influence(place: Path, estimator: str, values, seconds: float) -> Path:
    """An influence matrix (15, 7) with what it cost."""
    config = {
        "scene": log.read(place / "scene.h5").config,
        "estimator": {"name": estimator},
    }
    about = {"fit_seconds": seconds, "score_seconds": 0.0, "peak_bytes": 1}
    return log.write(
        place / f"influence-{estimator}.h5",
        "influence",
        config=config,
        data={"influence": np.asarray(values, np.float32)},
        attributes=about,
    )


def write_run(folder: Path, seeds=(0, 1), attacks=("patch", "blend")) -> Path:
    """Attacks, two estimators, three detectors; the control without attack."""
    rng = np.random.default_rng(0)
    for seed in seeds:
        for name in attacks:
            place = write_scene(folder, scene_config({"name": name}, seed))
            data = dict(log.read(place / "scene.h5").data)
            data["probe/y"] = np.where(data["probe/group"] == 0, 3, 2)
            log.write(
                place / "scene.h5",
                "scene",
                config=scene_config({"name": name}, seed),
                data=data,
                attributes={},
            )
            for estimator, seconds in (("gas", 1.0), ("tracin", 4.0)):
                values = rng.normal(size=(15, 7))
                write_influence(place, estimator, values, seconds)
                write_detect(place, scores(seed), estimator=estimator)
            write_detect(place, scores(2), estimator=None, detector="rival")
            write_detect(place, [1] * 15, estimator=None, detector="constant")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


def source(folder: Path, *conditions: str) -> Source:
    results = where(load_results(folder), conditions)
    return Source(results, summarise(results))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_the_command_offers_every_plot_that_there_is():
    assert tuple(DRAWN) == PLOTS


@pytest.mark.parametrize("kind", [k for k in PLOTS if k not in ("curve", "certified")])
def test_the_command_draws_every_kind(run, tmp_path, kind):
    path = tmp_path / "a.png"
    main(["plot", kind, str(run), "-o", str(path)], standalone_mode=False)
    assert path.stat().st_size > 3000


@pytest.mark.parametrize("kind", [k for k in PLOTS if k not in ("curve", "certified")])
def test_one_scene_of_one_seed_and_one_detector_is_enough(tmp_path, kind):
    folder = write_run(tmp_path, seeds=(0,), attacks=("patch",))
    figure = DRAWN[kind](source(folder, "detector=tail-heaviness"))
    assert save(figure, tmp_path / "a.png").stat().st_size > 3000


LACKS = {
    "roc": "[[detector]]",
    "auc-by-attack": "[[detector]]",
    "auc-by-success": "[[detector]]",
    "auc-by-cost": "[[estimator]]",
    "influence": "[[estimator]]",
    "certified": "[[certifier]]",
    "agreement": "two or more [[estimator]], or by [[group]]",
}


@pytest.mark.parametrize(("kind", "stage"), LACKS.items())
def test_a_folder_that_lacks_what_a_plot_needs_is_told_which_stage_gives_it(
    tmp_path, kind, stage
):
    write_scene(tmp_path, scene_config({"name": "patch"}))
    with pytest.raises(ConfigError) as error:
        DRAWN[kind](source(tmp_path))
    assert str(tmp_path) in error.value.message
    assert error.value.hint == f"a grid gives them by {stage}"


def test_names_with_signs_of_formulas_are_drawn_as_they_are(tmp_path):
    place = write_scene(tmp_path, scene_config({"name": "a$b_{$"}))
    write_detect(place, scores(0), estimator="_x$", detector="$\\bad{")
    write_detect(place, scores(0), estimator="y", detector="$\\bad{")
    for kind in ("roc", "auc-by-attack", "auc-by-success"):
        figure = DRAWN[kind](source(tmp_path))
        save(figure, tmp_path / "a.svg")
        texts = figure.findobj(lambda part: isinstance(part, Text))
        said = " ".join(text.get_text() for text in texts).replace("\\$", "$")
        assert "$\\bad{" in said or "a$b_{$" in said


def test_the_map_holds_each_auroc_the_mean_and_the_reason_where_there_is_none(run):
    made = source(run)
    figure = map_figure(made.summary.rows["detections"])
    ax = figure.axes[0]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[-1] == "constant", "what has no value stands last"
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "blend",
        "patch",
        "mean",
    ]
    values = np.ma.filled(ax.images[0].get_array(), np.nan)
    for row in made.summary.rows["detections"]:
        metric = row.metrics["auroc"]
        name = row.settings["detector"]["name"]
        estimator = row.settings["estimator"]
        label = f"{name} · {estimator['name']}" if estimator else name
        column = ["blend", "patch"].index(row.settings["attack"]["name"])
        shown = values[labels.index(label), column]
        if metric.value is None:
            assert np.isnan(shown)
        else:
            assert shown == metric.value
    assert values[:, 2] == pytest.approx(values[:, :2].mean(axis=1), nan_ok=True)
    assert "(1)" in texts(figure)
    assert "(1) constant scores" in figure.get_supxlabel().splitlines()


def test_the_points_of_success_stand_at_both_metrics_with_both_intervals(run):
    made = source(run, "detector=rival")
    summary = made.summary
    figure = success_figure(summary.rows["detections"], summary.rows["victims"])
    [ax] = figure.axes
    victims = {r.settings["attack"]["name"]: r for r in summary.rows["victims"]}
    expected = []
    for row in summary.rows["detections"]:
        victim = victims[row.settings["attack"]["name"]]
        expected.append((victim.metrics["asr"].value, row.metrics["auroc"].value))
    drawn = [tuple(line.get_xydata()[0]) for line in ax.lines[1:]]
    assert sorted(drawn) == sorted(expected)
    ends = {
        tuple(segment[:, 1])
        for part in ax.collections
        for segment in part.get_segments()
    }
    for row in summary.rows["detections"]:
        assert row.metrics["auroc"].interval in ends


def test_no_estimator_of_the_front_is_beaten_at_a_lower_cost():
    def place(seconds: float, auroc: float) -> Point:
        return Point(str(seconds), seconds, Metric(auroc))

    points = [place(3, 0.9), place(1, 0.6), place(2, 0.5), place(4, 0.9)]
    assert [p.seconds for p in front(points)] == [1, 3]


def test_the_cost_of_an_estimator_is_its_place(run):
    figure = DRAWN["auc-by-cost"](source(run))
    [ax] = figure.axes
    drawn = {line.get_xdata()[0] for line in ax.lines if line.get_marker() != "None"}
    assert drawn == {1.0, 4.0}
    assert ax.get_xscale() == "log"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(text.startswith("rival (no influence)") for text in legend)


def test_the_histogram_counts_every_row_once_and_marks_the_poison(run):
    shown = chosen(load_results(run))
    figure = distribution_figure(shown)
    role = shown.scene.data["poison/role"]
    assert len(figure.axes) == 2 * len(shown.influences)
    for ax in figure.axes:
        heights = [patch.get_height() for patch in ax.patches]
        assert sum(heights) == len(role)
        [ticks] = [line for line in ax.lines if line.get_marker() == "|"]
        assert len(ticks.get_xdata()) == (role == 1).sum()
    columns = len(shown.influences)
    whole = log.read(shown.influences[0].path).data["influence"]
    for line, row in enumerate(shown.points):
        poison = figure.axes[line * columns].lines[0].get_xdata()
        assert np.allclose(poison, whole[row][role == 1])


def test_values_that_are_not_finite_are_left_out_and_counted(run, tmp_path):
    folder = write_run(tmp_path, seeds=(0,), attacks=("patch",))
    place = next(folder.glob("scenes/*"))
    values = np.zeros((15, 7))
    values[:, :3] = np.nan
    write_influence(place, "gas", values, 1.0)
    figure = distribution_figure(chosen(load_results(folder)))
    assert "3 not finite" in [t.get_text() for t in figure.axes[0].texts]


def test_the_scene_shown_is_one_where_the_attack_succeeded(tmp_path):
    for name, won in (("a", [False] * 4), ("b", [True] * 4)):
        write_run(tmp_path, seeds=(0,), attacks=(name,))
        [place] = [
            p for p in tmp_path.glob("scenes/*") if p.name.startswith(f"{name}-")
        ]
        record = log.read(place / "scene.h5")
        data = dict(record.data)
        attacked = data["probe/group"] == 0
        data["probe/predicted"][attacked] = np.where(won, 1, 5)
        log.write(
            place / "scene.h5", "scene", config=record.config, data=data, attributes={}
        )
    assert chosen(load_results(tmp_path)).title == "digits, b, seed 0"


def test_ranks_correlate_as_scipy_says_and_constant_or_lost_values_are_undefined():
    rng = np.random.default_rng(1)
    one = rng.integers(0, 5, size=(3, 40)).astype(float)  # with ties
    other = rng.normal(size=(3, 40))
    found = (standardised_ranks(one) * standardised_ranks(other)).sum(axis=1)
    expected = [spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
    assert found == pytest.approx(expected)
    one[0] = 2
    other[1, 3] = np.nan
    assert np.isnan(standardised_ranks(one)[0]).all()
    assert np.isnan(standardised_ranks(other)[1]).all()


def test_estimators_that_order_rows_alike_agree_wholly_and_opposites_not_at_all(
    tmp_path,
):
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    rng = np.random.default_rng(2)
    values = rng.normal(size=(15, 7))
    write_influence(place, "a", values, 1.0)
    write_influence(place, "b", np.exp(values), 1.0)
    write_influence(place, "c", -values, 1.0)
    found = agreement(load_results(tmp_path))
    assert found.estimators == ("a", "b", "c")
    assert found.points == {"attacked": 4, "clean": 6}
    for matrix in found.groups.values():
        expected = [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]
        assert matrix == pytest.approx(np.array(expected), abs=1e-6)
    written = texts(agreement_figure(found))
    assert written.count("-1.00") == 2 * 2


def test_estimators_without_a_common_scene_have_no_agreement(tmp_path):
    for seed, estimators in ((0, "ab"), (1, "bc")):
        place = write_scene(tmp_path, scene_config({"name": "patch"}, seed))
        for name in estimators:
            values = np.tile(np.arange(7.0), (15, 1))
            write_influence(place, name, values, 1.0)
    found = agreement(load_results(tmp_path))
    [matrix, _] = found.groups.values()
    assert np.isnan(matrix[0, 2])
    assert matrix[0, 1] == matrix[1, 2] == pytest.approx(1)


def test_no_two_of_many_methods_look_alike():
    for count in (5, 8, 20):
        methods = [Method(f"d{i}", f"e{i}") for i in range(count)]
        looks = Looks.of(methods)
        lines = {str(sorted(looks.line(m).items(), key=str)) for m in methods}
        assert len(lines) == count
        assert len({str(sorted(point(i).items())) for i in range(count)}) == count


@pytest.mark.parametrize("attacks", [1, 2, 5])
def test_no_legend_is_cut(tmp_path, attacks):
    names = [f"an-attack-of-a-long-name-{i}" for i in range(attacks)]
    folder = write_run(tmp_path, seeds=(0,), attacks=names)
    for kind in ("roc", "auc-by-success", "auc-by-cost"):
        figure = DRAWN[kind](source(folder))
        figure.draw_without_rendering()
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert figure.bbox.count_contains([box.p0, box.p1]) == 2, kind
            for ax in figure.axes:
                assert not box.overlaps(ax.get_window_extent()), kind


def test_a_legend_has_the_columns_that_fit():
    short = [Figure().text(0, 0, "", label="ab")] * 20
    long = [Figure().text(0, 0, "", label="a" * 60)] * 20
    assert columns_of(short, 6.0) > columns_of(long, 6.0) == 1
