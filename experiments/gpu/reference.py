"""Victims, attacks and detectors on the whole of CIFAR-10, by the grid gpu-cifar10.

The grid runs as any grid does, in processes of its own, with an end; what is done by then stays.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from experiments.gpu.record import Found, left
from experiments.gpu.setting import Setting
from poisonbench import log
from poisonbench.log import names

GRID = Path(__file__).parents[1] / "grids" / "gpu-cifar10.toml"
SMALL = (  # a data set that is always there, and a model that a CPU trains
    'dataset={name="digits", train=200, test=60}',
    "recipe.model=cnn",
    "recipe.epochs=1",
    'attack=[{name="none"}, {name="patch", budget=0.05}]',
    'detector=[{name="tail-heaviness", k=3}, {name="confidence"}]',
    "probe={attacked=10, controls=20, calibration=30}",
)
ENDING = 20.0  # seconds in which an interrupted run ends, and is evaluated
SHOWN = 2000  # characters of its messages, kept
ENTRY = [sys.executable, "-m", "experiments.cli"]


def reference(workers: int, setting: Setting, found: Found) -> None:
    """Runs the grid as long as there is time, and keeps all rows of its tables."""
    torch.cuda.empty_cache()  # the workers need it
    logs = setting.logs / GRID.stem
    command = [*ENTRY, "run", str(GRID), "-o", str(logs)]
    command += ["--workers", str(workers), "--device", str(setting.device)]
    for change in SMALL if setting.small else ():
        command += ["--set", change]
    messages = setting.folder / "reference.log"
    with messages.open("w") as file:
        running = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        found["exit code"] = _waited(running, left() - ENDING)
    found["messages"] = messages.read_text()[-SHOWN:]
    found["losses"] = _losses(logs)
    found["tables"] = _tables(logs)


def _waited(running: "subprocess.Popen[bytes]", seconds: float) -> int:
    """Waits for a process; interrupts it when its time is over, and then ends it."""
    try:
        return running.wait(seconds)
    except subprocess.TimeoutExpired:
        running.terminate()  # SIGINT is ignored by what a shell has in the background
    try:
        return running.wait(ENDING / 2)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        return running.wait()


def _losses(logs: Path) -> Found:
    """Returns the training loss of each epoch of each victim, by its folder."""
    losses: Found = {}
    for path in sorted(logs.glob("scenes/*/scene.h5")):
        curve = log.read(path, "scene").data[names.VICTIM_LOSSES]
        losses[path.parent.name] = [round(float(loss), 4) for loss in curve]
    return losses


def _tables(logs: Path) -> object:
    """Returns the rows that `evaluate` gives of the logs."""
    command = [*ENTRY, "evaluate", str(logs), "--format", "json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        return done.stderr[-SHOWN:]
    return json.loads(done.stdout)
