"""`poisonbench new`: what it writes runs at once, passes lint and check, and overwrites nothing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import attacks
from experiments.check import verdicts
from experiments.cli import main
from experiments.new import PACKAGES, TEMPLATES
from experiments.plan.parse import parse
from poisonbench.data import KIND_OF
from poisonbench.data import KINDS as DATA

ROOT = Path(__file__).parent.parent
KINDS = sorted(PACKAGES)
KINDS_OF_DATA = list(DATA)
OTHERS = KINDS_OF_DATA[1:]


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, first on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("corner_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("kind", "data"),
    [*[(kind, "image") for kind in KINDS], *[("attack", data) for data in OTHERS]],
)
def test_a_new_method_passes_lint_keeps_every_rule_and_fits_in_40_lines(
    kind: str, data: str, folder: Path
):
    result = call("new", kind, f"corner-{kind}", "--data", data)
    assert result.exit_code == 0, result.output
    files = [f"corner_{kind}.py", f"test_corner_{kind}.py", f"corner_{kind}.toml"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    assert all(f"wrote {file}" in result.output for file in files)
    assert len((folder / files[0]).read_text().splitlines()) <= 40
    for action in ("check", "format"):
        code = [
            sys.executable,
            "-m",
            "ruff",
            action,
            "--no-cache",
            "--config",
            str(ROOT / "pyproject.toml"),
        ]
        options = ["--check", "--line-length", "100"] if action == "format" else []
        done = subprocess.run(
            [*code, *options, "."],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    target = f"corner_{kind}:Corner{kind.capitalize()}"
    assert f"poisonbench check {kind} {target}" in result.output
    checked = call("check", kind, target, "--no-victim")
    assert checked.exit_code == 0, checked.output
    assert "to look at" not in checked.output, "no warning either"


def test_a_new_attack_runs_in_its_grid_at_once_and_its_test_passes(folder: Path):
    assert call("new", "attack", "corner-glow").exit_code == 0
    small = [
        "dataset.train=200",
        "dataset.test=200",
        "seeds=[0]",
        "recipe.model=linear",
        "recipe.epochs=2",
    ]
    (folder / "corner_glow.toml").write_text(
        (folder / "corner_glow.toml")
        .read_text()
        .replace('"digits"', '{name = "digits"}')
    )
    words = [word for text in small for word in ("--set", text)]
    result = call("run", "corner_glow.toml", "-o", "logs", "--workers", 0, *words)
    assert result.exit_code == 0, result.output
    assert "corner_glow:CornerGlow" in call("evaluate", "logs").output
    spec = {"__name__": "test_corner_glow"}
    exec((folder / "test_corner_glow.py").read_text(), spec)
    spec["test_no_rule_is_broken"]()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Corner", "lower-case words"),
        ("corner_glow", "lower-case words"),
        ("../corner", "lower-case words"),
        ("-corner", "No such option"),
        ("corner--glow", "lower-case words"),
        ("1corner", "lower-case words"),
        ("", "lower-case words"),
        ("c" * 61, "at most 60"),
        ("class", "a word of Python's own"),
        ("none", "a word of Python's own"),
        ("patch", "there is attack 'patch' already"),
        ("random", "would clash with the module 'random'"),
        ("attacks", "would clash with the module 'attacks'"),
        ("click", "would clash with the module 'click'"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(
    name: str, part: str, folder: Path
):
    result = call("new", "attack", name)
    assert result.exit_code == 2, result.output
    assert part in result.stderr
    assert not list(folder.iterdir())


def test_nothing_is_overwritten_and_then_nothing_at_all_written(folder: Path):
    (folder / "test_corner_glow.py").write_text("mine")
    result = call("new", "attack", "corner-glow")
    assert result.exit_code == 2
    assert "test_corner_glow.py is there already" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["test_corner_glow.py"]
    assert (folder / "test_corner_glow.py").read_text() == "mine"


def test_another_folder_is_made_and_named_in_the_steps(folder: Path):
    result = call("new", "attack", "corner-glow", "--folder", "my methods/here")
    assert result.exit_code == 0
    assert (folder / "my methods" / "here" / "corner_glow.py").exists()
    assert "cd 'my methods/here'" in result.output
    (folder / "file").write_text("")
    refused = call("new", "attack", "corner-other", "--folder", "file/sub")
    assert refused.exit_code == 2
    assert "name a folder that can be written" in refused.stderr


def test_inside_the_tree_the_method_alone_is_written_and_the_lines_to_add_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "attacks").mkdir()
    monkeypatch.setattr(attacks, "__file__", str(folder / "attacks" / "__init__.py"))
    result = call("new", "attack", "corner-glow", "--folder", "attacks")
    assert [path.name for path in (folder / "attacks").iterdir()] == ["corner_glow.py"]
    for line in (
        "from attacks.corner_glow import CornerGlow",
        '"corner-glow": CornerGlow,',
        "CornerGlow()",
        "check attack corner-glow",
    ):
        assert line in result.output


def test_templates_lie_in_the_package_that_is_installed():
    assert TEMPLATES.parent == ROOT / "experiments"
    others = {"test.py.txt", "grid.toml.txt", "data.toml"}
    assert {f"{kind}.py.txt" for kind in KINDS} | others == {
        p.name for p in TEMPLATES.iterdir()
    }


@pytest.mark.parametrize("data", KINDS_OF_DATA)
@pytest.mark.parametrize("kind", KINDS)
def test_the_grid_of_a_new_method_is_of_the_data_asked_for(
    kind: str, data: str, folder: Path
):
    assert call("new", kind, "corner-glow", "--data", data).exit_code == 0
    made = tomllib.loads((folder / "corner_glow.toml").read_text())
    parse(made)
    dataset = made["dataset"]
    name = dataset if isinstance(dataset, str) else dataset["name"]
    assert KIND_OF[name] == data


def test_a_new_attack_on_each_kind_of_data_takes_that_kind(folder: Path):
    for data in KINDS_OF_DATA:
        name = f"corner-{data}"
        assert call("new", "attack", name, "--data", data).exit_code == 0
        target = f"corner_{data}:Corner{data.capitalize()}"
        _, found = verdicts("attack", target, victim=True)
        told = {verdict.rule: verdict for verdict in found}
        assert told["success"].outcome == "ok", told["success"]
        assert {verdict.outcome for verdict in found} <= {"ok", "skip"}
