"""Where a scene is computed and kept: the files of its stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.plan.identity import identifier, slug
from experiments.plan.kind import Kind
from experiments.plan.spec import Method

# part -> method, in the order of the log
Methods = tuple[tuple[str, Method | None], ...]


class SceneLike(Protocol):
    """What the stages of a scene ask of it, however its victim came to be."""

    @property
    def attack(self) -> Any:
        """With a `config`."""

    @property
    def seed(self) -> int:
        """Of all random choices."""

    @property
    def config(self) -> dict[str, Any]:
        """All that the scene's results depend on."""

    @property
    def id(self) -> str:
        """Folder name, readable and unique."""


def key(method: Method | None) -> str:
    """Returns the part of a file name that stands for a method: a slug and a digest, or `none`."""
    return "none" if method is None else identifier(method.name, method.config)


@dataclass(frozen=True)
class Place:
    """Where a scene is computed and kept; no part of the configuration.

    Attributes:
        folder: the run's folder.
        device: torch device of training and scoring.
        root: folder of downloaded data sets, None for the default.
        download: fetch absent data sets.
        trust: run code that logs name.
    """

    folder: Path
    device: str = "cpu"
    root: Path | None = None
    download: bool = False
    trust: bool = False

    def scene(self, scene: SceneLike) -> Path:
        """Folder of a scene."""
        return self.folder / "scenes" / scene.id

    def scratch(self, scene: SceneLike) -> Path:
        """Folder for what the stages of a scene may need again before it is done."""
        return self.scene(scene) / "scratch"

    def runs(self, scene: SceneLike) -> Path:
        """Folder of the training runs that the stages of a scene share."""
        return self.scratch(scene) / "runs"

    def influence(self, scene: SceneLike, estimator: Method) -> Path:
        """The file of an influence matrix."""
        return self.scene(scene) / f"influence-{key(estimator)}.h5"

    def stage(
        self, scene: SceneLike, kind: Kind, methods: Methods, alarm: float
    ) -> Path:
        """The file of a stage that applies methods: KIND-ESTIMATOR-METHOD.h5.

        That of a mitigation also names the detector or filter on whose verdict it works.
        """
        used = {part: method for part, method in methods if method is not None}
        method = used[kind.part]
        words = [kind.name]
        if kind.estimators != "none":
            words.append(key(used.get("estimator")))
        config = method.config
        if kind.judged:
            judge = used.get("detector", used.get("filter"))
            words.append(slug(judge.name, 40) if judge else "none")
            config = _configs(used)
        if kind.alarm:
            config = {**config, "alarm": alarm}
        words.append(identifier(method.name, config))
        return self.scene(scene) / f"{'-'.join(words)}.h5"


def _configs(used: Mapping[str, Method]) -> dict[str, Any]:
    return {part: method.config for part, method in used.items()}
