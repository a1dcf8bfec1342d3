"""Options that several commands share."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class PictureFile(click.Path):
    """A file that a picture is written to; one of an unknown format is refused before any work."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Returns the path.

        Raises:
            ConfigError: no picture can be saved in the format of its suffix.
        """
        from experiments.report.pictures.look import check_suffix

        found = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_suffix(found)
        return found


def columns() -> int:
    """Returns the width at which text wraps: that of the terminal within bounds, or 110."""
    width = shutil.get_terminal_size(fallback=(WIDTH, 0)).columns
    return min(max(width, LEAST_WIDTH), MOST_WIDTH)


WIDTH = 110  # columns where there is no terminal
LEAST_WIDTH = 80
MOST_WIDTH = 120
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
PICTURE = PictureFile(path_type=Path, dir_okay=False)
COUNT = click.IntRange(min=1)
SHARE = click.FloatRange(0, 1)
ROOT_HELP = (
    "Folder of downloaded data. [default: $POISONBENCH_DATA or ~/.cache/poisonbench]"
)

folder_argument = click.argument("folder", type=FOLDER)
MOST_THREADS = 4096  # of a worker, and workers: more is a mistake
WORKERS = click.IntRange(min=0, max=MOST_THREADS)  # 0: in this process

picture_option = click.option(
    "-o",
    "--output",
    "path",
    type=PICTURE,
    required=True,
    help="The file: .png, .pdf or .svg.",
)

where_option = click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only logs that meet this: attack=patch,blend, detector.k=3, seed!=0. Repeatable.",
)


def computing(command: F) -> F:
    """Adds the options of every command that reads data and computes."""
    device = click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
    )
    root = click.option("--data-root", type=FOLDER, help=ROOT_HELP)
    download = click.option(
        "--download", is_flag=True, help="Fetch a data set that is not on disk."
    )
    return device(root(download(command)))


def trusting(command: F) -> F:
    """Adds the option of commands that may need code which a log names."""
    return click.option(
        "--trust",
        is_flag=True,
        help="Run code (module:name) that the log names. Without it a log is data alone.",
    )(command)


def running(command: F) -> F:
    """Adds the options of every command that runs a grid."""
    workers = click.option(
        "--workers",
        type=WORKERS,
        help="Worker processes; 0: run in this one. [default: number of cores, or of GPUs on "
        "CUDA; with Ray, tasks at a time: as many as the cluster can take]",
    )
    threads = click.option(
        "--threads",
        type=click.IntRange(min=1, max=MOST_THREADS),
        default=1,
        show_default=True,
        help="Torch threads of each worker.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        help="Seconds that a scene may take; one that takes longer fails.",
    )
    retry = click.option("--retry-failed", is_flag=True, help="Do failed cells again.")
    shard = click.option(
        "--shard",
        metavar="I/N",
        callback=_shard,
        help="Do the I-th of N parts of the scenes, as a task of a job array does.",
    )
    track = click.option(
        "--track",
        type=click.Choice(["tensorboard"]),
        help="Tell a tracker of curves and metrics while the run goes on "
        "(pip install 'poisonbench[tensorboard]').",
    )
    others = computing(_executing(retry(track(command))))
    return workers(threads(timeout(shard(others))))


def _executing(command: F) -> F:
    """Adds the options that say on which machines a grid runs."""
    executor = click.option(
        "--executor",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where scenes are done: in processes of this machine, or as tasks of Ray "
        "(pip install 'poisonbench[ray]').",
    )
    address = click.option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Of a Ray cluster, or auto. [default: $RAY_ADDRESS, or a Ray of its own here]",
    )
    cpus = click.option(
        "--ray-cpus",
        type=click.FloatRange(min=0),
        help="CPUs that a task of Ray asks for, also a share of one. [default: --threads]",
    )
    gpus = click.option(
        "--ray-gpus",
        type=click.FloatRange(min=0),
        help="GPUs likewise. [default: 1 with --device cuda, else 0]",
    )
    return executor(address(cpus(gpus(command))))


def _shard(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int]:
    """The numbers of a shard; (1, 1) for the whole."""
    if value is None:
        return 1, 1
    number, _, total = value.partition("/")
    if number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total):
        return int(number), int(total)
    raise click.BadParameter(f"a shard is I/N with I from 1 to N, got {value!r}")


def checked_device(name: str) -> str:
    """Returns the torch device that an option names.

    Raises:
        ConfigError: there is no such device here.
    """
    import torch

    from poisonbench.errors import ConfigError

    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    there = {"cpu": 1, "cuda": torch.cuda.device_count() if has_cuda else 0}
    kind = ""
    number = 0
    with suppress(RuntimeError):
        device = torch.device(name)
        kind = device.type
        number = device.index or 0
    if number < there.get(kind, 0):
        return name
    known = "auto, cpu"
    if has_cuda:
        known = f"auto, cpu, cuda, or cuda:N with N below {there['cuda']}"
    raise ConfigError([f"--device {name}: there is no such device here"], known)
