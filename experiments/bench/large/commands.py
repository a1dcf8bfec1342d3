"""Peak memory of every command on a run of n training rows and m points.

This process loads neither torch nor data: what a child process holds before it becomes a command
counts as that command's.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.bench.large.spent import Spent, spent
from poisonbench.errors import ConfigError

CLI = "experiments.cli"
GRID = """
name = "large"
seeds = [0]
dataset = {{name = "cifar10", train = {n}}}
[probe]
attacked = {attacked}
controls = {controls}
calibration = {calibration}
[recipe]
model = "cnn"
epochs = 1
batch_size = 64
lr = 0.05
checkpoints = 1
[[attack]]
name = "patch"
budget = 0.05
[[estimator]]
name = "gas"
[[detector]]
name = "tail-heaviness"
[[detector]]
name = "gini"
[[detector]]
name = "support-without-the-few"
[[detector]]
name = "foreign-or-fragile"
[[filter]]
name = "influence-rank"
[[filter]]
name = "deep-knn"
"""
BLOCKS = "**/rows-*.h5"  # of the influence, as long as it is not whole


def bench(folder: Path, n: int, m: int) -> str:
    """Returns the report.

    Args:
        folder: new, for the run and what is made of it, or that of an earlier call.
        n: training rows.
        m: probe points.
    """
    found = []
    for one in _all(folder, n, m):
        found.append(one)
        told = f"{one.name}: {one.peak >> 20} MiB, {one.seconds:.0f} s, code {one.code}"
        print(told, file=sys.stderr, flush=True)
    return _report(folder, found)


def _all(folder: Path, n: int, m: int) -> Iterator[Spent]:
    """Runs every command; those that read alone where the folder is there already."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    grid = folder / "large.toml"
    attacked = 2 * m // 5
    text = GRID.format(
        n=n,
        attacked=attacked,
        controls=attacked,
        calibration=m - 2 * attacked,
    )
    grid.write_text(text)
    said = folder / "said.txt"
    run = folder / "run"

    def told(name: str, *command: str) -> Spent:
        return spent(name, command, said, None)

    yield told("libraries loaded, nothing done", "experiments.bench.large.idle")
    if is_new:
        yield from _runs(grid, run, said)
    log = _influence(run, said)
    scene = log.parent
    picture = str(folder / "why.png")
    plot = str(folder / "influence.png")
    yield told("run, nothing left to do", CLI, "run", str(grid), "-o", str(run))
    yield told("status", CLI, "status", str(run))
    yield told("evaluate, logs read whole", CLI, "evaluate", str(run))
    yield told("evaluate, from its index", CLI, "evaluate", str(run))
    yield told("show, the influence", CLI, "show", str(log))
    yield told("explain", CLI, "explain", str(scene))
    yield told("explain -o why.png", CLI, "explain", str(scene), "-o", picture)
    yield told("plot influence", CLI, "plot", "influence", str(run), "-o", plot)
    yield told("report", CLI, "report", str(run))
    if is_new:
        yield from _audits(folder, n, m, said)


def _influence(run: Path, said: Path) -> Path:
    """Returns the log of the influence of a run.

    Raises:
        ConfigError: there is none, or several.
    """
    found = list(run.glob("scenes/*/influence-*.h5"))
    if len(found) != 1:
        what = f"{run} must hold one influence matrix, got {len(found)}"
        raise ConfigError([what], f"name a new folder; what was said is in {said}")
    return found[0]


def _runs(grid: Path, run: Path, said: Path) -> Iterator[Spent]:
    """Runs a grid in one worker, ends it within its influence, and goes on."""
    command = (CLI, "run", str(grid), "-o", str(run), "--workers", "1")

    def has_two_blocks() -> bool:
        return len(list(run.glob(BLOCKS))) >= 2

    ended = "run, ended after two blocks of rows"
    yield spent(ended, command, said, has_two_blocks)
    yield spent("run, gone on with to its end", command, said, None)


def _audits(folder: Path, n: int, m: int, said: Path) -> Iterator[Spent]:
    """Audits a finished model."""
    material = ("experiments.bench.large.material", str(folder), str(n), str(m))
    yield spent("(a model trained, files for the audit)", material, said, None)
    audit = [CLI, "audit", "-o", str(folder / "audit"), "--model", "cnn"]
    audit += ["--checkpoint", str(folder / "model.pt"), "--lr", "0.05"]
    for name in ("train", "points", "trusted"):
        audit += [f"--{name}", str(folder / f"{name}.npz")]
    yield spent("audit", audit, said, None)


def _report(folder: Path, found: Sequence[Spent]) -> str:
    """Returns a table of the commands, and one of the logs with the memory that they state."""
    from experiments.bench.timing import table
    from poisonbench import log

    rows = []
    for one in found:
        peak = f"{one.peak >> 20}"
        rows.append((one.name, peak, f"{one.seconds:.0f}", str(one.code)))
    commands = table(("command", "peak MiB", "processor s", "exit code"), rows)
    files = []
    for path in sorted(folder.glob("*/scenes/*/*.h5")):
        size = path.stat().st_size >> 20
        attributes = log.read(path, keys=()).attributes
        stated = attributes.get("peak_bytes")
        peak = "" if stated is None else f"{int(stated) >> 20}"
        files.append((path.relative_to(folder).as_posix(), str(size), peak))
    logs = table(("log", "MiB on disk", "peak MiB stated"), files)
    return f"{commands}\n\n{logs}\n"
