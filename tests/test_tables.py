"""Every format parses back, and nothing is dropped without a word.

No name from a log can break out of its cell.
"""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_evaluate import (
    scene_config,
    write_detect,
    write_failure,
    write_influence,
    write_scene,
)
from test_identify import write_filter
from test_mitigation import write_mitigation

from experiments.evaluation.load import Results, load_results
from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import ShortNames
from experiments.evaluation.summary import summarise
from experiments.report.markup import to_latex, to_markdown
from experiments.report.render import render
from experiments.report.table import Cells, Table
from experiments.report.tables import tables
from experiments.report.text import to_text
from poisonbench import log

FAULTS = ("failures", "damaged")
FORMS = ("table", "markdown", "latex", "csv", "json")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two budgets of one attack, two seeds, a control without attack.

    Also a failure, a damaged file, an infinite hyperparameter.
    """
    for seed in (0, 1):
        for attack in (
            {"name": "patch", "budget": 0.05},
            {"name": "patch", "budget": 0.01},
            {"name": "none"},
        ):
            bare = attack["name"] == "none"
            groups = [1] * 5 if bare else [0, 0, 1, 2, 2]
            place = write_scene(
                tmp_path,
                scene_config(attack, seed),
                groups=groups,
                targets=(0, 0) if bare else (3, 4),
            )
            write_influence(place)
            write_detect(place, [3, 1, 2, 0, 0], scope="label", k=3)
            write_detect(place, [3, 3, 2, 0, 0], scope="all", k=3, limit=float("inf"))
            write_detect(
                place, [1] * 5, estimator=None, detector="constant", uses="oracle"
            )
    write_failure(place, "influence-hydra", "out of memory")
    (place / "detect-bad.h5").write_bytes(b"?")
    return load_results(tmp_path)


FORMS_OF_NUMBERS = st.sampled_from([".3f", "+.3f", ".3g", ".1%"])


@given(numbers=st.tuples(*[st.floats(-1, 1)] * 3), form=FORMS_OF_NUMBERS)
def test_a_value_inside_its_interval_is_so_as_it_is_written(
    numbers: tuple[float, float, float], form: str
) -> None:
    low, value, high = sorted(numbers)
    [cell] = Cells().row(Metric(value, interval=(low, high)), form=form)
    written = [float(n.rstrip("%")) for n in re.findall(r"[^\s\[\],]+", cell)]
    assert written[1] <= written[0] <= written[2]
    # one style: the ends look as values do
    ends = cell.partition(" ")[2].strip("[]").split(", ")
    assert ends == [f"{low:{form}}", f"{high:{form}}"]


def test_a_name_shows_the_fields_that_vary_among_methods_of_that_name_and_no_other() -> (
    None
):
    configs = [
        {"name": "tail", "k": 3, "scope": "label"},
        {"name": "tail", "k": 3, "scope": "all"},
        {"name": "gini", "k": 9},
    ]
    name = ShortNames.of([*configs, configs[0], None]).name
    assert [name(c) for c in configs] == ["tail scope=label", "tail scope=all", "gini"]
    assert name(None) == "none"
    fields = [
        {"name": "x", "a": 0.05, "b": [1, 2]},
        {"name": "x", "a": 1e-6, "b": None},
        {"name": "x", "b": [1, 2]},
    ]
    assert [ShortNames.of(fields).name(c) for c in fields] == [
        "x a=0.05 b=[1, 2]",
        "x a=1e-06",
        "x b=[1, 2]",
    ]


def test_rows_are_ordered_by_name_with_numbers_by_value(results: Results) -> None:
    summary = summarise(results)
    assert [
        row.settings["attack"].get("budget") for row in summary.rows["victims"]
    ] == [
        None,
        0.01,
        0.05,
    ]
    assert len(summary.rows["detections"]) == 9
    assert {len(row.seeds) for row in summary.rows["detections"]} == {2}


def test_the_mean_over_attacks_takes_those_with_a_defined_auroc(
    results: Results,
) -> None:
    names = {row.settings["attack"]["name"] for row in summarise(results).means}
    assert names == {"mean of 2 attacks"}


def test_the_terminal_table_is_aligned_narrow_and_names_reasons_faults_and_oracles(
    results: Results,
) -> None:
    text = render(results)
    assert max(map(len, text.splitlines())) <= 110
    for part in (
        "patch budget=0.01",
        "scope=label",
        "[oracle]",
        "no attacked points",
        "constant scores",
        "out of memory",
        "detect-bad.h5",
    ):
        assert part in text
    head = next(line for line in text.splitlines() if "AUROC [95 %]" in line)
    values = [line for line in text.splitlines() if "tracin" in line and "0.8" in line]
    assert values
    assert all(
        line[head.index("AUROC") - 1] == " " and line[head.index("AUROC")].isdigit()
        for line in values
    )


def test_the_path_of_a_fault_stays_in_one_piece_however_long_its_reason(
    tmp_path: Path,
) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch-of-a-long-name"}))
    reason = "no memory left for this estimator, and this reason is long " * 3
    paths = [
        write_failure(place, f"influence-with-a-name-of-many-parts-{i}", reason)
        for i in range(2)
    ]
    text = render(load_results(tmp_path))
    assert all(str(path.relative_to(tmp_path)) in text for path in paths)
    assert max(map(len, text.splitlines())) <= 110
    assert " ".join(text.split()).count(reason.strip()) == 1


def test_undefined_is_a_dash_with_a_footnote(results: Results) -> None:
    detection = tables(summarise(results))[1]
    rows = [row for row in detection.rows if row[0] == "none"]
    assert {row[3] for row in rows} == {"- (1)"}
    assert detection.notes[0] == "(1) no attacked points"


def test_long_names_wrap_between_words_and_lose_nothing() -> None:
    table = Table(
        "T",
        "",
        ("attack", "estimator", "detector", "n"),
        [("a", "influence-functions", "tail k=3 scope=label", "7")],
        3,
    )
    text = to_text(table, 40)
    assert max(map(len, text.splitlines())) <= 40
    assert "".join(text.split()).count("influence-") == 1
    for word in ("functions", "tail", "k=3", "scope=label", "7"):
        assert word in text


def test_json_is_valid_without_nan_and_keeps_full_precision_and_reasons(
    results: Results,
) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    data = json.loads(render(results, "json"), parse_constant=refuse)
    assert set(data) >= {
        "victims",
        "detections",
        "means",
        "costs",
        "failures",
        "damaged",
        "scene-detections",
    }
    assert len(data["scene-detections"]) == 18
    by_attack = {row["settings"]["attack"]["name"]: row for row in data["detections"]}
    assert by_attack["none"]["metrics"]["auroc"] == {
        "value": None,
        "reason": "no attacked points",
        "interval": None,
        "defined": 0,
    }
    label = [
        r
        for r in data["detections"]
        if r["settings"]["detector"].get("scope") == "label"
        and r["counts"]["successful"]
    ]
    assert label[0]["metrics"]["auroc"]["value"] == 5 / 6
    assert "Infinity" in json.dumps(data)
    assert data["failures"][0]["reason"] == "out of memory"
    assert data["damaged"][0]["path"].endswith("detect-bad.h5")


def test_csv_reads_back_with_every_row_in_full_precision(results: Results) -> None:
    lines = list(csv.DictReader(io.StringIO(render(results, "csv"))))
    summary = summarise(results)
    for name, rows in summary.tables().items():
        found = [line for line in lines if line["table"] == name]
        assert len(found) == len(rows)
        for line, row in zip(found, rows, strict=True):
            for key, metric in row.metrics.items():
                assert line.get(key, "") == (
                    "" if metric.value is None else repr(metric.value)
                )
    assert [line["reason"] for line in lines if line["table"] == "failures"] == [
        "out of memory"
    ]
    assert {line["attack.budget"] for line in lines if line["table"] == "victims"} == {
        "",
        "0.01",
        "0.05",
    }
    assert {line["uses"] for line in lines if line["detector.name"] == "constant"} == {
        "oracle"
    }


def test_markdown_has_cells_of_equal_number_and_escapes_markup() -> None:
    table = Table(
        "T", "le|gend", ("a", "b"), [("x|y_*z", "<b>&`[link](u)")], 1, ("(1) a|b",)
    )
    text = to_markdown(table)
    assert r"| x\|y\_\*z | &lt;b&gt;&amp;\`\[link\](u) |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {3}


def test_latex_escapes_every_special_character_and_no_bracket_follows_a_line_end() -> (
    None
):
    special = "\\ & % $ # _ { } ~ ^ < > |"
    table = Table("T", special, ("a", "b"), [("[x]", special)], 1, (special,))
    text = to_latex(table)
    want = (
        r"\textbackslash{} \& \% \$ \# \_ \{ \} "
        r"\textasciitilde{} \textasciicircum{} \textless{} \textgreater{} \textbar{}"
    )
    assert text.count(want) == 3
    assert r"{[}x{]} & " in text
    assert (
        text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    )


def test_latex_has_numbers_at_the_right_a_label_a_short_caption_and_dashes() -> None:
    rows = [("a-1", "-0.042 [-1.000, +0.500]"), ("b", "- (1)"), ("-", "12.5%")]
    legend = "One sentence. Another one: with more."
    table = Table("AT A GLANCE", legend, ("x", "n"), rows, 1, ("(1) why",))
    lines = to_latex(table).splitlines()
    assert lines[1:4] == [
        r"\caption{At a glance. One sentence.}",
        r"\label{tab:at-a-glance}",
        r"\begin{tabular}{lr}",
    ]
    assert r"a-1 & $-$0.042 {[}$-$1.000, +0.500{]} \\" in lines
    assert r"b & -- (1) \\" in lines
    assert r"-- & 12.5\% \\" in lines
    assert lines[-3:-1] == [
        r"\par\footnotesize Another one: with more.",
        r"\par\footnotesize (1) why",
    ]


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_names_cannot_steer_the_terminal_or_break_lines(
    tmp_path: Path, form: str
) -> None:
    evil = "pa\x1b[31mtch\nDAMAGED\r"
    place = write_scene(tmp_path, scene_config({"name": "x"}))
    record_free = scene_config({"name": evil})
    log.write(
        place / "scene.h5",
        "scene",
        config=record_free,
        data=log.read(place / "scene.h5").data,
    )
    write_failure(place, "x", "a\x1b]0;b\nc")
    text = render(load_results(tmp_path), form)
    assert "\x1b" not in text
    assert "\r" not in text
    assert not any(line.startswith("DAMAGED") for line in text.splitlines())


@pytest.mark.parametrize("form", FORMS)
def test_every_format_renders_a_run_that_has_done_nothing_yet(
    tmp_path: Path, form: str
) -> None:
    (tmp_path / "scenes").mkdir()
    text = render(load_results(tmp_path), form)
    assert text.strip()


def test_an_unknown_format_names_those_there_are(results: Results) -> None:
    with pytest.raises(
        ValueError, match=r"table, markdown, latex, csv, json, got 'xml'"
    ):
        render(results, "xml")


def test_two_data_sets_are_told_apart_in_the_tables(tmp_path: Path) -> None:
    for dataset in ("digits", "mnist"):
        place = write_scene(tmp_path, scene_config({"name": "patch"}, dataset=dataset))
        write_detect(place, np.arange(15))
    text = render(load_results(tmp_path))
    assert "patch, digits cnn" in text
    assert "patch, mnist cnn" in text


FORMS_WITH_TABLES = ("table", "markdown", "latex")


@pytest.fixture
def missed(tmp_path: Path) -> Results:
    """An attack that was asked for half of 60 rows and poisoned 12 of them, with every defense."""
    role = [1] * 12 + [0] * 48
    place = write_scene(
        tmp_path,
        scene_config({"name": "clean-label", "budget": 0.5}),
        role=role,
        won=[True] * 4,
    )
    write_detect(place, np.arange(15))
    write_detect(place, np.arange(15)[::-1], detector="rival")
    write_filter(place, np.arange(60))
    write_mitigation(place, removed=np.arange(60) < 3)
    scene = log.read(place / "scene.h5").config
    certificate = {
        "label": np.zeros(4, int),
        "radius": np.zeros(4, int),
        "truth": np.zeros(4, int),
        "targets/label": np.zeros(2, int),
        "targets/radius": np.zeros(2, int),
        "targets/y": np.zeros(2, int),
        "targets/wanted": np.ones(2, int),
    }
    config = {"scene": scene, "certifier": {"name": "toy"}}
    log.write(place / "certify-toy.h5", "certify", config=config, data=certificate)
    return load_results(tmp_path)


def test_every_table_shows_a_budget_that_was_missed(missed: Results) -> None:
    made = tables(summarise(missed, "rival"))
    assert [table.title for table in made] == [
        "VICTIMS",
        "DETECTION",
        "DIFFERENCES",
        "IDENTIFICATION",
        "MITIGATION",
        "CERTIFIED",
    ]
    told = "clean-label budget=0.5 (achieved: 12 of 60 rows, 0.2)"
    for table in made:
        assert {row[0] for row in table.rows} == {told}, table.title
        wide = to_text(table, 200)  # where no name wraps
        for text in (wide, to_markdown(table), to_latex(table)):
            assert "12 of 60 rows" in text
    assert made[0].rows[0][1] == "0.5 (12 of 60 rows, 0.2)"


def test_exports_have_columns_for_what_was_asked_and_what_was_achieved(
    missed: Results,
) -> None:
    want = {
        "asked": 0.5,
        "achieved": 0.2,
        "poison_rows": 12.0,
        "cover_rows": 0.0,
        "train_rows": 60.0,
    }
    content = json.loads(render(missed, "json"))
    rows = [
        row for name, found in content.items() if name not in FAULTS for row in found
    ]
    assert len(rows) >= 10
    assert all(row["budget"] == want for row in rows)
    for line in csv.DictReader(io.StringIO(render(missed, "csv"))):
        assert {key: float(line[f"budget.{key}"]) for key in want} == want


def test_a_budget_that_was_met_adds_nothing_to_a_name(tmp_path: Path) -> None:
    role = [1] * 3 + [0] * 57
    write_scene(tmp_path, scene_config({"name": "patch", "budget": 0.05}), role=role)
    [table] = tables(summarise(load_results(tmp_path)))
    assert list(table.rows[0][:2]) == ["patch", "0.05 (3 rows)"]
