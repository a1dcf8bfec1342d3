"""Cells as they are done, told to a tracker. Whatever it raises costs one warning, never a cell."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.evaluation.evaluations import EVALUATED, rows_of
from experiments.evaluation.load import Results, settings
from experiments.plan.kinds import NEEDED, STAGES
from experiments.tracking.tracker import TRACKERS, Tracker, make_tracker
from poisonbench import log
from poisonbench.errors import LogError, TrackerWarning
from poisonbench.log import Record, names

KINDS = [kind.name for kind in EVALUATED]


class Watch:
    """Tells a tracker of each cell of a run, once."""

    def __init__(self, tracker: Tracker, folder: Path, told: Sequence[Path]) -> None:
        """Prepares for a run.

        Args:
            tracker: that is told.
            folder: of the run.
            told: cells of which it has been told before.
        """
        self._tracker = tracker
        self._folder = folder
        self._told = {_name(path) for path in told}
        self._failed = False
        self._scene: Record | None = None

    def __call__(self, done: Sequence[Path]) -> None:
        """Tells of those cells of which nothing was told yet.

        Args:
            done: the files of all cells that are done, scenes before what judges them.
        """
        for path in done:
            if self._failed:
                return
            if _name(path) not in self._told:
                self._told.add(_name(path))
                self._try(path)

    def close(self) -> None:
        """Closes the tracker."""
        try:
            self._tracker.close()
        except Exception as error:
            self._give_up(error)

    def _try(self, path: Path) -> None:
        try:
            self._tell(path)
        except LogError:  # told by the run itself
            return
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Warns once, and tells no more."""
        if not self._failed:
            what = f"{type(error).__name__}: {error}"
            warnings.warn(
                f"the tracker failed and is told no more: {what}",
                TrackerWarning,
                stacklevel=2,
            )
        self._failed = True

    def _tell(self, path: Path) -> None:
        kind = STAGES.get(path.stem.partition("-")[0], "")
        if kind not in KINDS:
            return
        scene = self._scene_of(path)
        record = scene
        if kind == "scene":
            self._tell_scene(scene)
        else:
            record = log.read(path, kind, keys=NEEDED.get(kind, ()))
        results = Results(self._folder, {"scene": (scene,), kind: (record,)}, ())
        for row in rows_of(results, kind):
            found = {}
            for name, metric in row.metrics.items():
                if metric.value is not None:
                    found[f"{name}/{path.stem}"] = metric.value
            self._tracker.figures(path.parent.name, found)

    def _scene_of(self, path: Path) -> Record:
        """The log of a cell's scene, of which the last is kept."""
        place = path.parent / "scene.h5"
        if self._scene is None or self._scene.path != place:
            self._scene = log.read(place, "scene")
        return self._scene

    def _tell_scene(self, scene: Record) -> None:
        """Tells what was attacked, and the victim's curve."""
        name = scene.path.parent.name
        named, seed = settings(scene)
        text = json.dumps({**named, "seed": seed}, indent=1)
        self._tracker.text(name, "scene", text)
        losses = scene.data.get(names.VICTIM_LOSSES)
        if losses is not None:
            self._tracker.curve(name, "victim/loss", losses.tolist())


def _name(path: Path) -> tuple[str, str]:
    """What names a cell, wherever the run's folder is."""
    return path.parent.name, path.name


@contextmanager
def watched(name: str | None, folder: Path) -> Iterator[Watch | None]:
    """Gives what tells a tracker of a run while the block lasts; None without a tracker.

    It is told of the cells that are done meanwhile; of all cells, where the folder of the run has
    none of this tracker yet.

    Args:
        name: of the tracker.
        folder: of the run.

    Raises:
        ConfigError: what the tracker needs is not installed.
    """
    if name is None:
        yield None
        return
    assert name in TRACKERS
    told = []
    if (folder / name).exists():
        told = sorted((folder / "scenes").glob("*/*.h5"))
    watch = Watch(make_tracker(name, folder), folder, told)
    try:
        yield watch
    finally:
        watch.close()
