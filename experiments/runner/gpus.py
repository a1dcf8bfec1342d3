"""Each worker process of this machine sees one GPU, also one that takes the place of a dead one."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import filelock

VISIBLE = "CUDA_VISIBLE_DEVICES"
_held: list[filelock.BaseFileLock] = []  # for as long as the process lives


def visible_gpus(count: int) -> tuple[str, ...]:
    """Returns the names of the GPUs that this process sees.

    Args:
        count: of them, as torch tells it.
    """
    named = os.environ.get(VISIBLE)
    if named:
        return tuple(name.strip() for name in named.split(",")[:count])
    return tuple(str(number) for number in range(count))


@dataclass(frozen=True)
class Spread:
    """Over which GPUs the workers of a run are spread.

    Attributes:
        gpus: to choose from; none: every worker sees all.
        workers: at a time.
        folder: where the places of workers are, a lock file each; None without GPUs.
    """

    gpus: tuple[str, ...]
    workers: int
    folder: Path | None

    @classmethod
    def over(cls, gpus: tuple[str, ...], workers: int) -> "Spread":
        """Makes the folder of the places, which `end` removes."""
        if not gpus:
            return cls((), workers, None)
        return cls(gpus, workers, Path(tempfile.mkdtemp(prefix="poisonbench-")))

    def end(self) -> None:
        """Removes the folder of the places, when no worker is left."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def take(self) -> None:
        """Lets this process see one GPU: that of the first place that no living worker holds.

        Must be called before CUDA is used. The system frees a place when its process ends, however
        it ends. Twice as many places as workers: one may start while another still ends.
        """
        if self.folder is None:
            return
        for number in range(2 * self.workers):
            lock = filelock.FileLock(self.folder / f"place-{number}", timeout=0)
            try:
                lock.acquire()
            except filelock.Timeout:
                continue
            _held.append(lock)
            os.environ[VISIBLE] = self.gpus[number % len(self.gpus)]
            return
