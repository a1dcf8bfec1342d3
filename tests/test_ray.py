"""Scenes as tasks of Ray, on a cluster of two nodes on this machine; GPUs are made up."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_run import PATCH, assert_same, command, environment, grid, results, write_grid

from experiments.cli.execution import options_of
from experiments.plan.cells import WORKING
from experiments.plan.paths import Place
from experiments.plan.stages import Job
from experiments.runner.lock import FatalError
from experiments.runner.on_ray import cluster as ray_cluster
from experiments.runner.on_ray import tasks as ray_tasks
from experiments.runner.on_ray.nodes import Node, check_request, nodes_of
from experiments.runner.options import RayOptions
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.errors import ConfigError

GPUS = 2  # that the second node says it has


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("ray", reason="needs the extra ray")
    ray_cluster.imported_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False})
    cluster.add_node(num_cpus=1, num_gpus=GPUS)
    yield cluster.address
    cluster.shutdown()


def on(address: str, workers: int = 0, **how: float) -> Options:
    return Options(workers, ray=RayOptions(address, **how))


def working(folder: Path, seconds: float = 60) -> int:
    """The process of a stage at work, as soon as there is one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for path in folder.rglob(WORKING):
            told = path.read_text().partition("\n")[2]
            if " on " in told:
                return int(told.split(" on ")[0])
        time.sleep(0.01)
    raise AssertionError("nothing is at work")


@pytest.mark.slow
def test_tasks_of_a_cluster_do_what_this_process_does_bit_for_bit(
    address: str, tmp_path: Path
):
    scenes = grid(PATCH, {"name": "none"}, seeds=[0, 1])
    run(scenes, Place(tmp_path / "here"), Options(workers=0))
    summary = run(scenes, Place(tmp_path / "there"), on(address))
    assert (summary.done, summary.failed) == (24, [])
    assert_same(results(tmp_path / "there"), results(tmp_path / "here"))
    again = run(scenes, Place(tmp_path / "there"), on(address))
    assert (again.found, again.done) == (24, 0)


@pytest.mark.slow
def test_tasks_that_raise_die_or_hang_fail_alone(address: str, tmp_path: Path):
    names = ("Raises", "Dies", "Hangs", "Invert")
    bad = grid(*({"name": f"toy_attack:{name}"} for name in names), detector=[])
    how = Options(timeout=15, workers=2, ray=RayOptions(address))
    summary = run(bad, Place(tmp_path), how)
    told = " ".join(summary.failed)
    assert len(summary.failed) == 3
    assert "RuntimeError: this attack always breaks" in told
    assert "its process died twice (WorkerCrashedError)" in told
    assert "took longer than the 15 s allowed" in told
    assert len(list(tmp_path.rglob("influence-*.h5"))) == 2
    assert len(list(tmp_path.rglob("failed-*.h5"))) == 3


@pytest.mark.slow
def test_a_killed_task_costs_a_repeat_and_nothing_else(address: str, tmp_path: Path):
    scenes = grid(PATCH, recipe={"model": "mlp", "epochs": 60, "checkpoints": 2})
    run(scenes, Place(tmp_path / "here"), Options(workers=0))
    killed = []

    def kill() -> None:
        killed.append(working(tmp_path / "there"))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    summary = run(scenes, Place(tmp_path / "there"), on(address))
    killer.join()
    assert killed
    assert summary.failed == []
    assert_same(results(tmp_path / "there"), results(tmp_path / "here"))


@pytest.mark.slow
def test_a_task_sees_the_share_of_a_gpu_that_it_asks_for(address: str, tmp_path: Path):
    scenes = grid(estimator=[], detector=[{"name": "toy_defense:NotesDevices"}])
    run(scenes, Place(tmp_path / "half"), on(address, gpus=0.5))
    run(scenes, Place(tmp_path / "two"), on(address, gpus=GPUS))
    run(scenes, Place(tmp_path / "none"), on(address))
    seen = {}
    for path in tmp_path.rglob("detect-*.h5"):
        name = path.relative_to(tmp_path).parts[0]
        seen[name] = log.read(path).attributes["note_visible"]
    assert seen == {"half": "0", "two": "0,1", "none": ""}


@pytest.mark.slow
def test_what_no_node_has_is_refused_before_anything_is_submitted(
    address: str, tmp_path: Path
):
    for asked in ({"cpus": 2.0}, {"gpus": GPUS + 1.0}):
        with pytest.raises(ConfigError, match="no node has that"):
            run(grid(), Place(tmp_path), on(address, **asked))
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.slow
def test_a_signal_ends_the_tasks_and_says_how_to_go_on(address: str, tmp_path: Path):
    write_grid(tmp_path / "g.toml", 'name = "toy_attack:Hangs"')
    more = ("--executor", "ray", "--ray-address", address)
    process = subprocess.Popen(
        command(tmp_path / "logs", *more),
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    task = working(tmp_path / "logs")
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "the same command goes on" in err
    end = time.monotonic() + 10
    while Path(f"/proc/{task}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{task}").exists()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(tmp_path: Path):
    pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.raises(ConfigError, match="--ray-address"):
        run(grid(), Place(tmp_path), on("no-address"))


def test_a_folder_that_a_node_does_not_see_ends_the_run(tmp_path: Path):
    [job] = jobs_in(tmp_path / "elsewhere")
    began, outcome = ray_tasks.work_on(pickle.dumps(job), [])
    assert isinstance(began, str)
    assert "all nodes of the cluster must share it" in outcome.fatal


def jobs_in(folder: Path) -> list[Job]:
    from experiments.plan.stages import jobs

    return jobs(grid(), Place(folder), 1)


def test_without_ray_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs Ray") as error:
        run(grid(), Place(tmp_path), on("auto"))
    assert "poisonbench[ray]" in error.value.hint
    assert not list(tmp_path.rglob("*.h5"))


def test_a_request_is_held_against_single_nodes_that_live():
    told = [
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    nodes = nodes_of(told)
    assert nodes == [Node(4, 0), Node(1, 1)]
    for cpus, gpus in ((4, 0), (1, 1), (0.5, 0.25)):
        check_request(RayOptions(None, cpus, gpus), nodes)
    for cpus, gpus in ((5, 0), (4, 0.5), (1, 2)):
        with pytest.raises(ConfigError, match="no node has that"):
            check_request(RayOptions(None, cpus, gpus), nodes)


@pytest.mark.parametrize(("cpus", "gpus"), [(-1, 0), (1, -0.5), (1.5, 0), (1, 2.5)])
def test_a_number_that_ray_cannot_give_is_refused(cpus: float, gpus: float):
    with pytest.raises(ValueError, match="must be"):
        RayOptions(None, cpus, gpus)


def test_nodes_that_are_all_gone_end_the_run(monkeypatch: pytest.MonkeyPatch):
    tasks = ray_tasks.RayTasks.__new__(ray_tasks.RayTasks)
    tasks._how = RayOptions()
    tasks._fitted = time.monotonic()
    monkeypatch.setattr(ray_tasks.RayTasks, "_nodes", lambda self: [Node(0, 0)])
    tasks._check_nodes()
    monkeypatch.setattr(ray_tasks, "PATIENCE", -1.0)
    with pytest.raises(FatalError, match="could take a task"):
        tasks._check_nodes()


HOW = {
    "executor": "ray",
    "workers": None,
    "threads": 2,
    "timeout": None,
    "retry_failed": False,
    "shard": (1, 1),
    "ray_address": None,
    "ray_cpus": None,
    "ray_gpus": None,
}


def test_options_of_a_command_become_requests_of_tasks():
    assert options_of(HOW, "cpu").ray == RayOptions(None, 2, 0)
    assert options_of(HOW, "cuda").ray == RayOptions(None, 2, 1)
    shared = options_of({**HOW, "ray_gpus": 0.25, "workers": 3}, "cuda")
    assert (shared.ray, shared.workers) == (RayOptions(None, 2, 0.25), 3)
    assert options_of({**HOW, "executor": "local"}, "cpu").ray is None


@pytest.mark.parametrize(
    ("more", "device", "told"),
    [
        ({"ray_gpus": 1.0}, "cpu", "--device cpu with --ray-gpus 1"),
        ({"ray_gpus": 0.0}, "cuda", "--device cuda with --ray-gpus 0"),
        ({"ray_address": "ray://a:1"}, "cpu", "on a node of its cluster"),
        ({"ray_cpus": 1.5}, "cpu", "must be whole"),
        ({"executor": "local", "ray_cpus": 1.0}, "cpu", "--ray-cpus: without Ray"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    more: dict, device: str, told: str
):
    with pytest.raises(ConfigError, match=told):
        options_of({**HOW, **more}, device)
