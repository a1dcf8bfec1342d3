"""The report: its figures are those of the tables, and nothing of a run acts in the page."""

import base64
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from html_reader import Element, read_html, tables_of
from hypothesis import given
from hypothesis import strategies as st
from test_evaluate import (
    scene_config,
    write_detect,
    write_failure,
    write_influence,
    write_scene,
)

from experiments.cli import main
from experiments.evaluation import frame
from experiments.evaluation.load import load_results
from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import natural
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary, summarise
from experiments.explain import training_rows
from experiments.plan.paths import Place
from experiments.report.explanation.instances import Instances
from experiments.report.exports import to_csv
from experiments.report.html.gallery import MOST_SCENES, gallery
from experiments.report.html.glance import at_a_glance, best_of
from experiments.report.html.images import image_uri
from experiments.report.html.losses import HEIGHT, WIDTH, loss_charts
from experiments.report.html.other_defenses import other_defenses
from experiments.report.html.strips import (
    HELPFUL,
    Strip,
    check_probe,
    ranked_rows,
    strips,
)
from experiments.report.html.web_table import web_table
from experiments.report.table import Table
from experiments.report.tables import tables
from experiments.scene.clean import clean_of_log
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import Record, names
from poisonbench.poison_file import unpack_train

GRID = """
name = "shown"
seeds = [0]
dataset = { name = "DATA", train = 200, test = 200 }
[recipe]
model = "MODEL"
epochs = 15
checkpoints = 2
[probe]
attacked = 6
controls = 10
calibration = 20
[[attack]]
name = "ATTACK"
budget = 0.1
[[estimator]]
name = "gas"
[[detector]]
name = "tail-heaviness"
k = 3
[[detector]]
name = "random"
"""


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def report(folder: Path, code: int = 0, *more: object) -> Element:
    done = call("report", folder, *more)
    assert done.exit_code == code, done.output
    return read_html((folder / "report.html").read_text(encoding="utf-8"))


def summary_of(page: Element) -> str:
    return page.named("summary").text


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small grid on digits."""
    folder = tmp_path_factory.mktemp("ran")
    text = GRID.replace("DATA", "digits").replace("MODEL", "cnn")
    (folder / "grid.toml").write_text(text.replace("ATTACK", "patch"))
    done = call("run", folder / "grid.toml", "-o", folder / "logs", "--workers", 0)
    assert done.exit_code == 0, done.output
    return folder / "logs"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Logs of two attacks and three detectors in two seeds, with a failed and a diverged cell."""
    for seed in (0, 1):
        for name in ("patch", "blend"):
            place = write_scene(tmp_path, scene_config({"name": name}, seed))
            write_influence(place)
            write_detect(place, [9, 8, 2, 1, *range(11)], k=3)
            write_detect(place, [5, 5, 5, 0, *range(11)], k=10)
            write_detect(place, np.arange(15)[::-1], detector="truth", uses="oracle")
    write_failure(place, "certify-x", "RuntimeError: no room")
    write_failure(place, "mitigate-y", "diverged in epoch 3")
    return tmp_path


# ---- one source of figures


def test_every_table_has_the_cells_of_the_command_line(run: Path):
    shown = tables_of(report(run))
    made = tables(summarise(load_results(run)))
    assert {"Victims", "Detection", "Costs", "Failed"} <= shown.keys()
    for table in made:
        if table.title != "FAILED":
            cells = [list(row) for row in table.rows]
            assert shown[table.title.capitalize()] == [list(table.head), *cells]


def test_the_rows_to_take_away_are_those_of_the_export_to_the_last_digit(run: Path):
    page = report(run)
    [link] = [a for a in page.all("a") if "download" in a.attributes]
    packed = link.attributes["href"].split(";base64,")[1]
    assert base64.b64decode(packed).decode() == to_csv(summarise(load_results(run)))


def test_a_frame_has_the_figures_of_the_page(run: Path):
    pytest.importorskip("pandas")
    found = frame(run, over_seeds=True)
    shown = tables_of(report(run))["Detection"]
    head = shown[0]
    metrics = {"AUROC [95 %]": "auroc", "matched": "auroc_matched", "AUPRC": "auprc"}
    for column, metric in metrics.items():
        rows = found[(found["table"] == "detections") & (found["metric"] == metric)]
        want = []
        for line in rows.itertuples():
            number = f"{line.value:.3f}"
            if metric == "auroc":
                number += f" [{line.low:.3f}, {line.high:.3f}]"
            want.append(number)
        cells = [line[head.index(column)] for line in shown[1:]]
        assert cells[: len(want)] == want, "the means over the attacks come behind"
        assert len(want) == 6


def test_the_first_table_names_the_largest_auroc_that_uses_no_ground_truth(run: Path):
    summary = summarise(load_results(run))
    rows = [
        r for r in summary.rows["detections"] if r.settings["attack"]["name"] == "patch"
    ]

    def value(row: Row) -> float:
        return row.metrics["auroc"].value or 0.0

    assert max(rows, key=value).uses == "oracle"
    able = [row for row in rows if row.uses != "oracle"]
    best = best_of(rows)
    assert best is not None
    assert best.row is max(able, key=value)
    assert best.of == len(able)
    [line] = [row for row in at_a_glance(summary).rows if row[0] == "patch"]
    assert f"{value(best.row):.3f} [" in line[5]


def test_two_reports_of_a_folder_are_equal(ran: Path, tmp_path: Path):
    for name in ("a.html", "b.html"):
        assert call("report", ran, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_best_of_other_defenses_is_that_of_the_best_mean_and_knows_no_truth():
    def row(name: str, value: float, uses: str = "") -> Row:
        settings = {"attack": {"name": "patch"}, "filter": {"name": name}}
        return Row(settings, (0,), {"auprc": Metric(value)}, uses=uses)

    rows = [row("a", 0.9), row("a", 0.1), row("b", 0.6), row("c", 1.0, "oracle")]
    [told] = other_defenses(Summary({"filters": rows}, [], {}, [], []))
    assert told.startswith("Of 2 filters, b ranks the poison rows best, AUPRC 0.600")


def test_weak_victims_are_told(tmp_path: Path):
    config = scene_config({"name": "patch"})  # .90; this model reaches .976 on digits
    write_scene(tmp_path, config)
    record = load_results(tmp_path).of("scene")[0]
    data = {**record.data, names.CLEAN_CORRECT: np.array(50)}
    log.write(record.path, "scene", config=config, data=data)
    assert "1 of 1 victim: weak victim" in summary_of(report(tmp_path))


# ---- what failed comes first


def test_failed_and_diverged_cells_are_told_first_with_their_reasons(run: Path):
    page = report(run)
    [told, *_] = page.named("summary").all("li")
    assert told.text.startswith("Incomplete: 2 cells failed (1 of them")
    failed = tables_of(page)["Failed"]
    whats = {line[2]: line[0] for line in failed[1:]}
    assert whats["RuntimeError: no room"] == "failed"
    assert whats["diverged in epoch 3"] == "diverged"


def test_a_damaged_log_is_listed_and_the_exit_code_says_so(run: Path):
    victim = next(run.glob("scenes/patch*/detect*.h5"))
    victim.write_bytes(victim.read_bytes()[:-500])
    done = call("report", run)
    assert done.exit_code == 3
    assert victim.name in done.stderr
    page = read_html((run / "report.html").read_text())
    assert "1 file cannot be read" in summary_of(page)
    assert victim.name in tables_of(page)["Damaged"][1][0]


def test_cells_of_the_plan_that_are_not_there_are_missing(ran: Path, tmp_path: Path):
    page = report(ran)
    assert "All 4 planned cells are there; none failed." in summary_of(page)
    gone = next(ran.glob("scenes/*/detect-*random*.h5"))
    kept = gone.read_bytes()
    gone.unlink()
    try:
        page = report(ran)
    finally:
        gone.write_bytes(kept)
    assert "1 of 4 planned cells are missing" in summary_of(page)
    assert tables_of(page)["Missing"][1] == [f"{gone.parent.name}/{gone.name}"]


def test_a_damaged_plan_is_told(run: Path):
    (run / "cells.json").write_text("{")
    assert "cells.json" in tables_of(report(run, 3))["Damaged"][1][0]


def test_a_run_without_any_cell_has_a_page_that_says_so(tmp_path: Path):
    (tmp_path / "scenes").mkdir()
    assert "No results yet" in summary_of(report(tmp_path))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    done = call("report", tmp_path)
    assert done.exit_code == 2
    assert "holds no results" in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_cannot_be_written_costs_a_line(run: Path):
    (run / "file").write_text("")
    done = call("report", run, "-o", run / "file" / "report.html")
    assert done.exit_code == 2
    assert "report.html: cannot write its" in done.output.splitlines()[0]


# ---- what comes from logs is text


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=http://x.example/a.png onerror=alert(1)>',
    "{{ 7*7 }}{% raw %}",
    "$\\frac$ $x^$",
    "\u202etxet\x07\x1b[31m",
    "</title></style></script><b>",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_with_markup_are_inert(tmp_path: Path, name: str):
    made = write_scene(tmp_path, scene_config({"name": name, "budget": 0.1}))
    place = made.rename(tmp_path / "scenes" / "one")  # a name may hold a slash
    write_influence(place, estimator="tracin", warnings=name)
    write_detect(place, [9, 8, 2, 1, *range(11)], k=3, note=name)
    write_failure(place, "certify-x", name)
    (tmp_path / "grid.toml").write_text(name)
    page = report(tmp_path)
    assert [script.attributes for script in page.all("script")] == [{}]
    assert not list(page.all("b"))
    for element in page.all():
        assert not [key for key in element.attributes if key.startswith("on")]
        for key in ("src", "href"):
            address = element.attributes.get(key, "#")
            assert address.startswith(("#", "data:image/", "data:text/csv")), address
    told = "".join(c if c.isprintable() else " " for c in name)
    assert told.strip() in tables_of(page)["Failed"][1][2]


def test_the_policy_of_the_page_lets_its_own_script_and_style_run_alone(run: Path):
    page = report(run)
    [policy] = [
        meta.attributes["content"]
        for meta in page.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not [e for e in page.all() if "style" in e.attributes]


# ---- instances


def test_strips_show_the_rows_of_largest_influence_and_frame_the_poison(ran: Path):
    page = report(ran)
    [influence] = ran.glob("scenes/*/influence-*.h5")
    values = log.read(influence).data[names.INFLUENCE]
    scene = log.read(influence.parent / "scene.h5")
    role = scene.data[names.POISON_ROLE]
    strips_shown = list(page.named("points").all("div", "strip"))
    assert len(strips_shown) == 3, "two attacked points and a clean one"
    for strip in strips_shown:
        first, *others = strip.all("figure", "instance")
        point = int(first.text.split("row ")[1])
        rows = [int(figure.text.split("row ")[1]) for figure in others]
        want = np.argsort(-values[point], kind="stable")[:HELPFUL]
        assert rows[:HELPFUL] == want.tolist()
        harmful = np.argsort(values[point], kind="stable")[: len(rows) - HELPFUL]
        assert rows[HELPFUL:] == harmful.tolist()
        for figure, row in zip(others, rows, strict=True):
            assert ("poison" in figure.classes) == (role[row] == 1)
            assert f"{values[point, row]:+.3g}" in figure.text
            [image] = figure.all("img")
            assert image.attributes["src"].startswith("data:image/png")
            assert image.attributes["alt"]


def test_some_rows_of_a_training_set_are_those_of_the_whole(ran: Path):
    [path] = ran.glob("scenes/*/scene.h5")
    scene = log.read(path)
    place = Place(ran)
    whole = unpack_train(scene, clean_of_log(scene, place).train)
    changed = scene.data[names.POISON_ROWS][:2].tolist()
    rows = torch.tensor([5, *changed, 199, 0])
    some = unpack_train(scene, clean_of_log(scene, place).train, rows)
    assert torch.equal(some.x, whole.x[rows])
    assert torch.equal(some.y, whole.y[rows])
    shown = training_rows(scene, place, rows.tolist())
    for row in rows.tolist():
        assert (shown.x[row] == whole.x[row].numpy()).all()
        assert shown.y[row] == whole.y[row]
    with pytest.raises(KeyError):
        shown.x[6]
    for wrong in (200, -1):
        with pytest.raises(LogError):
            unpack_train(scene, clean_of_log(scene, place).train, torch.tensor([wrong]))


def test_without_the_data_set_the_page_says_why_it_shows_no_pictures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POISONBENCH_DATA", str(tmp_path / "none"))
    place = write_scene(run, scene_config({"name": "patch"}, 3, "mnist"))
    write_influence(place)
    points = report(run).named("points")
    assert not list(points.all("figure", "instance"))
    assert list(points.all("li"))


def held(kind: str) -> Instances:
    x = np.array([[1, 2, 0], [2, 2, 0], [3, 1, 0], [1, 1, 1]])
    words = ("", "<i>", "good", "bad")
    if kind == "tokens":
        return Instances(x, np.arange(4) % 2, kind, vocabulary=words)
    return Instances(x.astype(float), np.arange(4) % 2, kind, columns=("a", "b", "c"))


def records(train: Instances) -> tuple[Record, Record]:
    data = {
        names.PROBE_X: train.x[:2],
        names.PROBE_Y: np.array([0, 1]),
        names.PROBE_PREDICTED: np.array([1, 1]),
        names.PROBE_WANTED: np.array([1, -1]),
        names.PROBE_GROUP: np.array([0, 2], np.uint8),
        names.POISON_ROLE: np.array([1, 0, 0, 2], np.uint8),
    }
    values = np.array([[3, -1, 2, np.nan], [0, 1, 2, 3]], np.float32)
    config = {"estimator": {"name": "gas"}}
    return (
        Record(Path("s"), "scene", {}, data, {}),
        Record(Path("i"), "influence", config, {names.INFLUENCE: values}, {}),
    )


def made(scene: Record, influence: Record, train: Instances) -> list[Strip]:
    check_probe(scene)
    ranked = list(ranked_rows(scene, influence, [0, 1]))
    return strips(scene, ranked, train, range(4))


def test_sentences_and_vectors_are_told_in_words():
    sentence, _ = made(*records(held("tokens")), held("tokens"))
    assert sentence.point.words == "<i> good"
    assert sentence.point.image == ""
    assert [shown.row for shown in sentence.helpful] == [0, 2, 1]
    assert [shown.row for shown in sentence.harmful] == [1]
    assert sentence.helpful[0].role == "poison"
    assert "1 values are not finite" in sentence.told
    vector, _ = made(*records(held("vector")), held("vector"))
    assert vector.point.words == "a 1, b 2"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (names.PROBE_X, np.zeros((2, 4))),
        (names.PROBE_Y, np.zeros((2, 2), int)),
        (names.POISON_ROLE, np.zeros(3, np.uint8)),
    ],
)
def test_logs_that_do_not_fit_are_refused(key: str, value: np.ndarray):
    train = held("vector")
    scene, influence = records(train)
    scene.data[key] = value
    with pytest.raises(LogError):
        made(scene, influence, train)


def test_a_probe_without_its_instances_is_refused(tmp_path: Path):
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    with pytest.raises(LogError, match="probe/x"):
        check_probe(log.read(place / "scene.h5"))


def test_a_larger_image_is_thinned_and_other_shapes_are_none():
    large = image_uri(np.random.default_rng(0).random((3, 900, 700)), is_sound=False)
    assert 0 < len(large) < 60_000
    assert image_uri(np.zeros((3, 3)), is_sound=False) == ""
    assert image_uri(np.full((1, 2, 2), np.nan), is_sound=True)


def test_attacks_beyond_the_limit_are_counted(tmp_path: Path):
    for number in range(MOST_SCENES + 2):
        place = write_scene(tmp_path, scene_config({"name": f"a{number}"}))
        write_influence(place)

    def nothing(*_: object) -> Instances:
        raise LogError(Path("x"), "is of another form")

    shown = gallery(load_results(tmp_path), nothing)
    assert shown.exhibits == []
    assert any("probe/x" in told for told in shown.left_out)
    assert any(f"2 of {MOST_SCENES + 2} attacks" in told for told in shown.left_out)


# ---- order of cells


@given(st.lists(st.floats(-1e6, 1e6).map(lambda x: f"{x:.3f}"), min_size=2))
def test_numbers_are_ordered_by_value(texts: list[str]):
    made = web_table(Table("T", "", ("x",), [[text] for text in texts], 0))
    places = [row[0].place for row in made.rows]
    values = [float(text) for text in texts]
    for one in range(len(texts)):
        for other in range(len(texts)):
            below = values[one] < values[other]
            assert (places[one] < places[other]) == below


def test_intervals_shares_and_missing_values_are_read():
    texts = ["0.90 [.8, 1.0]", "12.5%", "-", "- (1)", "3.4e-05", "100"]
    [column] = web_table(Table("T", "", ("x",), [[t] for t in texts], 0)).columns
    assert column.is_number
    cells = [
        row[0]
        for row in web_table(Table("T", "", ("x",), [[t] for t in texts], 0)).rows
    ]
    assert [cell.place for cell in cells] == [1, 2, None, None, 0, 3]
    assert (cells[0].value, cells[0].rest) == ("0.90", "[.8, 1.0]")


def test_names_are_ordered_with_the_numbers_in_them():
    texts = ["patch budget=0.1", "patch budget=0.05", "blend"]
    made = web_table(Table("T", "", ("attack",), [[t] for t in texts], 1))
    places = [row[0].place for row in made.rows]
    assert places == [sorted(texts, key=natural).index(text) for text in texts]
    assert set(made.columns[0].choices) == set(texts)


# ---- curves of the victims


def with_losses(folder: Path, losses: list[float]) -> None:
    """Adds losses to every scene of a folder."""
    for path in folder.glob("scenes/*/scene.h5"):
        record = log.read(path)
        data = {**record.data, names.VICTIM_LOSSES: np.array(losses)}
        log.write(path, "scene", config=record.config, data=data)


def test_a_curve_breaks_where_the_loss_is_not_finite_and_stays_in_its_frame(
    tmp_path: Path,
):
    write_scene(tmp_path, scene_config({"name": "patch"}))
    with_losses(tmp_path, [2.0, 1.0, math.inf, math.nan, 0.0, 1e300])
    results = load_results(tmp_path)
    charts = loss_charts(results, summarise(results).scenes["victims"])
    [chart] = charts.charts
    assert [len(line.split()) for line in chart.lines] == [2, 2]
    for point in " ".join(chart.lines).split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    first, second = (float(p.split(",")[1]) for p in chart.lines[0].split())
    assert first < second, "the larger loss is drawn above"


def test_victims_beyond_the_limit_are_counted_and_those_without_losses_have_no_chart(
    run: Path,
):
    results = load_results(run)
    victims = summarise(results).scenes["victims"]
    assert loss_charts(results, victims).charts == ()
    with_losses(run, [1.0, 0.5])
    charts = loss_charts(results, victims, most=1)
    assert len(charts.charts) == 1
    assert charts.left_out == 3


# ---- where the figures come from


def test_the_page_says_what_made_the_logs_and_who_used_the_ground_truth(
    run: Path, ran: Path
):
    inputs = {line[1]: line[2] for line in tables_of(report(run))["Inputs"][1:]}
    assert inputs["truth"] == "yes"
    assert inputs["tail-heaviness k=3"] == "no"
    origin = report(ran).named("origin").text
    attributes = log.read(next(ran.glob("scenes/*/scene.h5"))).attributes
    for key in ("torch", "numpy", "device", "commit"):
        assert str(attributes[key]) in origin
    dates = [log.read(path).attributes["date"] for path in ran.glob("scenes/*/*.h5")]
    assert min(map(str, dates)) in origin
    assert max(map(str, dates)) in origin
    assert 'name = "patch"' in origin, "the grid file"
