"""The pages whose examples are run as they stand: files are written, commands run."""

import re
import subprocess
from pathlib import Path

import pytest
from test_tutorial import blocks


def write_files(page: str, folder: Path) -> None:
    """Writes the titled blocks of a page."""
    for _, title, content in blocks(page):
        if title:
            (folder / title).write_text(content)


def commands(page: str) -> list[str]:
    """The blocks of commands of a page."""
    return [content for language, _, content in blocks(page) if language == "sh"]


def run(command: str, folder: Path, shell: dict[str, str]) -> str:
    """Runs a block and returns what it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_of_each_kind_runs_in_a_grid(tmp_path: Path, environment: dict[str, str]):
    write_files("extending.md", tmp_path)
    printed = [run(c, tmp_path, environment) for c in commands("extending.md")]
    for checked in printed[:3]:
        assert "broken" not in checked
    tables = printed[-1]
    for name in (
        "my_attack:Dot",
        "my_estimator:Nearness",
        "my_detector:Gap",
        "my_filter:Brightest",
        "my_mitigation:DropTop",
        "my_certifier:Constant",
        "my_group:EachClass",
    ):
        assert name in tables, tables


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_grid_and_the_code_of_the_quickstart_run(
    tmp_path: Path,
    environment: dict[str, str],
):
    write_files("quickstart.md", tmp_path)
    [grid] = [c for c in commands("quickstart.md") if "first.toml" in c]
    tables = run(grid, tmp_path, environment)
    assert "patch budget=0.05" in tables
    assert "tail-heaviness" in tables
    [code] = [c for language, _, c in blocks("quickstart.md") if language == "python"]
    (tmp_path / "door.py").write_text(code)
    printed = run("python -W error door.py", tmp_path, environment)
    assert printed.count("tensor(") == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_of_ones_own_is_judged(tmp_path: Path, environment: dict[str, str]):
    write_files("own-model.md", tmp_path)
    printed = run("python -W error judged.py", tmp_path, environment)
    helpful, label, p_value, flag = printed.split("tensor(")[1:]
    rows = [int(number) for number in re.findall(r"\d+", helpful)]
    attacked = [row < 40 for row in rows[:50]]  # 10 points, 5 rows each
    assert sum(attacked) > 30
    assert label.count("0") >= 8
    assert p_value.count(",") > 18
    assert re.findall("True|False", flag)[:10].count("True") >= 6
    assert re.findall("True|False", flag)[10:].count("True") <= 4
    shown = [
        run(command, tmp_path, environment) for command in commands("own-model.md")
    ]
    assert "suspicion" in "".join(shown)
    assert "ACCURACY: no planted noise, 1,000 training rows" in "".join(shown)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_grid_of_the_page_on_grids_is_sound(
    tmp_path: Path, environment: dict[str, str]
):
    write_files("grids.md", tmp_path)
    [dry] = commands("grids.md")
    assert "9 scenes, 54 cells" in run(dry, tmp_path, environment)
