"""Methods of installed packages are found by their entry points.

They are hidden by built-in names, and harmless when broken.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attacks import ATTACKS, Patch
from experiments.cli import main
from experiments.plan.methods import TABLES
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.errors import ConfigError, PluginWarning
from poisonbench.registry import Broken, Table, lookup

ROOT = Path(__file__).parent.parent
MODULE = '''"""A corner patch by somebody else. Cost: none."""
from dataclasses import dataclass

import torch

from attacks import Patch
from estimators.gas import GAS


@dataclass(frozen=True)
class Corner(Patch):
    place: str = "top-left"


@dataclass(frozen=True)
class Weights(GAS):
    pass


@dataclass(frozen=True)
class Coin:
    uses = ()

    def __call__(self, evidence):
        return torch.zeros(len(evidence.test))


def function():
    pass


class Plain:
    pass
'''
SMALL = {
    "dataset": {"name": "digits", "train": 200, "test": 150},
    "recipe": {"model": "linear", "epochs": 1, "checkpoints": 1},
    "probe": {"attacked": 10, "controls": 20, "calibration": 20},
}
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution NAME 1.0 with modules and with entry points of groups.

    As a wheel would lie on the path.
    """

    def make(
        name: str, modules: dict[str, str], points: dict[str, dict[str, str]]
    ) -> Path:
        site = tmp_path / name
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        groups = [
            f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in table.items())
            for group, table in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(groups))
        for module, text in modules.items():
            (site / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(site)
        return site

    yield make
    for module in [
        name
        for name, module in sys.modules.items()
        if str(tmp_path) in str(getattr(module, "__file__", ""))
    ]:
        del sys.modules[module]


@pytest.fixture
def good(install: Install) -> Path:
    return install(
        "fake_methods",
        {"fake_methods": MODULE},
        {
            "poisonbench.attacks": {"fake-corner": "fake_methods:Corner"},
            "poisonbench.estimators": {"fake-weights": "fake_methods:Weights"},
            "poisonbench.detectors": {"fake-coin": "fake_methods:Coin"},
        },
    )


BROKEN = {
    "absent": (
        "no_such_module_anywhere:Attack",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    ),
    "lacking": ("fake_broken:Nothing", "AttributeError: "),
    "raising": ("fake_raises:Attack", "RuntimeError: boom on two lines"),
    "leaving": ("fake_leaves:Attack", "SystemExit: 3"),
    "plain": ("fake_broken:Plain", "it is no dataclass"),
    "function": ("fake_broken:function", "it is no dataclass"),
    "malformed": ("not an object reference", "offers 'not an object reference': "),
}


@pytest.fixture
def broken(install: Install) -> Path:
    modules = {
        "fake_broken": MODULE,
        "fake_raises": "raise RuntimeError('boom\\non two lines')\n",
        "fake_leaves": "exit(3)\n",
    }
    return install(
        "fake_broken",
        modules,
        {"poisonbench.attacks": {name: value for name, (value, _) in BROKEN.items()}},
    )


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_an_installed_method_is_listed_and_runs_in_worker_processes_by_its_name(
    good: Path, tmp_path: Path
):
    for kind, name in (
        ("attacks", "fake-corner"),
        ("estimators", "fake-weights"),
        ("detectors", "fake-coin"),
    ):
        assert name in call("list", kind).output
    assert "A corner patch by somebody else" in call("list", "attacks").output
    methods = {
        "attack": [{"name": "fake-corner", "budget": 0.1}],
        "estimator": [{"name": "fake-weights"}],
    }
    grid = parse({**SMALL, **methods, "detector": [{"name": "fake-coin"}]})
    assert run(grid, Place(tmp_path / "logs"), Options(workers=1)).done == 3
    record = log.read(Place(tmp_path / "logs").scene(grid.scenes[0]) / "scene.h5")
    assert record.config["attack"]["name"] == "fake-corner"


def test_a_grid_that_misspells_a_plug_in_is_told_its_name(good: Path):
    with pytest.raises(ConfigError, match="did you mean 'fake-corner'"):
        parse({"attack": [{"name": "fake-coner"}]})


def test_names_are_those_of_the_path_as_it_is_now(
    good: Path, monkeypatch: pytest.MonkeyPatch
):
    assert "fake-corner" in TABLES["attack"]
    assert len(TABLES["attack"]) == len(ATTACKS) + 1
    assert list(TABLES["attack"])[: len(ATTACKS)] == list(ATTACKS)
    monkeypatch.setattr(
        sys, "path", [entry for entry in sys.path if entry != str(good)]
    )
    assert "fake-corner" not in TABLES["attack"]


def test_nothing_is_imported_before_its_name_is_used(good: Path):
    assert "fake-corner" in TABLES["attack"]
    assert "patch" in sorted(TABLES["attack"])
    assert lookup(TABLES["attack"], "patch", "attack") is Patch
    assert "fake_methods" not in sys.modules
    assert lookup(TABLES["attack"], "fake-corner", "attack").__name__ == "Corner"
    assert "fake_methods" in sys.modules


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plug_in_says_what_is_wrong_where_it_is_named(name: str, broken: Path):
    found = TABLES["attack"][name]
    assert isinstance(found, Broken)
    assert found.reason.startswith(f"fake_broken 1.0 offers {BROKEN[name][0]!r}: ")
    assert BROKEN[name][1] in found.reason
    with pytest.raises(ConfigError) as error:
        parse({"attack": [{"name": name}]})
    (fault,) = error.value.errors
    assert fault.startswith(
        f"attack[0].name: attack {name!r} cannot be used: fake_broken 1.0 offers"
    )
    assert "mend or uninstall" in fault


def test_broken_plug_ins_are_listed_with_their_errors_and_harm_nothing_else(
    broken: Path, good: Path, tmp_path: Path
):
    text = " ".join(call("list").output.split())
    for name, (value, reason) in BROKEN.items():
        assert f"{name} Cannot be used: fake_broken 1.0 offers '{value}'" in text
        assert " ".join(reason.split()) in text
    for name in (*ATTACKS, "fake-corner", "tail-heaviness", "resnet9"):
        assert name in text
    (tmp_path / "g.toml").write_text('[[attack]]\nname = "raising"\n')
    result = call("run", tmp_path / "g.toml", "-o", tmp_path / "logs")
    assert result.exit_code == 2
    assert "boom on two lines" in result.stderr
    assert "Traceback" not in result.output
    assert (
        run(
            parse({**SMALL, "attack": [{"name": "fake-corner"}]}),
            Place(tmp_path / "logs"),
            Options(workers=0),
        ).done
        == 1
    )


def test_a_built_in_name_wins_with_a_warning_that_names_the_way_out(install: Install):
    install(
        "fake_patch",
        {"fake_patch": MODULE},
        {"poisonbench.attacks": {"patch": "fake_patch:Corner"}},
    )
    with pytest.warns(
        PluginWarning,
        match=r"'patch' of fake_patch 1.0 \(poisonbench.attacks\) is hidden by the built-in one",
    ):
        assert len(TABLES["attack"]) == len(ATTACKS)
    assert lookup(TABLES["attack"], "patch", "attack") is Patch
    assert lookup(TABLES["attack"], "fake_patch:Corner", "attack").__name__ == "Corner"


def test_of_two_plug_ins_with_one_name_the_first_on_the_path_wins_with_a_warning(
    good: Path, install: Install
):
    install(
        "fake_second",
        {"fake_second": MODULE},
        {"poisonbench.attacks": {"fake-corner": "fake_second:Corner"}},
    )
    with pytest.warns(
        PluginWarning,
        match=r"'fake-corner' of fake_methods 1.0 .* is hidden by fake_second 1.0",
    ):
        assert (
            lookup(TABLES["attack"], "fake-corner", "attack").__module__
            == "fake_second"
        )


def test_a_package_with_malformed_metadata_hides_no_built_in_name(
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(**_: str) -> None:
        raise ValueError("not enough values to unpack")

    monkeypatch.setattr("poisonbench.registry.entry_points", refuse)
    with pytest.warns(
        PluginWarning, match="cannot be listed: ValueError: not enough values"
    ):
        assert list(Table(ATTACKS, "poisonbench.attacks")) == list(ATTACKS)


def test_a_warning_costs_the_user_of_the_command_line_one_line(
    install: Install, tmp_path: Path
):
    site = install(
        "fake_patch",
        {"fake_patch": MODULE},
        {"poisonbench.attacks": {"patch": "fake_patch:Corner"}},
    )
    code = [sys.executable, "-m", "experiments.cli", "list", "attacks"]
    done = subprocess.run(
        code,
        env={"PYTHONPATH": f"{Path(__file__).parent.parent}:{site}"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert "patch" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("Warning: 'patch' of fake_patch 1.0")
