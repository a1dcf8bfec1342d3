"""What lies behind a log has changed since: it is told, or computed anew, never mixed."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from experiments.cli import main
from experiments.plan.outside import code_of_models, unsaved
from poisonbench.training import Recipe

CODE = """
import numpy as np
import torch
from torch import nn

from poisonbench.data import Dataset


def data(root=None, download=False):
    with np.load("mine.npz") as file:
        x, y = torch.tensor(file["x"]), torch.tensor(file["y"])
    return Dataset(x[:80], y[:80], 4), Dataset(x[80:], y[80:], 4)


class Scaled(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.scale = torch.load("scale.pt")
        self.head = nn.Linear(36, classes)

    def forward(self, x):
        return self.head(x.flatten(1) * self.scale)


def weighted(weights):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    model.load_state_dict(torch.load(weights))
    return model
"""
GRID = """
name = "changed"
seeds = [0]
dataset = "behind_logs:data"

[recipe]
model = "linear"
epochs = 2

[probe]
attacked = 3
controls = 4
calibration = 8

[[attack]]
name = "patch"
budget = 0.05
size = 2

[[estimator]]
name = "gas"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid on data of one's own, which has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "behind_logs.py").write_text(CODE)
    (tmp_path / "grid.toml").write_text(GRID)
    write_data(0)
    result = call("run", "grid.toml", "-o", "logs", "--workers", "0")
    assert result.exit_code == 0, result.output
    yield tmp_path
    sys.modules.pop("behind_logs", None)


def write_data(shift: int) -> None:
    g = np.random.default_rng(0)
    x = g.random((120, 1, 6, 6), dtype=np.float32)
    np.savez("mine.npz", x=x, y=(np.arange(120) + shift) % 4)


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.parametrize("command", ["explain", "export"])
def test_changed_data_are_not_shown_as_those_of_the_log(
    command: str, folder: Path
) -> None:
    scene = str(next(folder.glob("logs/scenes/*/")))
    out = ["-o", "p.h5"] if command == "export" else []
    write_data(1)
    refused = call(command, scene, "--trust", *out)
    assert refused.exit_code == 2
    assert "data set 'behind_logs:data' has changed since" in refused.stderr
    assert not Path("p.h5").exists()
    write_data(0)
    assert call(command, scene, "--trust", *out).exit_code == 0


def test_a_report_says_that_the_data_have_changed(folder: Path) -> None:
    write_data(1)
    assert call("report", "logs", "--trust").exit_code == 0
    page = (folder / "logs" / "report.html").read_text()
    assert "has changed since" in page


def test_changed_data_are_run_anew(folder: Path) -> None:
    write_data(1)
    result = call("run", "grid.toml", "-o", "logs", "--workers", "0")
    assert result.exit_code == 0, result.output
    assert len(list(folder.glob("logs/scenes/*/scene.h5"))) == 2


def audit(*more: str) -> Result:
    return call(
        *("audit", "-o", "audited", "--model", "behind_logs:Scaled"),
        *("--checkpoint", "state.pt", "--lr", "0.1", "--train", "train.npz"),
        *("--points", "points.npz", "--trusted", "trusted.npz"),
        *("--detector", "tail-heaviness", "--alarm", "0.2", *more),
    )


def test_a_tensor_that_a_model_reads_beside_its_state_makes_another_audit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = np.random.default_rng(1)
    x = g.random((100, 1, 6, 6), dtype=np.float32)
    np.savez("train.npz", x=x[:60], y=np.arange(60) % 4)
    np.savez("points.npz", x=x[60:65])
    np.savez("trusted.npz", x=x[65:])
    torch.manual_seed(0)
    head = nn.Linear(36, 4)
    torch.save({f"head.{k}": v for k, v in head.state_dict().items()}, "state.pt")
    scenes = []
    for scale in (1.0, 1.0, -1.0):
        torch.save(torch.full((36,), scale), "scale.pt")
        from experiments.scene.audited import read_audit

        read_audit.cache_clear()  # as another process has read nothing
        result = audit()
        assert result.exit_code == 0, result.output
        scenes.append(len(list(folder.glob("audited/scenes/*/scene.h5"))))
    assert scenes == [1, 1, 2]


def test_what_a_model_holds_beside_its_state_is_told_by_its_values() -> None:
    plain = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert unsaved(plain) == ""
    plain.register_buffer("mask", torch.ones(2), persistent=False)
    masked = unsaved(plain)
    plain.mask[0] = 0
    changed = unsaved(plain)
    plain[0].kept = torch.ones(2)
    assert len({"", masked, changed, unsaved(plain)}) == 4
    assert unsaved(plain) == unsaved(plain)


def test_a_file_that_arguments_of_a_model_name_counts_by_what_it_holds(
    folder: Path,
) -> None:
    recipe = Recipe("behind_logs:weighted", model_args={"weights": "weights.pt"})
    torch.manual_seed(0)
    layer = nn.Linear(36, 4)
    found = []
    for _ in range(2):
        torch.save({f"1.{k}": v for k, v in layer.state_dict().items()}, "weights.pt")
        found.append(code_of_models(recipe))
        nn.init.zeros_(layer.bias)
    assert found[0] != found[1]
