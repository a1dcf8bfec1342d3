"""What a tracker is, and the table of those that are there."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from experiments.plan.kind import named
from poisonbench.errors import ConfigError

# name, which is also that of the extra -> function of the run's folder
TRACKERS = {
    "tensorboard": "experiments.tracking.tensorboard:TensorBoard",
}


class Tracker(Protocol):
    """What is told of a run; each scene is a run of the tool. Any method may raise anything."""

    def text(self, scene: str, name: str, text: str) -> None:
        """Tells a text, such as the configuration of a scene."""

    def curve(self, scene: str, name: str, values: Sequence[float]) -> None:
        """Tells a value for each epoch."""

    def figures(self, scene: str, values: Mapping[str, float]) -> None:
        """Tells metrics of cells of the scene, by name."""

    def close(self) -> None:
        """Writes what is not written yet."""


def make_tracker(name: str, folder: Path) -> Tracker:
    """Returns the tracker of that name for a run's folder.

    Raises:
        ConfigError: what it needs is not installed.
    """
    try:
        make: Callable[[Path], Tracker] = named(TRACKERS[name])
        return make(folder)
    except ImportError as error:
        way = f"pip install 'poisonbench[{name}]'"
        raise ConfigError([f"--track {name}: {error}"], way) from error
