"""Trackers: what is told of a run, and that a tracker that fails costs one warning and no cell."""

import sys
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from experiments.cli import main
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import load_results
from experiments.tracking import tracker as table
from experiments.tracking.watch import Watch, watched
from poisonbench import log
from poisonbench.errors import ConfigError
from poisonbench.log import names

GRID = """
name = "tracked"
seeds = [0, 1]
[dataset]
name = "digits"
train = 100
test = 100
[recipe]
model = "linear"
epochs = 3
checkpoints = 2
[probe]
attacked = 5
controls = 10
calibration = 10
[[attack]]
name = "patch"
budget = 0.1
[[estimator]]
name = "gas"
[[detector]]
name = "tail-heaviness"
"""


class Told:
    """A tracker that keeps what it is told."""

    made: ClassVar[list["Told"]] = []

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts: dict[tuple[str, str], str] = {}
        self.curves: dict[tuple[str, str], list[float]] = {}
        self.values: dict[tuple[str, str], float] = {}
        self.closed = 0
        Told.made.append(self)

    def text(self, scene, name, text):
        self.texts[scene, name] = text

    def curve(self, scene, name, values):
        self.curves[scene, name] = list(values)

    def figures(self, scene, values):
        for name, value in values.items():
            assert (scene, name) not in self.values, "told twice"
            self.values[scene, name] = value

    def close(self):
        self.closed += 1


class Down(Told):
    """One whose server is down."""

    def curve(self, scene, name, values):
        raise ConnectionError("no route to host")


class DownAtLast(Told):
    def close(self):
        raise OSError("disk full")


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path


def run(grid: Path, folder: Path, *more: str) -> Result:
    return CliRunner().invoke(
        main, ["run", str(grid), "-o", str(folder), "--workers", "0", *more]
    )


def use(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    monkeypatch.setitem(table.TRACKERS, "tensorboard", f"test_tracking:{kind.__name__}")
    monkeypatch.setattr(sys.modules[__name__].Told, "made", [])
    monkeypatch.setitem(sys.modules, "test_tracking", sys.modules[__name__])


def expected(folder: Path) -> dict[tuple[str, str], float]:
    """All metrics of all cells, by the rows of the tables."""
    results = load_results(folder)
    found = {}
    for kind in ("scene", "influence", "detect"):
        for record, row in zip(results.of(kind), rows_of(results, kind), strict=True):
            for name, metric in row.metrics.items():
                if metric.value is not None:
                    key = (record.path.parent.name, f"{name}/{record.path.stem}")
                    found[key] = metric.value
    return found


def test_it_is_told_the_metrics_of_every_cell_and_the_curve_of_every_victim(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, Told)
    done = run(grid, tmp_path / "logs", "--track", "tensorboard")
    assert done.exit_code == 0, done.output
    [told] = Told.made
    assert told.values == expected(tmp_path / "logs")
    assert told.closed == 1
    for path in (tmp_path / "logs").glob("scenes/*/scene.h5"):
        losses = log.read(path).data[names.VICTIM_LOSSES].tolist()
        assert told.curves[path.parent.name, "victim/loss"] == losses
        assert '"name": "patch"' in told.texts[path.parent.name, "scene"]


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("kind", [Down, DownAtLast])
def test_one_that_fails_costs_one_warning_and_no_cell(
    kind: type, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, kind)
    done = run(grid, tmp_path / "logs", "--track", "tensorboard")
    assert done.exit_code == 0, done.output
    lines = done.stderr.splitlines()
    assert sum(line.startswith("Warning: the tracker failed") for line in lines) == 1
    assert run(grid, tmp_path / "plain").exit_code == 0
    for path in (tmp_path / "plain").glob("scenes/*/*.h5"):
        own = tmp_path / "logs" / path.relative_to(tmp_path / "plain")
        assert log.same_results(log.read(own), log.read(path))


def test_what_it_was_told_of_is_not_told_again(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, Told)
    logs = tmp_path / "logs"
    assert run(grid, logs).exit_code == 0
    assert run(grid, logs, "--track", "tensorboard").exit_code == 0
    assert Told.made[0].values == expected(logs), "a folder without it is told whole"
    (logs / "tensorboard").mkdir()
    gone = next(logs.glob("scenes/*/detect-*.h5"))
    gone.unlink()
    assert run(grid, logs, "--track", "tensorboard").exit_code == 0
    told = {name.split("/")[1] for _, name in Told.made[1].values}
    assert told == {gone.stem}


def test_a_damaged_log_is_left_to_the_run(tmp_path: Path):
    place = tmp_path / "scenes" / "one"
    place.mkdir(parents=True)
    (place / "scene.h5").write_bytes(b"no log")
    told = Told(tmp_path)
    Watch(told, tmp_path, [])([place / "scene.h5"])
    assert told.values == {}


def test_one_that_is_not_installed_is_told_before_any_work(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(table.TRACKERS, "tensorboard", "no_such_package.x:Y")
    done = run(grid, tmp_path / "logs", "--track", "tensorboard")
    assert done.exit_code == 2
    assert "pip install 'poisonbench[tensorboard]'" in done.output
    assert not list(tmp_path.glob("logs/scenes/*"))
    with pytest.raises(ConfigError), watched("tensorboard", tmp_path):
        pass


def test_tensorboard_holds_what_it_was_told(grid: Path, tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    logs = tmp_path / "logs"
    done = run(grid, logs, "--track", "tensorboard")
    assert done.exit_code == 0, done.output
    for place in (logs / "scenes").glob("*/"):
        events = EventAccumulator(str(logs / "tensorboard" / place.name))
        events.Reload()
        losses = log.read(place / "scene.h5").data[names.VICTIM_LOSSES].tolist()
        shown = [event.value for event in events.Scalars("victim/loss")]
        assert shown == pytest.approx(losses)
        for (scene, name), value in expected(logs).items():
            if scene == place.name:
                [event] = events.Scalars(name)
                assert event.value == pytest.approx(value)
