"""The command line as a person meets it: exit codes, one-line errors, and what it prints."""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from attacks import ATTACKS
from experiments.cli import main
from experiments.plan.fields import settable
from experiments.plan.methods import TABLES
from experiments.plan.spec import ProbeSpec, TransferSpec
from experiments.report.listing.source import (
    REQUIRED,
    Module,
    UnreadableError,
    fields_of,
    find,
)
from experiments.report.listing.texts import (
    METHODS,
    THINGS,
    from_class,
    methods,
    things,
)
from poisonbench.training import Recipe

ROOT = Path(__file__).parent.parent
GRID = """
dataset = {name = "digits", train = 200, test = 150}
seeds = [0, 1]
[recipe]
model = "linear"
epochs = 2
checkpoints = 2
[probe]
attacked = 10
controls = 20
calibration = 20
[[attack]]
name = "patch"
budget = 0.05
[[attack]]
name = "none"
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


def child(*words: str) -> subprocess.CompletedProcess[str]:
    code = [sys.executable, "-X", "importtime", "-m", "experiments.cli", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        code, env=env, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small grid, made in this process."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "grid.toml").write_text(GRID)
    result = call("run", folder / "grid.toml", "-o", folder / "logs", "--workers", 0)
    assert result.exit_code == 0, result.output
    assert "16 cells" in result.stderr
    return folder / "logs"


def test_help_does_not_import_torch():
    done = child("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "click" in imported
    assert not imported & {"torch", "numpy", "h5py", "matplotlib", "sklearn"}


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_explains_itself(command: str):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert isinstance(main.commands[command], click.Command)
    assert len(result.output.splitlines()) > 4


def test_typos_are_told_all_at_once_and_nothing_is_trained(tmp_path: Path):
    (tmp_path / "g.toml").write_text(
        GRID.replace("budget", "budjet")
        .replace('"gas"', '"gaz"')
        .replace("epochs = 2", "epochs = 0")
    )
    result = call("run", tmp_path / "g.toml", "-o", tmp_path / "logs")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert all(line.startswith(("Error: ", "Hint: ")) for line in lines), result.stderr
    for part in (
        "attack[0].budjet: unknown key; did you mean 'budget'?",
        "did you mean 'gas'?",
        "epochs must be at least 1, got 0",
    ):
        assert part in result.stderr
    assert not (tmp_path / "logs").exists()


def test_dry_run_shows_the_cells_and_does_none(tmp_path: Path):
    (tmp_path / "g.toml").write_text(GRID)
    result = call(
        "run",
        tmp_path / "g.toml",
        "-o",
        tmp_path / "logs",
        "--dry-run",
        "--set",
        "seeds=[0, 1, 2]",
    )
    assert result.exit_code == 0
    assert "6 scenes, 24 cells, 0 done, 0 failed" in result.output
    assert "\n  estimators: gas\n" in result.output
    assert "patch, seed 0  digits-linear-patch-s0-" in result.output
    assert not (tmp_path / "logs").exists()


def test_status_counts(logs: Path):
    result = call("status", logs)
    assert result.exit_code == 0
    assert "4 scenes, 16 cells, 16 done, 0 failed" in result.output


def test_the_second_run_takes_seconds(logs: Path):
    start = time.perf_counter()
    result = call("run", logs.parent / "grid.toml", "-o", logs)
    assert result.exit_code == 0
    assert "16 were there, 0 done" in result.stderr
    assert time.perf_counter() - start < 5


def test_evaluate_prints_every_form(logs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")  # seconds of a loaded machine are wide
    table = call("evaluate", logs).stdout
    assert re.search(r"patch +0\.05 \(10 rows\) +0\.\d{3}", table)
    assert "tail-heaviness" in table
    assert "no attacked points" in table, "the control has no AUROC, and that is said"
    rows = json.loads(call("evaluate", logs, "--format", "json").stdout)
    assert rows
    for form in ("csv", "markdown", "latex"):
        result = call("evaluate", logs, "--format", form)
        assert result.exit_code == 0
        assert "tail-heaviness" in result.stdout


def test_a_damaged_log_is_named_and_the_rest_evaluated(logs: Path, tmp_path: Path):
    copy = tmp_path / "logs"
    for path in logs.rglob("*.h5"):
        (copy / path.relative_to(logs)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(logs)).write_bytes(path.read_bytes())
    bad = sorted(copy.rglob("detect-gas-*.h5"))[:2]
    bad[0].write_bytes(bad[0].read_bytes()[:-7])
    bad[1].write_bytes(b"no log at all")
    result = call("evaluate", copy)
    assert result.exit_code == 3
    assert all(path.name in result.output for path in bad), (
        "all bad files are named, not the first alone"
    )
    assert "tail-heaviness" in result.stdout
    shown = call("show", bad[1])
    assert (shown.exit_code, shown.stderr.count("Error: ")) == (3, 1)
    assert "Traceback" not in shown.output


def test_a_damaged_scene_stops_that_scene_alone(logs: Path, tmp_path: Path):
    copy = tmp_path / "logs"
    for path in [logs / "grid.toml", *logs.rglob("scene.h5")]:
        (copy / path.relative_to(logs)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(logs)).write_bytes(path.read_bytes())
    for path in logs.rglob("trace.h5"):
        (copy / path.relative_to(logs)).write_bytes(path.read_bytes())
    bad = next(copy.glob("scenes/*patch-s0-*/trace.h5"))
    bad.write_bytes(bad.read_bytes()[:-100])
    result = call("run", copy / "grid.toml", "-o", copy, "--workers", 0)
    assert result.exit_code == 3
    assert str(bad) in result.stderr
    assert "16 cells" in result.stderr
    assert "9 done" in result.stderr, "three scenes of three stages each"


def test_show_prints_what_a_log_holds(logs: Path):
    result = call("show", next(logs.rglob("scene.h5")))
    assert result.exit_code == 0
    for part in (
        "kind: scene",
        "configuration:",
        '"seed"',
        "poison/role",
        "attributes:",
    ):
        assert part in result.output
    assert call("show", next(logs.rglob("influence-*.h5"))).exit_code == 0


@pytest.mark.parametrize(
    "kind",
    [None, "attacks", "estimators", "detectors", "models", "datasets", "recipe"],
)
def test_list_names_everything_a_grid_can_name(kind: str | None):
    result = call("list", *([kind] if kind else []))
    assert result.exit_code == 0
    expected = {
        "attacks": ["patch", "budget=0.01", "arXiv 1708.06733"],
        "estimators": ["tracin", "mode='checkpoints'"],
        "detectors": ["support-without-the-few", "few="],
        "models": ["resnet9"],
        "datasets": ["cifar10"],
        "recipe": ["weight_decay=0.0005", "crop-flip"],
    }
    for title, parts in expected.items():
        assert all(
            (part in result.output) == (kind in (None, title)) for part in parts
        ), result.output


def list_or_same(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def test_list_tells_a_program_the_same():
    told = json.loads(call("list", "--json").stdout)
    for title in told:
        assert json.loads(call("list", title, "--json").stdout) == {title: told[title]}
    tables = {"dataset", "recipe", "transfer", "probe"}
    assert {f"{kind}s" for kind in TABLES} | {"models", "datasets"} | tables == set(
        told
    )
    for name, cls in (
        ("recipe", Recipe),
        ("transfer", TransferSpec),
        ("probe", ProbeSpec),
    ):
        live = {key: list_or_same(f.default) for key, f in settable(cls).items()}
        assert {key: entry["default"] for key, entry in told[name].items()} == live
        assert all(entry["about"] for entry in told[name].values())
    refused = call("list", "atacks")
    assert refused.exit_code == 2
    assert "'attacks'" in refused.stderr
    assert told["attacks"]["patch"]["class"] == "attacks.patch:Patch"
    assert told["attacks"]["patch"]["fields"]["budget"] == 0.01
    assert "arXiv 1708.06733" in told["attacks"]["patch"]["about"]
    marked = [
        name for name, entry in told["attacks"].items() if "experimental" in entry
    ]
    assert marked == [
        name for name, cls in ATTACKS.items() if hasattr(cls, "experimental")
    ]
    assert "Experimental: it may still change." in call("list", "attacks").stdout


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("run", "absent.toml", "-o", "x"), 2, "absent.toml: No such file"),
        (("evaluate", "absent"), 2, "holds no logs"),
        (("status", "absent"), 2, "holds no logs"),
        (("show", "."), 2, "is a folder with 0 logs"),
        (("show", "absent.h5"), 3, "absent.h5"),
        (("frobnicate",), 2, "No such command"),
        (("run",), 2, "Missing argument"),
    ],
    ids=str,
)
def test_a_mistake_costs_a_line_and_a_hint(
    words: tuple[str, ...],
    code: int,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == code
    assert part in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_an_unknown_device_is_refused(tmp_path: Path):
    (tmp_path / "g.toml").write_text(GRID)
    for device in ("gpu", "cuda:99", "meta"):
        result = call(
            "run", tmp_path / "g.toml", "-o", tmp_path / "logs", "--device", device
        )
        assert result.exit_code == 2
        assert f"--device {device}" in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path):
    assert "Traceback" in call("--debug", "show", tmp_path / "absent.h5").stderr


def check_demo(report: dict[str, list[dict]]) -> None:
    """What the demonstration is to show, means over its seeds."""
    victims = {
        (r["settings"]["attack"]["name"], r["settings"]["attack"].get("budget")): r[
            "metrics"
        ]
        for r in report["victims"]
    }
    assert victims["patch", 0.05]["asr"]["value"] >= 0.9
    assert all(
        metrics["clean_accuracy"]["value"] >= 0.95
        for (name, _), metrics in victims.items()
        if name != "label-flip"
    )

    def auroc(detector: str, estimator: str | None, **fields: object) -> list[dict]:
        found = []
        for row in report["detections"]:
            attack, judge, by = (
                row["settings"].get(kind)
                for kind in ("attack", "detector", "estimator")
            )
            wanted = (attack["name"], attack.get("budget")) in (
                ("patch", 0.05),
                ("blend", 0.05),
            )
            if (
                wanted
                and judge["name"] == detector
                and (by and by["name"]) == estimator
                and fields.items() <= judge.items()
            ):
                found.append(row["metrics"]["auroc"])
        assert len(found) == 2
        return found

    def mean(rows: list[dict]) -> float:
        return sum(row["value"] for row in rows) / len(rows)

    tail = mean(auroc("tail-heaviness", "gas", scope="label", k=3))
    assert tail >= 0.85
    assert mean(auroc("tail-heaviness", "gas", scope="all")) < tail - 0.3
    assert mean(auroc("support-without-the-few", "tracin")) >= 0.93
    assert mean(auroc("foreign-or-fragile", "gas")) >= 0.97
    for row in auroc("random", None):
        assert row["interval"][0] <= 0.5 <= row["interval"][1]


@pytest.mark.slow
def test_the_demo_meets_its_facts(tmp_path: Path):
    """Attack success, clean accuracy and detection on the demonstration, means over its seeds."""
    result = call("demo", "-o", tmp_path / "demo", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert {p.name for p in (tmp_path / "demo").glob("*.png")} == {
        "roc.png",
        "auc-by-attack.png",
        "auc-by-success.png",
        "influence.png",
    }
    assert (tmp_path / "demo" / "report.html").stat().st_size < 2_000_000
    rows = json.loads(call("evaluate", tmp_path / "demo", "--format", "json").stdout)
    check_demo(rows)


READERS = {
    "list": ("list",),
    "list for a program": ("list", "--json"),
    "evaluate": ("evaluate", "{logs}"),
    "status": ("status", "{logs}"),
    "plot": ("plot", "roc", "{logs}", "-o", "{logs}/roc.png"),
    "curve": ("plot", "curve", "{logs}", "-o", "{logs}/curve.png", "--axis", "target"),
    "agreement": ("plot", "agreement", "{logs}", "-o", "{logs}/agreement.png"),
    "show": ("show", "{scene}"),
}


@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_what_reads_logs_needs_no_torch(logs: Path, words: tuple[str, ...]):
    scene = next(logs.rglob("scene.h5"))
    filled = [word.format(logs=logs, scene=scene) for word in words]
    code = "import sys\nfrom experiments.cli import main\ntry: main(sys.argv[1:])\nfinally:"
    code += " print(sorted({'torch', 'torchvision', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, *filled],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_status_tells_the_same_with_and_without_the_file_of_cells(
    logs: Path, tmp_path: Path
):
    told = call("status", logs).output
    copy = tmp_path / "logs"
    shutil.copytree(logs, copy)
    (copy / "cells.json").unlink()
    assert call("status", copy).output == told
    failed = next(copy.glob("scenes/*patch-s1*/detect-gas*.h5"))
    failed.rename(failed.with_name(f"failed-{failed.name}"))
    result = call("status", copy).output
    assert "15 done, 1 failed" in result
    assert f"failed: {failed.stem}" in result


def test_a_damaged_file_of_cells_is_named_with_the_way_out(tmp_path: Path):
    (tmp_path / "cells.json").write_text('{"name": "x"}')
    result = call("status", tmp_path)
    assert result.exit_code == 2
    assert "cells.json is damaged" in result.stderr
    assert "Hint: run the grid again" in result.stderr


def test_names_in_the_file_of_cells_cannot_steer_the_terminal(tmp_path: Path):
    scene = {"attack": "pa\x1b[31mtch", "seed": 0, "id": "x\ny", "cells": []}
    content = {"name": "evil\r", "scenes": [scene]}
    (tmp_path / "cells.json").write_text(json.dumps(content))
    lines = call("status", tmp_path).output.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", ["attacks.py", "defenses", "experiments"])
def test_a_file_with_the_name_of_a_package_of_ours_does_not_take_its_place_and_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / name
    if path.suffix:
        path.write_text("raise RuntimeError('taken')")
    else:
        path.mkdir()
        (path / "__init__.py").write_text("raise RuntimeError('taken')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = call("list", "attacks")
    assert result.exit_code == 0
    assert f"Warning: {name} in this folder has the name of a package" in result.stderr
    assert sys.path[-1] == str(tmp_path)


def test_what_is_read_from_the_source_of_a_method_is_what_its_class_says():
    for title, target in METHODS.items():
        module, _, table = target.partition(":")
        live = getattr(import_module(module), table)
        told = methods(title)
        assert set(live) <= set(told)
        for name, cls in live.items():
            said = from_class(cls)
            assert told[name] == said, f"{title}: {name}"
            assert repr(dict(told[name].fields)) == repr(dict(said.fields)), (
                "1 is not 1.0"
            )


def test_what_is_read_from_the_source_of_a_model_or_data_set_is_its_first_line():
    for title, target in THINGS.items():
        module, _, table = target.partition(":")
        live = getattr(import_module(module), table)
        first = {
            name: (inspect.getdoc(thing) or "").splitlines()[0]
            for name, thing in live.items()
        }
        assert things(title) == first


SOURCE = '''
"""Head."""
from dataclasses import dataclass, field
STEP = 3
class Mixin:
    places: tuple = make()
@dataclass(frozen=True)
class Base(Mixin):
    lr: float = 8 / 255
    steps: int = STEP
@dataclass(frozen=True)
class Method(Base):
    uses: "ClassVar[tuple]" = ("features",)
    k: int
    steps: int = -STEP * 2
    pair: tuple = (1, "a")
    hidden: str = field(default="x", init=False)
@dataclass
class Made:
    rows: list = field(default_factory=list)
'''


def test_fields_are_read_from_source_as_a_dataclass_has_them():
    module = Module("m", ast.parse(SOURCE))
    _, cls = find(module, "Method")
    found = fields_of(module, cls)
    want = {"lr": 8 / 255, "steps": -6, "k": REQUIRED, "pair": (1, "a"), "hidden": "x"}
    assert list(found.items()) == list(want.items())
    with pytest.raises(UnreadableError):
        fields_of(module, find(module, "Made")[1])
    with pytest.raises(UnreadableError):
        find(module, "Absent")
