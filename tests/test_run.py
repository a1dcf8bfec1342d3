"""Running grids: resume, kills, deaths, locks, and methods that misbehave.

Child processes are ours, and bounded in time.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from estimators import ESTIMATORS
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Grid
from experiments.plan.stages import jobs
from experiments.runner.lock import BusyError, FatalError, Shard, exclusive
from experiments.runner.run import Options, run
from experiments.scene.kinds import cell
from poisonbench import log
from poisonbench.errors import DataError, LogWriteError

ROOT = Path(__file__).parent.parent
SMALL = {
    "dataset": {"name": "digits", "train": 200, "test": 150},
    "recipe": {"model": "linear", "epochs": 2, "checkpoints": 2},
    "probe": {"attacked": 10, "controls": 20, "calibration": 20},
    "estimator": [{"name": "tracin"}, {"name": "gas"}],
    "detector": [{"name": "tail-heaviness", "k": 3}, {"name": "random"}],
}
PATCH = {"name": "patch", "budget": 0.05}


def grid(*attacks: dict, **more: object) -> Grid:
    return parse({**SMALL, "attack": list(attacks) or [PATCH], **more})


def results(folder: Path) -> dict[str, log.Record]:
    return {
        str(p.relative_to(folder)): log.read(p)
        for p in sorted((folder / "scenes").rglob("*.h5"))
    }


def assert_same(a: dict[str, log.Record], b: dict[str, log.Record]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not log.same_results(a[name], b[name])] == []


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, log.Record]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    summary = run(grid(PATCH, {"name": "none"}), Place(folder), Options(workers=0))
    assert (summary.cells, summary.found, summary.done, summary.failed) == (
        12,
        0,
        12,
        [],
    )
    return folder, results(folder)


def test_a_second_run_does_nothing(undisturbed: tuple[Path, dict[str, log.Record]]):
    folder, _ = undisturbed
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.h5")}
    summary = run(grid(PATCH, {"name": "none"}), Place(folder), Options(workers=2))
    assert (summary.found, summary.done) == (12, 0)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.h5")} == before


def test_worker_processes_and_order_do_not_change_a_bit(
    undisturbed: tuple[Path, dict[str, log.Record]], tmp_path: Path
):
    run(grid({"name": "none"}, PATCH), Place(tmp_path), Options(workers=2))
    assert_same(results(tmp_path), undisturbed[1])


def test_a_missing_stage_alone_is_done_again(
    undisturbed: tuple[Path, dict[str, log.Record]], tmp_path: Path
):
    """From every subset of the files the rest comes out bit-equal.

    So what a victim read back gives is what it gave fresh.
    """
    folder, want = undisturbed
    for name in (n for n in want if "patch" in n and "trace" not in n):
        for other in want:
            (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
            if other != name:
                (tmp_path / other).write_bytes((folder / other).read_bytes())
        (tmp_path / name).unlink(missing_ok=True)
        summary = run(
            grid(PATCH, {"name": "none"}), Place(tmp_path), Options(workers=0)
        )
        assert summary.done == 1, name
        assert_same(results(tmp_path), want)


def test_a_grid_that_grows_does_only_what_is_new(tmp_path: Path):
    run(grid(PATCH), Place(tmp_path), Options(workers=0))
    summary = run(grid(PATCH, seeds=[0, 1]), Place(tmp_path), Options(workers=0))
    assert (summary.found, summary.done) == (6, 6)


def test_another_alarm_rate_is_another_cell(tmp_path: Path):
    run(grid(PATCH), Place(tmp_path), Options(workers=0))
    assert run(grid(PATCH, alarm=0.1), Place(tmp_path), Options(workers=0)).done == 3


def command(folder: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "experiments.cli",
        "run",
        str(folder.parent / "g.toml"),
        "-o",
        str(folder),
        *more,
    ]


def write_grid(path: Path, *attacks: str) -> None:
    tables = "\n".join(f"[[attack]]\n{attack}" for attack in attacks)
    path.write_text(
        'dataset = {name = "digits", train = 200, test = 150}\n'
        '[recipe]\nmodel = "linear"\nepochs = 2\ncheckpoints = 2\n'
        "[probe]\nattacked = 10\ncontrols = 20\ncalibration = 20\n"
        f"{tables}\n"
        '[[estimator]]\nname = "tracin"\n[[estimator]]\nname = "gas"\n'
        '[[detector]]\nname = "tail-heaviness"\nk = 3\n[[detector]]\nname = "random"\n'
    )


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, *more),
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def children(pid: int) -> set[int]:
    out = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return {int(p) for p in out.split()}


def gone(pids: set[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_at_any_time_the_same_command_ends_bit_equal(
    undisturbed: tuple[Path, dict[str, log.Record]], tmp_path: Path
):
    write_grid(tmp_path / "g.toml", 'name = "patch"\nbudget = 0.05', 'name = "none"')
    folder, draw = tmp_path / "logs", random.Random(0)
    for kill in range(4):
        process = start(folder, "--workers", "2")
        end = time.monotonic() + 60
        while (
            not list(folder.rglob("*.h5"))[2 * kill :]
            and time.monotonic() < end
            and process.poll() is None
        ):
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.3))
        offspring = children(process.pid)
        process.kill()
        process.communicate()
        assert gone(offspring, 5), "a worker outlived its parent"
        for path in folder.rglob("*.h5"):
            log.read(path)  # whole or absent
    assert (
        subprocess.run(
            command(folder, "--workers", "2"),
            env=environment(),
            check=False,
            capture_output=True,
        ).returncode
        == 0
    )
    assert_same(results(folder), undisturbed[1])
    assert not [p for p in folder.rglob("*") if p.name.endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_costs_a_repeat_and_nothing_else(
    undisturbed: tuple[Path, dict[str, log.Record]], tmp_path: Path
):
    write_grid(tmp_path / "g.toml", 'name = "patch"\nbudget = 0.05', 'name = "none"')
    folder = tmp_path / "logs"
    process = start(folder, "--workers", "1")
    end = time.monotonic() + 60
    while not list(folder.rglob("*.h5")) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in children(process.pid):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"spawn_main" in line:
            os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert_same(results(folder), undisturbed[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_ends_the_run_and_says_how_to_go_on(
    tmp_path: Path, number: int, code: int
):
    write_grid(tmp_path / "g.toml", 'name = "toy_attack:Hangs"')
    process = start(tmp_path / "logs", "--workers", "1")
    end = time.monotonic() + 60
    while not (tmp_path / "logs" / ".owner").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1)
    offspring = children(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert gone(offspring, 5)


@pytest.mark.slow
def test_attacks_that_raise_die_hang_or_cheat_fail_alone(tmp_path: Path):
    names = ("Raises", "Dies", "Hangs", "OverBudget", "Invert")
    bad = grid(
        *({"name": f"toy_attack:{name}"} for name in names), estimator=[{"name": "gas"}]
    )
    summary = run(bad, Place(tmp_path), Options(workers=2, timeout=15))
    reasons = {
        name: next((f for f in summary.failed if f"-{name.lower()}-" in f), "")
        for name in names
    }
    assert "RuntimeError: this attack always breaks" in reasons["Raises"]
    assert "died twice (exit code 9)" in reasons["Dies"]
    assert "longer than the 15 s allowed" in reasons["Hangs"]
    assert "budget: 20 poison rows, 10 are paid for" in reasons["OverBudget"]
    assert reasons["Invert"] == ""
    failures = [log.read(p, "failure") for p in tmp_path.rglob("failed-*.h5")]
    assert len(failures) == 4
    assert any("toy_attack.py" in f.text("traceback") for f in failures)
    done = {
        job.scene.attack.name: [s.path.exists() for s in job.stages]
        for job in jobs(bad, Place(tmp_path), 1)
    }
    assert all(done.pop("toy_attack:Invert"))
    assert not any(any(flags) for flags in done.values())
    again = run(bad, Place(tmp_path), Options(workers=2))
    assert (again.done, again.failed) == (0, []), (
        "a failed cell is done again only with retry_failed"
    )
    retried = run(
        grid({"name": "toy_attack:Raises"}, estimator=[{"name": "gas"}]),
        Place(tmp_path),
        Options(0, retry_failed=True),
    )
    assert len(retried.failed) == 1


def test_all_estimators_run_in_a_grid_and_their_figures_reach_the_log(tmp_path: Path):
    names = sorted(ESTIMATORS)
    summary = run(
        grid(estimator=[{"name": name} for name in names], detector=[]),
        Place(tmp_path),
        Options(workers=0),
    )
    assert summary.failed == []
    logs = {
        name: log.read(next(tmp_path.rglob(f"influence-{name}-*.h5"))) for name in names
    }
    assert all(record.data["influence"].shape == (50, 200) for record in logs.values())
    assert all(
        {"fit_seconds", "score_seconds", "peak_bytes"} <= record.attributes.keys()
        for record in logs.values()
    )
    assert 0 <= logs["representer-point"].attributes["note_decomposition_error"] < 1e-5


def test_diverged_training_is_a_failure_with_its_epoch(tmp_path: Path):
    summary = run(
        grid(recipe={"model": "mlp", "lr": 1e8, "epochs": 3}),
        Place(tmp_path),
        Options(workers=0),
    )
    assert "diverged in epoch" in summary.failed[0]
    assert summary.done == 0


def test_two_runs_in_one_folder(tmp_path: Path):
    with (
        exclusive(tmp_path),
        pytest.raises(BusyError, match=rf"in use by pid {os.getpid()} on"),
    ):
        run(grid(), Place(tmp_path), Options(workers=0))
    run(grid(detector=[], estimator=[]), Place(tmp_path), Options(workers=0))


def test_an_absent_data_set_is_told_before_anything_is_trained(tmp_path: Path):
    with pytest.raises(DataError, match="was not found"):
        run(
            grid(dataset="mnist"),
            Place(tmp_path / "logs", root=tmp_path),
            Options(workers=2),
        )
    assert not list(tmp_path.rglob("*.h5"))


def test_a_full_disk_stops_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, calls = log.write, []

    def full(path: Path, kind: str, **how: object) -> None:
        calls.append(kind)
        if kind == "influence":
            raise LogWriteError(path, "no space left on device, 4096 bytes needed")
        real(path, kind, **how)

    monkeypatch.setattr(cell.log, "write", full)
    with pytest.raises(FatalError, match="no space left"):
        run(grid(PATCH, {"name": "none"}), Place(tmp_path), Options(workers=0))
    assert calls.count("influence") == 1
    monkeypatch.undo()
    assert (
        run(grid(PATCH, {"name": "none"}), Place(tmp_path), Options(workers=0)).failed
        == []
    )


def test_scores_of_the_wrong_shape_and_moved_global_state_do_not_spread(tmp_path: Path):
    dtype, state = torch.get_default_dtype(), torch.random.get_rng_state()
    summary = run(
        grid(estimator=[{"name": "toy_estimator:Transposed"}, {"name": "tracin"}]),
        Place(tmp_path),
        Options(workers=0),
    )
    assert len(summary.failed) == 1
    assert (
        "returned influence of shape (200, 50), not (m, n) = (50, 200)"
        in summary.failed[0]
    )
    assert summary.done == 4
    assert torch.get_default_dtype() == dtype
    assert torch.equal(torch.random.get_rng_state(), state)


def test_shards_together_are_the_whole_run(
    undisturbed: tuple[Path, dict[str, log.Record]], tmp_path: Path
):
    attacks = (PATCH, {"name": "none"})
    cells = []
    for number in (2, 1):
        options = Options(workers=0, shard=Shard(number, 2))
        summary = run(grid(*attacks), Place(tmp_path), options)
        cells.append((summary.cells, summary.done))
    assert cells == [(6, 6), (6, 6)]
    assert_same(results(tmp_path), undisturbed[1])


def test_shards_of_one_number_work_side_by_side_each_once(tmp_path: Path):
    one, two, other = Shard(1, 2), Shard(2, 2), Shard(1, 3)
    with exclusive(tmp_path, one):
        with exclusive(tmp_path, two):
            pass
        for refused in (one, other, Shard()):
            with (
                pytest.raises(BusyError, match=f"pid {os.getpid()} on"),
                exclusive(tmp_path, refused),
            ):
                pass
    with exclusive(tmp_path), pytest.raises(BusyError), exclusive(tmp_path, one):
        pass
    with exclusive(tmp_path, other):
        pass


@pytest.mark.parametrize("value", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_is_none_is_refused(tmp_path: Path, value: str):
    write_grid(tmp_path / "g.toml", 'name = "none"')
    done = subprocess.run(
        command(tmp_path / "logs", "--shard", value),
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "a shard is I/N" in done.stderr
