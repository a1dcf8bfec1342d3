"""How far a run is: what is done, at work, failed and missing, and how long the rest may take."""

import platform
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from experiments.plan.cells import WORKING, Cells, SceneCells
from experiments.runner.existing import Existing
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import names
from poisonbench.log.placing import is_alive

WIDTH = 110  # columns, where nobody tells of a terminal
FIELD = re.compile(r" (?=\w+=)")  # before a hyperparameter of a method
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
        setting: scenes that share one take alike long.
    """

    title: str
    folder: Path
    cells: tuple[str, ...]
    done: tuple[str, ...]
    failed: tuple[str, ...]
    setting: str

    @property
    def missing(self) -> list[str]:
        """Those that are neither."""
        ended = {*self.done, *self.failed}
        return [name for name in self.cells if name not in ended]


def progress(cells: Cells, folder: Path, there: Existing, width: int = WIDTH) -> str:
    """Returns what is done, at work, failed and missing in a run's folder: a line per scene.

    Names come from files that anyone may have written: nothing in them may steer a terminal.

    Args:
        cells: of the grid.
        folder: of the run.
        there: what lies in it; damaged files count as missing.
        width: at which the lists of methods wrap.
    """
    attacks = _short_names(scene.attack for scene in cells.scenes)
    scenes = []
    total = 0
    done = 0
    failed = 0
    for planned in cells.scenes:
        scene = _scene(planned, folder, there, attacks)
        scenes.append(scene)
        total += len(scene.cells)
        done += len(scene.done)
        failed += len(scene.failed)
    of_scenes = _counted(len(scenes), "scene")
    of_cells = _counted(total, "cell")
    head = f"{cells.name}: {of_scenes}, {of_cells}, {done} done, {failed} failed"
    missing = total - done - failed
    if missing:
        head += f", {missing} missing"
    lines = [head]
    lines += _methods(cells, width)
    for scene in scenes:
        lines += _lines(scene)
    lines += _time_left(scenes, there)
    return "\n".join(_printable(line) for line in lines)


def _short_names(told: Iterable[str]) -> dict[str, str]:
    """The words of methods without those fields that are the same in all of that name."""
    fields: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    for words in dict.fromkeys(told):
        name, *fields[words] = FIELD.split(words)
        groups.setdefault(name, []).append(words)
    found = {}
    for name, group in groups.items():
        shared = set.intersection(*[set(fields[words]) for words in group])
        for words in group:
            kept = [field for field in fields[words] if field not in shared]
            found[words] = " ".join([name, *kept])
    return found


def _scene(
    scene: SceneCells, folder: Path, there: Existing, attacks: Mapping[str, str]
) -> Scene:
    place = folder / "scenes" / scene.id
    files = tuple(cell.file for cell in scene.cells)
    done = [name for name in files if place / name in there.seconds]
    failed = [name for name in files if (place / f"failed-{name}").exists()]
    title = f"{attacks[scene.attack]}, seed {scene.seed}  {scene.id}"
    return Scene(title, place, files, tuple(done), tuple(failed), scene.setting)


def _counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _methods(cells: Cells, width: int) -> Iterator[str]:
    """A line for each part, such as "detectors: random, tail-heaviness (2)": 2 of that name."""
    found: dict[str, dict[str, None]] = {}
    for scene in cells.scenes:
        found.setdefault("attack", {})[scene.attack] = None
        for cell in scene.cells:
            for part, words in cell.methods.items():
                found.setdefault(part, {})[words] = None
    for part, told in found.items():
        counts: dict[str, int] = {}
        for words in told:
            name = words.partition(" ")[0]
            counts[name] = counts.get(name, 0) + 1
        several = []
        for name, count in counts.items():
            several.append(name if count == 1 else f"{name} ({count})")
        line = f"  {part}s: {', '.join(several)}"
        yield from textwrap.wrap(
            line, width, subsequent_indent="    ", break_on_hyphens=False
        )


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
    """How long the missing cells may take, by those of the same file name in scenes like theirs.

    Alike are scenes of one data set and recipe.
    """
    known: dict[tuple[str, str], list[float]] = {}
    for scene in scenes:
        for name in scene.done:
            took = there.seconds[scene.folder / name]
            known.setdefault((scene.setting, name), []).append(took)
    missing = 0
    unlike = 0
    seconds = 0.0
    for scene in scenes:
        for name in scene.missing:
            alike = known.get((scene.setting, name))
            missing += 1
            if alike:
                seconds += fmean(alike)
            else:
                unlike += 1
    if missing == unlike:
        return []
    are = "cell is" if missing == 1 else "cells are"
    line = f"{missing} {are} missing: about {_told(seconds)} of work"
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
