"""How far a run is: what is done, at work, failed and missing, and how long the rest may take."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from experiments.plan.cells import WORKING, Cells, SceneCells
from experiments.runner.existing import Existing
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import names
from poisonbench.log.placing import is_alive

REASON = 160  # characters shown of why a cell failed


@dataclass(frozen=True)
class Scene:
    """How far the cells of a scene are.

    Attributes:
        title: its attack and seed.
        folder: where its files lie.
        cells: file names of its cells.
        done: those that are done.
        failed: those that failed.
    """

    title: str
    folder: Path
    cells: tuple[str, ...]
    done: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """Those that are neither."""
        ended = {*self.done, *self.failed}
        return [name for name in self.cells if name not in ended]


def progress(cells: Cells, folder: Path, there: Existing) -> str:
    """Returns what is done, at work, failed and missing in a run's folder: a line per scene.

    Names come from files that anyone may have written: nothing in them may steer a terminal.

    Args:
        cells: of the grid.
        folder: of the run.
        there: what lies in it; damaged files count as missing.
    """
    scenes = [_scene(scene, folder, there) for scene in cells.scenes]
    total = sum(len(scene.cells) for scene in scenes)
    done = sum(len(scene.done) for scene in scenes)
    failed = sum(len(scene.failed) for scene in scenes)
    head = f"{len(scenes)} scenes, {total} cells, {done} done, {failed} failed"
    lines = [f"{cells.name}: {head}"]
    for scene in scenes:
        lines += _lines(scene)
    lines += _time_left(scenes, there)
    return "\n".join(_printable(line) for line in lines)


def _scene(scene: SceneCells, folder: Path, there: Existing) -> Scene:
    place = folder / "scenes" / scene.id
    files = tuple(cell.file for cell in scene.cells)
    done = [name for name in files if place / name in there.seconds]
    failed = [name for name in files if (place / f"failed-{name}").exists()]
    title = f"{scene.attack}, seed {scene.seed}  {scene.id}"
    return Scene(title, place, files, tuple(done), tuple(failed))


def _lines(scene: Scene) -> Iterator[str]:
    yield f"  {len(scene.done):3}/{len(scene.cells):<3} {scene.title}{_at_work(scene)}"
    for name in scene.failed:
        yield f"          failed: {Path(name).stem}: {_reason(scene.folder / f'failed-{name}')}"


def _at_work(scene: Scene) -> str:
    """Which stage of a scene is at work, and where; empty if none is."""
    try:
        text = (scene.folder / WORKING).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    name, _, rest = text[:1000].partition("\n")
    process, _, host = rest.strip().partition(" on ")
    here = host == platform.node()
    if here and not (process.isdecimal() and is_alive(int(process))):
        return ""  # it was killed
    return f"  at work: {Path(name).stem} (pid {process} on {host})"


def _reason(path: Path) -> str:
    try:
        reason = log.read(path, "failure", keys=(names.REASON,)).text(names.REASON)
    except LogError:
        return "its file is damaged"
    words = " ".join(reason.split())
    return words if len(words) <= REASON else f"{words[:REASON]}..."


def _time_left(scenes: list[Scene], there: Existing) -> list[str]:
    """How long the missing cells may take, by those of the same file name in other scenes."""
    known: dict[str, list[float]] = {}
    for path, seconds in there.seconds.items():
        known.setdefault(path.name, []).append(seconds)
    missing = [name for scene in scenes for name in scene.missing]
    alike = [fmean(known[name]) for name in missing if name in known]
    if not alike:
        return []
    line = f"{len(missing)} cells are missing: about {_told(sum(alike))} of work"
    unlike = len(missing) - len(alike)
    if unlike:
        line += f", and {unlike} of which none like them is done"
    return [line]


def _told(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
