"""Workers of one machine are spread over its GPUs, which are made up here."""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import filelock
import pytest
from test_run import PATCH, grid

from experiments.cli import execution
from experiments.plan.cells import WORKING
from experiments.plan.paths import Place
from experiments.runner.gpus import VISIBLE, Spread, visible_gpus
from experiments.runner.run import Options, run
from poisonbench import log

NOTES = {"name": "toy_defense:NotesDevices"}


def seen(folder: Path) -> Counter[tuple[str, int]]:
    """How many scenes each process did, with the GPU that it saw."""
    records = [log.read(path) for path in folder.rglob("detect-*.h5")]
    found = [record.attributes for record in records]
    return Counter((str(a["note_visible"]), int(a["note_process"])) for a in found)


@pytest.mark.slow
def test_each_worker_sees_one_gpu_and_so_does_who_takes_its_place(tmp_path: Path):
    scenes = grid(PATCH, estimator=[], detector=[NOTES], seeds=[0, 1, 2, 3, 4, 5])
    killed = []

    def kill_one() -> None:
        end = time.monotonic() + 60
        while not killed and time.monotonic() < end:
            for path in tmp_path.rglob(WORKING):
                told = path.read_text().partition("\n")[2]
                if " on " in told:
                    killed.append(int(told.split(" on ")[0]))
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.005)

    killer = threading.Thread(target=kill_one)
    killer.start()
    options = Options(workers=2, gpus=("3", "GPU-7"))
    summary = run(scenes, Place(tmp_path), options)
    killer.join()
    assert summary.failed == []
    assert killed
    processes = {}
    for (visible, process), count in seen(tmp_path).items():
        assert count > 0
        processes.setdefault(visible, set()).add(process)
    assert processes.keys() == {"3", "GPU-7"}
    assert processes["3"].isdisjoint(processes["GPU-7"])


def test_places_are_taken_in_turn_and_shared_when_workers_outnumber_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("experiments.runner.gpus._held", [])
    monkeypatch.setenv(VISIBLE, "unchanged")
    Spread.over((), 4).take()
    assert os.environ[VISIBLE] == "unchanged"
    taken = []
    for _ in range(4):
        Spread(("a", "b"), 4, tmp_path).take()
        taken.append(os.environ[VISIBLE])
    assert taken == ["a", "b", "a", "b"]


def test_a_place_that_is_held_elsewhere_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("experiments.runner.gpus._held", [])
    monkeypatch.setenv(VISIBLE, "unchanged")
    with filelock.FileLock(tmp_path / "place-0"):
        Spread(("a", "b"), 2, tmp_path).take()
    assert os.environ[VISIBLE] == "b"


def test_the_gpus_that_are_named_outside_are_those_to_spread_over(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv(VISIBLE, raising=False)
    assert visible_gpus(3) == ("0", "1", "2")
    monkeypatch.setenv(VISIBLE, "2, 5")
    assert visible_gpus(2) == ("2", "5")


def test_there_are_as_many_workers_as_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    how = {
        "executor": "local",
        "workers": None,
        "threads": 1,
        "timeout": None,
        "retry_failed": False,
        "shard": (1, 1),
    }
    options = execution.options_of(how, "cuda")
    assert (options.workers, options.gpus) == (4, ("0", "1", "2", "3"))
    one = execution.options_of(how, "cuda:1")
    assert (one.workers, one.gpus) == (1, ())
    assert execution.options_of({**how, "workers": 6}, "cuda").workers == 6
    assert execution.options_of(how, "cpu").gpus == ()
