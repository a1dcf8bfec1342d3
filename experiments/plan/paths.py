"""Where a scene is computed and kept: the files of its stages."""

from dataclasses import dataclass
from pathlib import Path

from experiments.plan.identity import identifier, slug
from experiments.plan.spec import Method, Scene


def key(method: Method | None) -> str:
    """Returns the part of a file name that stands for a method: a slug and a digest, `none` for no method."""
    return "none" if method is None else identifier(method.name, method.config)


@dataclass(frozen=True)
class Place:
    """Where a scene is computed and kept; no part of the configuration.

    Attributes:
        folder: the run's folder.
        device: torch device of training and scoring.
        root: folder of downloaded data sets, None for the default.
        download: fetch absent data sets.
    """

    folder: Path
    device: str = "cpu"
    root: Path | None = None
    download: bool = False

    def scene(self, scene: Scene) -> Path:
        """Folder of a scene."""
        return self.folder / "scenes" / scene.id

    def influence(self, scene: Scene, estimator: Method) -> Path:
        """The file of an influence matrix."""
        return self.scene(scene) / f"influence-{key(estimator)}.h5"

    def detect(
        self, scene: Scene, estimator: Method | None, detector: Method, alarm: float
    ) -> Path:
        """The file of a detector's scores."""
        name = identifier(detector.name, {**detector.config, "alarm": alarm})
        return self.scene(scene) / f"detect-{key(estimator)}-{name}.h5"

    def filter(self, scene: Scene, estimator: Method | None, sieve: Method) -> Path:
        """The file of a filter's scores."""
        return self.scene(scene) / f"filter-{key(estimator)}-{key(sieve)}.h5"

    def certify(self, scene: Scene, certifier: Method) -> Path:
        """The file of a certifier's labels and radii."""
        return self.scene(scene) / f"certify-{key(certifier)}.h5"

    def mitigate(
        self, scene: Scene, methods: tuple[tuple[str, Method | None], ...], alarm: float
    ) -> Path:
        """The file of a mitigation that works on the verdict of a detector or filter, which may use an estimator."""
        used = {part: method for part, method in methods if method is not None}
        name = identifier(
            used["mitigation"].name,
            {**{part: method.config for part, method in used.items()}, "alarm": alarm},
        )
        judge = used.get("detector", used.get("filter"))
        return (
            self.scene(scene)
            / f"mitigate-{key(used.get('estimator'))}-{slug(judge.name, 40) if judge else 'none'}-{name}.h5"
        )
