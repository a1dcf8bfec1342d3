"""What commands tell of many cells: once, in few words, and no wider than the terminal."""

import re
from pathlib import Path

import click
import pytest
from test_evaluate import scene_config, write_failure, write_scene

from experiments.cli import main
from experiments.cli.options import columns
from experiments.evaluation.load import load_results
from experiments.evaluation.summary import summarise
from experiments.evaluation.views.failures import failure_lines
from experiments.plan.cells import CellFile, Cells, SceneCells
from experiments.report.html.undone import undone
from experiments.report.render import Asked, render
from experiments.runner.existing import existing_cells
from experiments.runner.progress import progress

LONG = "RuntimeError: no sense: " + "a very long reason, " * 30 + "\nsecond line"


def test_cells_that_failed_alike_are_told_once():
    failed = [f"patch-s{seed}/detect-x: {LONG}" for seed in range(20)]
    lines = failure_lines([*failed, "blend-s0/scene: ValueError: no"])
    assert len(lines) == 3
    assert lines[0].startswith("failed: 20 cells: RuntimeError: no sense: a very")
    assert lines[0].endswith("second line")
    named = "patch-s0/detect-x, patch-s1/detect-x, patch-s2/detect-x and 17 more"
    assert lines[1].strip() == named
    assert lines[2] == "failed: blend-s0/scene: ValueError: no"
    assert not any("\n" in line for line in lines)


def test_tables_and_reports_tell_such_cells_once(tmp_path: Path):
    for seed in range(5):
        place = write_scene(tmp_path, scene_config({"name": "patch"}, seed))
        write_failure(place, "detect-x", LONG)
    write_failure(place, "detect-y", "ValueError: no")
    results = load_results(tmp_path)
    text = render(results)
    assert text.count("RuntimeError: no sense") == 1
    assert text.count("ValueError: no") == 1
    [table] = undone(tmp_path, summarise(results)).tables
    assert len(table.rows) == 2
    assert table.rows[0][1].startswith("5 files: scenes/")
    assert table.rows[0][1].endswith("and 2 more")
    assert len(summarise(results).failures) == 6, "the count is of cells"


def shown(width: int, folder: Path) -> list[str]:
    """Lines of the status of four scenes with 20 detectors, of which one file failed."""
    fields = "target=0 size=null place=bottom-right"
    files = [
        CellFile(f"detect-{i}.h5", "k", {}, {"detector": f"name{i}"}) for i in range(20)
    ]
    scenes = []
    for budget in (0.01, 0.05):
        for seed in (0, 1):
            attack = f"patch {fields} budget={budget}"
            scenes.append(SceneCells(attack, seed, f"{budget}-{seed}", tuple(files)))
    failed = folder / "scenes" / "0.01-0"
    write_failure(failed, "detect-3", "ValueError: no")
    cells = Cells("grid", tuple(scenes))
    return progress(cells, folder, existing_cells(cells, folder), width).splitlines()


@pytest.mark.parametrize("width", [80, 110])
def test_status_names_the_fields_that_differ_and_wraps(width: int, tmp_path: Path):
    lines = shown(width, tmp_path)
    assert lines[0] == "grid: 4 scenes, 80 cells, 0 done, 1 failed, 79 missing"
    assert max(map(len, lines)) <= width
    scenes = [line for line in lines if re.match(r" +0/20", line)]
    assert len(scenes) == 4
    assert "patch budget=0.01, seed 0  0.01-0" in scenes[0]
    assert "bottom-right" not in "".join(lines)


@pytest.mark.parametrize(("terminal", "width"), [(40, 80), (97, 97), (300, 120)])
def test_text_is_as_wide_as_the_terminal_within_bounds(
    terminal: int, width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("COLUMNS", str(terminal))
    assert columns() == width
    write_scene(tmp_path, scene_config({"name": "patch"}))
    lines = render(load_results(tmp_path), "table", Asked(width=width)).splitlines()
    legend = lines[1 : lines.index("")]
    assert width - 15 < max(map(len, legend)) <= width


def options(command: click.Command, context: click.Context) -> list[click.Option]:
    return [p for p in command.get_params(context) if isinstance(p, click.Option)]


@pytest.mark.parametrize("name", ["run", "demo", "status", "evaluate", "plot", "clean"])
def test_every_option_has_a_meaning(name: str):
    with click.Context(main, info_name="poisonbench") as top:
        command = main.get_command(top, name)
        assert command is not None
        found = options(command, click.Context(command, parent=top))
    assert found
    for option in found:
        meaning = (option.help or "").partition("[default")[0]
        assert meaning.strip(), f"{name} {option.opts}"
