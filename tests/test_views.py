"""What a reader asks of the rows: some of them, means over others, their order, a frame."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_evaluate import scene_config, write_detect, write_failure, write_scene

from experiments.cli import main
from experiments.evaluation import frame
from experiments.evaluation.load import load_results
from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import summarise
from experiments.evaluation.views.regroup import mean_by
from experiments.evaluation.views.where import where
from experiments.report.render import render
from poisonbench.errors import ConfigError

SCORES = [9, 8, 2, 1, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two data sets, two budgets of one attack and one without attack, two seeds."""
    folder = tmp_path_factory.mktemp("run")
    for dataset in ("digits", "mnist"):
        for seed in (0, 1):
            for attack in (
                {"name": "none"},
                {"name": "patch", "budget": 0.01},
                {"name": "patch", "budget": 0.05},
            ):
                place = write_scene(folder, scene_config(attack, seed, dataset))
                write_detect(place, SCORES, estimator="gas", k=3)
                write_detect(place, SCORES, estimator="tracin", k=10)
                write_detect(place, SCORES, estimator=None, detector="rival")
    write_failure(place, "influence-hydra", "out of memory")
    return folder


def kept(folder: Path, *conditions: str) -> tuple[int, int]:
    """How many scenes and detections meet some conditions."""
    results = where(load_results(folder), conditions)
    return len(results.of("scene")), len(results.of("detect"))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ((), (12, 36)),
        (("attack=patch",), (8, 24)),
        (("attack!=none",), (8, 24)),
        (("attack=patch,none",), (12, 36)),
        (("attack.budget=0.05",), (4, 12)),
        (("budget=5e-2",), (4, 12)),
        (("seed=1",), (6, 18)),
        (("dataset=mnist", "seed=0"), (3, 9)),
        (("model=cnn",), (12, 36)),
        (("detector.k=3",), (12, 12)),
        (("estimator=gas",), (12, 12)),
        (("estimator=none",), (12, 12)),
        (("detector=rival", "attack=none"), (4, 4)),
    ],
    ids=str,
)
def test_conditions_keep_what_meets_them_and_what_has_no_such_part(
    run, conditions, expected
):
    assert kept(run, *conditions) == expected


def test_failures_stay_whatever_is_asked(run):
    results = where(load_results(run), ["attack=patch"])
    assert len(summarise(results).failures) == 1


@pytest.mark.parametrize(
    ("condition", "error", "hint"),
    [
        ("patch", "a condition is KEY=VALUE, got 'patch'", "for example"),
        ("attac=patch", "did you mean 'attack'?", "conditions may ask of: attack,"),
        (
            "attack=blend",
            "no log meets 'attack=blend'",
            "attack is one of: none, patch",
        ),
        ("name=patch", "'name' names several keys", "attack.name"),
        ("seed!=0,1", "no log meets 'seed!=0,1'", "seed is one of: 0, 1"),
    ],
)
def test_a_condition_that_keeps_nothing_is_told_with_what_there_is(
    run, condition, error, hint
):
    with pytest.raises(ConfigError) as raised:
        kept(run, condition)
    assert error in raised.value.message
    assert hint in raised.value.hint


def by(folder: Path, *keys: str, table: str = "detections") -> dict[str, Row]:
    """The rows of a table by keys, under the names that the table gives them."""
    rows = summarise(load_results(folder), by=keys).rows[table]
    names = RowNames.of(rows)
    return {" | ".join(names.all(row)): row for row in rows}


def test_means_by_a_key_are_of_seeds_first_and_then_of_all_else_alike(tmp_path):
    scores = {0: SCORES, 1: [0, 0, 0, 0, *SCORES[4:]], 2: [9, 9, 9, 0, *SCORES[4:]]}
    for attack, seeds in (("a", (0, 1)), ("b", (2,))):
        for seed in seeds:
            place = write_scene(tmp_path, scene_config({"name": attack}, seed))
            write_detect(place, scores[seed], detector="x")
    single = summarise(load_results(tmp_path)).scenes["detections"]
    auroc = {row.seeds[0]: row.metrics["auroc"].value for row in single}
    [row] = by(tmp_path, "detector").values()
    expected = ((auroc[0] + auroc[1]) / 2 + auroc[2]) / 2
    assert row.metrics["auroc"].value == pytest.approx(expected)
    assert row.scenes == 3
    assert row.seeds == (0, 1, 2)


def test_a_mean_keeps_the_settings_in_which_its_rows_agree_and_names_the_others_several(
    run,
):
    assert list(by(run, "detector")) == [
        "all | none | rival",
        "all | several | tail-heaviness",
    ]
    assert list(by(run, "detector.k")) == [
        "all | gas | tail-heaviness k=3",
        "all | none | rival",
        "all | tracin | tail-heaviness k=10",
    ]
    rows = by(run, "dataset", "attack", "detector")
    assert "patch, mnist cnn | none | rival" in rows
    assert len(rows) == 8


def test_rows_by_seed_tell_their_seed(run):
    names = list(by(run, "seed", "detector"))
    assert names[0] == "all, seed 0 | none | rival"
    assert len(names) == 4


def test_by_an_unknown_key_is_refused_with_those_there_are(run):
    with pytest.raises(ConfigError, match="did you mean 'detector'") as error:
        by(run, "detectr")
    assert "attack.budget" in error.value.hint


def test_evaluate_sorts_within_each_attack_largest_first_and_undefined_last(tmp_path):
    for attack in ("a", "b"):
        place = write_scene(tmp_path, scene_config({"name": attack}))
        for k in range(3):
            write_detect(place, np.roll(SCORES, k), k=k, detector="x")
        write_detect(place, [1] * 15, detector="constant")
    summary = summarise(load_results(tmp_path))
    for ascending in (False, True):
        rows = summary.sorted_by("auroc", ascending).rows["detections"]
        assert [row.settings["attack"]["name"] for row in rows] == ["a"] * 4 + ["b"] * 4
        values = [row.metrics["auroc"].value for row in rows][:4]
        assert values[-1] is None
        assert values[:-1] == sorted(values[:-1], reverse=not ascending)
    victims = summary.sorted_by("clean_accuracy").rows["victims"]
    assert list(victims) == list(summary.rows["victims"]), (
        "equal values keep their order"
    )


def test_to_sort_by_no_metric_is_refused_with_those_there_are(run):
    with pytest.raises(ConfigError, match="did you mean 'auroc'"):
        summarise(load_results(run)).sorted_by("aurc")


def test_the_command_takes_conditions_keys_and_an_order(run):
    words = ["--where", "dataset=mnist", "--by", "detector", "--sort", "auroc"]
    result = CliRunner().invoke(main, ["evaluate", str(run), *words])
    assert result.exit_code == 0, result.output
    assert "One row for each detector: means over all else." in result.output
    assert "DETECTION: mnist cnn, 7 training rows" in result.output


def test_data_of_some_classes_are_called_by_them(tmp_path):
    config = scene_config({"name": "patch"})
    config["dataset"]["classes"] = [3, 8]
    write_scene(tmp_path, config, role=[0] * 7)
    text = render(load_results(tmp_path))
    assert text.startswith("VICTIMS: digits 3 8 cnn, 7 training rows\n")


def test_a_heading_says_what_was_measured_on_what(tmp_path):
    config = scene_config({"name": "patch"})
    config["recipe"]["epochs"] = 20
    write_scene(tmp_path, config, role=[0] * 1297)
    text = render(load_results(tmp_path))
    assert text.startswith("VICTIMS: digits cnn, 20 epochs, 1,297 training rows\n")
    other = scene_config({"name": "patch"}, dataset="mnist")
    other["recipe"]["epochs"] = 1
    write_scene(tmp_path, other, role=[0] * 7)
    lines = render(load_results(tmp_path)).splitlines()
    assert lines[:3] == [
        "VICTIMS",
        "  digits cnn, 20 epochs, 1,297 training rows",
        "  mnist cnn, 1 epoch, 7 training rows",
    ]
    markdown = render(load_results(tmp_path), "markdown")
    assert "- mnist cnn, 1 epoch, 7 training rows" in markdown
    assert "digits cnn, 20 epochs, 1,297 training rows" in render(
        load_results(tmp_path), "latex"
    )


@pytest.mark.parametrize("over_seeds", [False, True])
def test_the_frame_holds_every_metric_of_every_row_to_the_last_digit(run, over_seeds):
    found = frame(run, over_seeds=over_seeds)
    summary = summarise(load_results(run))
    expected = []
    for table, rows in summary.tables().items():
        if table.startswith("scene-") == over_seeds:
            continue
        for row in rows:
            for name, metric in row.metrics.items():
                expected.append((table.removeprefix("scene-"), name, metric.value))
    assert len(found) == len(expected)
    for line, (table, name, value) in zip(found.itertuples(), expected, strict=True):
        assert (line.table, line.metric) == (table, name)
        assert line.value == value or (np.isnan(line.value) and value is None)
    assert found["value"].dtype == float
    assert not found.isna().all().any(), "no column is empty"


def test_frame_csv_and_json_agree_to_the_last_digit(run):
    of_frame = frame(run, over_seeds=True).query("metric == 'auroc'")
    lines = csv.DictReader(io.StringIO(render(load_results(run), "csv")))
    of_csv = [line for line in lines if line["table"] in ("means", "detections")]
    of_json = json.loads(render(load_results(run), "json"))
    for table in ("means", "detections"):
        values = of_frame[of_frame["table"] == table]
        told = [line for line in of_csv if line["table"] == table]
        made = [row["metrics"]["auroc"] for row in of_json[table]]
        assert list(values["value"]) == [float(line["auroc"]) for line in told]
        assert list(values["value"]) == [metric["value"] for metric in made]
        assert list(values["low"]) == [float(line["auroc.low"]) for line in told]
        assert list(values["high"]) == [metric["interval"][1] for metric in made]


def test_a_frame_is_tidy_one_line_a_cell_and_metric(run):
    found = frame(run, where=["attack=patch", "detector=rival"])
    cells = found[found["table"] == "detections"]
    keys = ["dataset.name", "seeds", "attack.budget", "detector.name", "metric"]
    assert not cells.duplicated(keys).any()
    assert set(cells["attack.budget"]) == {0.01, 0.05}
    table = cells[cells["metric"] == "auroc"].pivot_table(
        "value", "attack.budget", "dataset.name"
    )
    assert table.shape == (2, 2)


def test_a_csv_has_no_empty_column(run):
    lines = list(csv.DictReader(io.StringIO(render(load_results(run), "csv"))))
    for column in lines[0]:
        assert any(line[column] for line in lines), column


def shared_scenes(settings: int, part: str = "mitigation") -> list[Row]:
    """Three seeds of one victim, told of by several methods in the same words."""
    rows = []
    for seed, value in enumerate((0.80, 0.90, 0.95)):
        for number in range(settings):
            config = {"attack": {"name": "patch"}, part: {"name": f"m{number}"}}
            metrics = {"asr_before": Metric(value)}
            rows.append(Row(config, (seed,), metrics, {"targets": 40}))
    return rows


@pytest.mark.parametrize("settings", [2, 5])
def test_rows_of_one_scene_share_its_points_and_its_seed(settings: int) -> None:
    [alone] = mean_by(shared_scenes(1), ["attack"])
    [several] = mean_by(shared_scenes(settings), ["attack"])
    want, got = (row.metrics["asr_before"] for row in (alone, several))
    assert got.value == pytest.approx(want.value)
    assert got.interval == pytest.approx(want.interval)
    assert several.counts == alone.counts == {"targets": 120}
    assert several.scenes == alone.scenes == 3


def test_attacks_are_other_victims_and_their_errors_apart() -> None:
    rows = shared_scenes(1)
    others = [
        replace(row, settings={**row.settings, "attack": {"name": "blend"}})
        for row in rows
    ]
    [both] = mean_by([*rows, *others], ["mitigation"])
    [one] = mean_by(rows, ["mitigation"])
    width = np.diff(both.metrics["asr_before"].interval)
    assert 0 < width < np.diff(one.metrics["asr_before"].interval)
    assert both.counts == {"targets": 240}


def test_the_value_of_a_key_stays_where_the_names_of_its_part_differ() -> None:
    rows = [
        Row({"attack": {"name": name, "budget": budget}}, (0,), {"asr": Metric(budget)})
        for name in ("patch", "tact")
        for budget in (0.02, 0.1)
    ]
    rows = [replace(row, counts={"targets": 10}) for row in rows]
    found = [row.settings["attack"] for row in mean_by(rows, ["attack.budget"])]
    assert found == [{"name": "all", "budget": 0.02}, {"name": "all", "budget": 0.1}]
