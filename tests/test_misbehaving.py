"""Methods that change what they may only read, workers that die, and files that vanish.

Whatever happens to a cell, its neighbours are as in a run without it.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from toy_defense import MISCHIEF

import experiments.runner.pool as pool_module
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Grid
from experiments.runner.lock import FatalError
from experiments.runner.pool import Options, Workers
from experiments.runner.run import run
from experiments.scene.kinds import cell
from poisonbench import log
from poisonbench.contracts.untouched import Untouched, checksum, tensors_in
from poisonbench.errors import ChangedError
from poisonbench.seeding import global_state

ROOT = Path(__file__).parent.parent
SMALL = {
    "name": "misbehaving",
    "dataset": {"name": "digits", "train": 100, "test": 100},
    "recipe": {"model": "linear", "epochs": 1, "checkpoints": 2},
    "probe": {"attacked": 5, "controls": 10, "calibration": 10},
    "attack": [{"name": "patch", "budget": 0.05}],
    "estimator": [{"name": "gas"}],
}
AFTER = [{"name": "tail-heaviness", "k": 3}, {"name": "foreign-proponents"}]


def grid(*detectors: dict, **more: object) -> Grid:
    return parse({**SMALL, "detector": list(detectors), **more})


def scores(folder: Path) -> dict[str, log.Record]:
    files = sorted((folder / "scenes").rglob("detect-*.h5"))
    return {path.name: log.read(path) for path in files}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, log.Record]:
    """What the detectors say in a run without a method that misbehaves."""
    folder = tmp_path_factory.mktemp("alone")
    run(grid(*AFTER), Place(folder), Options(workers=0))
    return scores(folder)


@pytest.mark.parametrize("what", MISCHIEF)
def test_a_method_that_misbehaves_fails_alone_and_is_told_by_name(
    what: str, alone: dict[str, log.Record], tmp_path: Path
):
    state = global_state()
    bad = {"name": "toy_defense:Mischievous", "what": what}
    summary = run(grid(bad, *AFTER), Place(tmp_path), Options(workers=0))
    assert not state.moved(global_state())
    [failure] = summary.failed
    assert MISCHIEF[what][1] in failure
    found = scores(tmp_path)
    assert found.keys() == alone.keys()
    for name, record in alone.items():
        assert log.same_results(record, found[name]), name


def test_a_method_gets_influence_of_its_own(tmp_path: Path):
    bad = {"name": "toy_defense:Overwrites"}
    summary = run(grid(bad, *AFTER), Place(tmp_path / "a"), Options(workers=0))
    assert summary.failed == []
    run(grid(*AFTER), Place(tmp_path / "b"), Options(workers=0))
    found, want = scores(tmp_path / "a"), scores(tmp_path / "b")
    assert all(log.same_results(record, found[name]) for name, record in want.items())


def test_every_tensor_of_a_value_is_found_by_its_path():
    x = torch.zeros(2)
    value = {"a": [x, (x, 1)], "b": None}
    assert [name for name, _ in tensors_in(value, "v")] == ["v['a'][0]", "v['a'][1][0]"]


@pytest.mark.parametrize(
    "other",
    [
        torch.tensor([[1.0, 2.0, 4.0]]),
        torch.tensor([[2.0, 1.0, 3.0]]),
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([[1.0, 2.0, 3.0]]).double(),
        torch.tensor([[1.0, 2.0, 3.0]]).view(torch.int32),
    ],
    ids=["value", "order", "shape", "type", "bits"],
)
def test_a_checksum_tells_what_is_different(other: torch.Tensor):
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert checksum(x) == checksum(x.clone())
    assert checksum(x) != checksum(other)
    assert checksum(x.T.contiguous().T) == checksum(x)


def test_what_is_new_is_told_too():
    value: dict[str, torch.Tensor] = {}
    before = Untouched.now({"state": value})
    value["more"] = torch.ones(1)
    with pytest.raises(ChangedError, match=r"state\['more'\]"):
        before.check()


def test_a_stage_file_that_vanishes_ends_the_run_with_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = log.write
    written = []

    def vanishing(path: Path, kind: str, **how: object) -> None:
        real(path, kind, **how)
        written.append(kind)
        if kind == "detect":
            path.unlink()

    monkeypatch.setattr(cell.log, "write", vanishing)
    with pytest.raises(FatalError, match="was written, and is gone again"):
        run(grid(*AFTER), Place(tmp_path), Options(workers=0))
    assert written.count("detect") == 1


def test_a_relative_folder_is_that_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    bad = {"name": "toy_defense:Mischievous", "what": "folder"}
    run(grid(bad, *AFTER), Place(Path("logs")), Options(workers=0))
    assert len(scores(tmp_path / "logs")) == len(AFTER)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_is_killed_while_it_starts_is_replaced(
    alone: dict[str, log.Record], tmp_path: Path
):
    killed = []

    def kill_the_first() -> None:
        end = time.monotonic() + 60
        while not killed and time.monotonic() < end:
            for child in children():
                os.kill(child, signal.SIGKILL)
                killed.append(child)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    summary = run(grid(*AFTER), Place(tmp_path), Options(workers=1))
    killer.join()
    assert killed
    assert summary.failed == []
    found = scores(tmp_path)
    assert all(log.same_results(record, found[name]) for name, record in alone.items())


def test_a_worker_watches_its_parent_before_it_loads_what_takes_long():
    """Else one whose parent is killed would stay until all is loaded."""
    code = "import sys, experiments.runner.starting; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_workers_that_never_start_end_the_run_with_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pool_module, "start_worker", os._exit)
    monkeypatch.setattr(pool_module, "RENEWALS", 1)
    with pytest.raises(FatalError, match="died before they did anything"):
        run(grid(*AFTER), Place(tmp_path), Options(workers=1))


def test_a_job_that_no_worker_has_is_given_to_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pool_module, "PATIENCE", -1.0)
    workers = Workers([], Options())
    assert not workers._is_lost()
    workers._pending[pool_module.Future()] = None  # type: ignore[assignment]
    assert workers._is_lost()


def test_the_folder_that_is_deleted_during_a_run_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "logs"
    real = log.write

    def deleting(path: Path, kind: str, **how: object) -> None:
        real(path, kind, **how)
        if kind == "influence":
            shutil.rmtree(folder)

    monkeypatch.setattr(cell.log, "write", deleting)
    with pytest.raises(FatalError, match="gone"):
        run(grid(*AFTER), Place(folder), Options(workers=0))


def children() -> list[int]:
    """Our child processes that are workers of a pool."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
            line = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and b"spawn_main" in line:
            found.append(int(status.parent.name))
    return found
