"""A soak of the runner: kills and full disks at seeded moments, then bits against a calm run.

The same command is given again whenever it ended. A full disk is a file system in memory that is
mounted over the folder of the run, shrunk to what it holds, and widened again; that needs the right
to mount.
"""

import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from experiments.bench.grids.disk import WIDE, mounted, remount, unmount
from experiments.bench.grids.logs import compared, damaged, done, failed
from experiments.bench.grids.processes import Process, kill, seconds_until_gone
from experiments.bench.timing import table

# of the rounds: at the end of an odd one a worker of two is idle
SCENES = (3, 5, 7, 9, 10, 10)
CELLS = 20  # of a scene
COMMAND = ("--workers", "2", "--retry-failed")
PATIENCE = 60.0  # seconds to wait for a worker in the state that is wished for
GRID = """
name = "soak"
dataset = "digits"
seeds = [{seeds}]
[recipe]
model = "mlp"
epochs = 5
checkpoints = 5
[[attack]]
name = "patch"
budget = 0.05
[[estimator]]
name = "tracin"
[[estimator]]
name = "gas"
[[estimator]]
name = "representer-point"
[[detector]]
name = "tail-heaviness"
k = [3, 10]
scope = ["label", "all"]
[[detector]]
name = "foreign-proponents"
[[detector]]
name = "class-similarity"
"""


@dataclass
class Soak:
    """What is done to a run, and what became of it.

    Attributes:
        folder: of the grid file and the runs.
        draw: of all moments.
        disk: whether the disk of the run can be made full.
        told: how often what happened.
        late: seconds until the workers of a killed parent were gone, the longest.
    """

    folder: Path
    draw: random.Random
    disk: bool
    told: Counter[str] = field(default_factory=Counter)
    late: float = 0.0

    @property
    def runs(self) -> Path:
        """The folder of the disturbed run."""
        return self.folder / "soak"

    def disturb(self, workers: int, parents: int, full: int) -> None:
        """Does the rounds, with so many kills of workers and parents and full disks."""
        events = self._schedule(workers, parents, full)
        for scenes in SCENES:
            grid = write_grid(self.folder, scenes)
            while True:
                process = Process.start(grid, self.runs, *COMMAND)
                disturbed = self._round(process, events, CELLS * scenes)
                code = process.running.wait()
                self.told[f"runs that ended with {code}"] += 1
                self.told["damaged logs"] += damaged(self.runs)
                self.told["cells whose process died twice"] += failed(self.runs)
                if not disturbed:
                    break
        for _, what in events:
            self.told[f"left out: {what}"] += 1

    def _schedule(self, workers: int, parents: int, full: int) -> list[tuple[int, str]]:
        """Events with the number of cells after which each is due, in order.

        Every third kill of a worker is followed by that of the one which takes its place.
        """
        total = CELLS * SCENES[-1]
        odd = [scenes for scenes in SCENES if scenes % 2]
        idle = [(CELLS * (scenes - 1) + 4, "idle") for scenes in odd]
        starting = workers // 3
        working = workers - starting - len(idle)
        events = list(idle)
        for number in range(working):
            at = self.draw.randrange(total - CELLS)
            events.append((at, "at work"))
            if number < starting:
                events.append((at, "starting"))
        events += [
            (self.draw.randrange(total - CELLS), "parent") for _ in range(parents)
        ]
        if self.disk:
            events += [(self.draw.randrange(CELLS, total), "disk") for _ in range(full)]
        return sorted(events, key=lambda event: event[0])

    def _round(
        self, process: Process, events: list[tuple[int, str]], total: int
    ) -> bool:
        """Lets a run work until it ends, with what is due in it; returns whether that ended it."""
        while process.is_alive:
            process.at_work()
            due = min(done(self.runs), total - 1)
            is_due = events and events[0][0] <= due
            if is_due and self._ends(process, events):
                return True
            time.sleep(0.05)
        return False

    def _ends(self, process: Process, events: list[tuple[int, str]]) -> bool:
        """Does what is due; returns whether it ends the run."""
        _, what = events.pop(0)
        if what == "disk":
            self._fill(process)
        elif what == "parent":
            self._kill_parent(process)
        elif not self._kill_worker(process, what):
            events.insert(0, (0, what))
        return what in ("disk", "parent")

    def _kill_worker(self, process: Process, wish: str) -> bool:
        """Kills a worker in the state that is wished for, or else any; returns whether it did.

        Counts the state that it had.
        """
        end = time.monotonic() + PATIENCE
        while process.is_alive and time.monotonic() < end:
            found = process.find(wish)
            if found is not None:
                break
            time.sleep(0.05)
        time.sleep(self.draw.uniform(0, 0.5))
        for state in (wish, "at work", "starting", "idle"):
            found = process.find(state)
            if found is not None and kill(found):
                self.told[f"kills of a worker {state}"] += 1
                return True
        return False

    def _kill_parent(self, process: Process) -> None:
        time.sleep(self.draw.uniform(0, 1))
        workers = process.workers()
        process.running.kill()
        process.running.wait()
        self.told["kills of the parent"] += 1
        self.late = max(self.late, seconds_until_gone(workers, 60))

    def _fill(self, process: Process) -> None:
        """Leaves no room on the disk until the run has ended, then makes it wide again."""
        used = shutil.disk_usage(self.runs).used
        remount(self.runs, f"{used // 1024 + 8}k")
        self.told["full disks"] += 1
        process.running.wait()
        remount(self.runs, WIDE)


def write_grid(folder: Path, scenes: int) -> Path:
    """Writes the grid of so many scenes."""
    path = folder / "grid.toml"
    path.write_text(GRID.format(seeds=", ".join(str(k) for k in range(scenes))))
    return path


def bench(folder: Path, seed: int, workers: int, parents: int, full: int) -> str:
    """Runs a grid calmly and once more under kills; returns what happened, as a table."""
    folder.mkdir(parents=True)
    calm = folder / "calm"
    process = Process.start(write_grid(folder, SCENES[-1]), calm, "--workers", "2")
    if process.running.wait() != 0:
        raise RuntimeError(f"the calm run failed, see {folder / 'said.txt'}")
    soak = Soak(folder, random.Random(seed), disk=mounted(folder / "soak"))
    try:
        soak.disturb(workers, parents, full)
        last = Process.start(folder / "grid.toml", soak.runs, *COMMAND)
        soak.told[f"runs that ended with {last.running.wait()}"] += 1
        different, equal = compared(calm, soak.runs)
        left = len(list(soak.runs.rglob("*.tmp")))
    finally:
        if soak.disk:
            unmount(soak.runs)
    soak.told["logs equal to the calm run bit for bit"] = equal
    soak.told["logs that differ or are missing"] = different
    soak.told["temporary files left"] = left
    rows = [[name, f"{count}"] for name, count in sorted(soak.told.items())]
    rows.append(
        [
            "seconds until the workers of a killed parent are gone, the longest",
            f"{soak.late:.1f}",
        ]
    )
    return table(("what", "how often"), rows)
