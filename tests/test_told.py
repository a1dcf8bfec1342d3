"""What tables and the head of a report say: no more than the figures do, and in one style."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_evaluate import scene_config, write_failure, write_scene

from experiments.cli import main
from experiments.evaluation.kinds.certificates import RADII
from experiments.evaluation.kinds.points import JudgedPoint
from experiments.evaluation.metrics import Metric
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary
from experiments.evaluation.views.headings import scenes_told, seeds_told
from experiments.report.html.glance import at_a_glance
from experiments.report.html.headline import sentences
from experiments.report.html.other_defenses import other_defenses
from experiments.report.html.undone import Undone
from experiments.report.html.web_table import web_table
from experiments.report.point_table import point_tables
from experiments.report.table import SECONDS, Cells, Table


def certifiers(**shares: list[float]) -> list[Row]:
    """Rows of one certifier for each name: its certified accuracies from radius 1 on."""
    rows = []
    for name, at in shares.items():
        metrics = {}
        for place, radius in enumerate(RADII[1:]):
            value = at[place] if place < len(at) else 0.0
            metrics[f"certified_{radius}"] = Metric(value)
        settings = {"attack": {"name": "patch"}, "certifier": {"name": name}}
        rows.append(Row(settings, (0,), metrics))
    return rows


def test_certifiers_are_told_at_the_largest_radius_at_which_one_certifies():
    def told(rows: list[Row]) -> list[str]:
        return list(other_defenses(Summary({"certificates": rows}, [], {}, [], [])))

    [one] = told(certifiers(few=[0.9, 0.5]))
    assert (
        one
        == "few certifies, under any 2 changed rows, a share of 0.500, on one attack."
    )
    [two] = told(certifiers(few=[0.9, 0.5], many=[0.9, 0.4, 0.0, 0.25]))
    assert two.startswith("Of 2 certifiers, many certifies, under any 8 changed rows,")
    [none] = told(certifiers(few=[]))
    assert none == "No certifier certifies a test point under a changed row."


def detections(bare: float, low: float, seeds: tuple[int, ...]) -> Summary:
    """One detector on two estimators, the best .99, and one without influence."""
    rows = []
    for detector, estimator, value in (
        ("a", "gas", 0.99),
        ("a", "tracin", 0.5),
        ("b", None, bare),
    ):
        settings = {
            "attack": {"name": "patch"},
            "detector": {"name": detector},
            "estimator": {"name": estimator} if estimator else None,
        }
        metrics = {"auroc": Metric(value, interval=(min(low, value), 1.0))}
        rows.append(Row(settings, seeds, metrics))
    empty: dict[str, list[Row]] = {"victims": [], "costs": []}
    return Summary({"detections": rows, **empty}, [], {"victims": []}, [], [])


def told_of(summary: Summary) -> str:
    return " ".join(sentences(summary, Undone(0, 0, 0, 0, (), ())))


@pytest.mark.parametrize(("bare", "inside"), [(0.95, True), (0.85, False)])
def test_the_best_detector_claims_no_more_than_its_interval(bare: float, inside: bool):
    told = told_of(detections(bare, 0.9, (0, 1)))
    assert "Of 3 pairs of detector and estimator (2 detectors), a on gas has" in told
    assert "likely to do less well" in told
    assert ("Without influence, b has 0.950: inside the interval" in told) == inside


@pytest.mark.parametrize(("seeds", "narrow"), [((0,), True), ((0, 1), False)])
def test_intervals_of_one_seed_are_told(seeds: tuple[int, ...], narrow: bool):
    rows = detections(0.9, 0.8, seeds).rows["detections"]
    assert ("One seed" in seeds_told(rows)) == narrow
    mixed = [*rows, *detections(0.9, 0.8, (0, 1, 2)).rows["detections"]]
    assert ("Where seeds = 1" in seeds_told(mixed)) == narrow
    bare = [replace(row, metrics={"auroc": Metric(0.5)}) for row in rows]
    assert seeds_told(bare) == "", "without intervals there is nothing to tell"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(5.92e-05, "<0.001"), (0.0, "0"), (0.5961, "0.596"), (12345.6, "12346")],
)
def test_seconds_have_no_exponents_and_are_sorted(seconds: float, told: str):
    texts = Cells().row(Metric(seconds), Metric(0.3), form=SECONDS)
    assert texts[0] == told
    made = web_table(Table("T", "", ("s",), [[text] for text in texts], 0))
    assert made.columns[0].is_number
    places = [row[0].place for row in made.rows]
    assert (places[0] < places[1]) == (seconds < 0.3)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 300.0])
def test_the_suspicions_of_an_audit_have_one_number_of_decimals(scale: float):
    points = []
    for place, value in enumerate((4.7312, 1.5, 0.3, -0.00523)):
        point = JudgedPoint(
            audit="audit",
            estimator=None,
            detector={"name": "rehearsed"},
            point=place,
            label=0,
            suspicion=value * scale,
            p_value=0.5,
            flag=False,
            proponents=(),
        )
        points.append(point)
    [table] = point_tables(points)
    column = table.head.index("suspicion")
    texts = [row[column] for row in table.rows]
    assert len({len(text.partition(".")[2]) for text in texts}) == 1
    assert float(texts[0]) == pytest.approx(4.7312 * scale, rel=1e-3)


def test_an_attack_without_a_best_detector_says_why():
    victim = {"attack": {"name": "patch"}}
    nothing = Metric(None)
    metrics = {"asr": Metric(0.0), "clean_accuracy": Metric(0.9)}
    judged = {"attack": {"name": "patch"}, "detector": {"name": "a"}}
    why = Metric(None, "no successfully attacked points")
    summary = Summary(
        rows={
            "victims": [Row(victim, (0, 1), metrics)],
            "detections": [Row(judged, (0, 1), {"auroc": why, "seconds": nothing})],
            "costs": [],
        },
        means=[],
        scenes={},
        failures=[],
        damaged=[],
    )
    table = at_a_glance(summary)
    assert table.head[-1] == "compared"
    assert table.rows[0][4:6] == ["-", "- (1)"]
    assert table.notes == ("(1) no successfully attacked points",)


@pytest.mark.parametrize(
    ("loop", "told"), [(None, "20 epochs"), ("my_loop:adam", "trained by my_loop:adam")]
)
def test_a_loop_of_someone_elses_is_told_in_the_place_of_epochs(
    loop: str | None, told: str
):
    recipe = {"model": "cnn", "epochs": 20, "train": loop}
    settings = {"dataset": {"name": "digits"}, "recipe": recipe, "attack": None}
    [heading] = scenes_told([Row(settings, (0,), {})])
    assert heading == f"digits cnn, {told}"


def test_rows_behind_a_row_are_no_interval_of_it():
    texts = ["847 1181 85", "333 707 1274"]
    made = web_table(Table("T", "", ("rests on",), [[text] for text in texts], 0))
    assert not made.columns[0].is_number
    assert [row[0].value for row in made.rows] == texts


def call(*words: object) -> str:
    """What a command that is refused tells."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 2, done.output
    return done.stderr


@pytest.mark.parametrize("command", ["evaluate", "report", "status"])
def test_a_folder_of_clean_is_not_to_be_filled_by_a_grid(command: str, tmp_path: Path):
    (tmp_path / "clean.toml").touch()
    (tmp_path / "clean-none-s0-12345678.h5").touch()
    told = call(command, tmp_path)
    assert "logs of `clean`" in told
    assert f"poisonbench clean {tmp_path / 'clean.toml'} -o {tmp_path}" in told
    assert "poisonbench run" not in told


def test_a_plot_of_what_failed_says_so(tmp_path: Path):
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    plot = ("plot", "roc", tmp_path, "-o", tmp_path / "roc.png")
    assert "a grid gives them by [[detector]]" in call(*plot)
    write_failure(place, "detect-none-x", "ValueError: no")
    told = call(*plot)
    assert f"1 cell failed, see: poisonbench status {tmp_path}" in told
    assert "[[detector]]" not in told


def test_a_folder_is_not_shown_but_its_logs_are_named(tmp_path: Path):
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    told = call("show", tmp_path)
    assert "is a folder with 1 log:" in told
    assert f"poisonbench show {place / 'scene.h5'}" in told
