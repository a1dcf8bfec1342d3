"""What there is to do: the cells of a grid, a file each, in an order in which they can be done."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.plan.paths import Place
from experiments.plan.spec import Grid, Method, Remedy, Scene


@dataclass(frozen=True)
class Stage:
    """A cell of the grid.

    Attributes:
        path: the file in which it ends.
        kind: "scene", "influence", "detect", "filter", "certify" or "mitigate".
        methods: part -> method, in the order of the log: estimator, then detector or filter, then mitigation; or a certifier.
        needs: the files that it reads; it is not begun while one of them stands for a failure or waits for one.
    """

    path: Path
    kind: str
    methods: tuple[tuple[str, Method | None], ...] = ()
    needs: tuple[Path, ...] = ()

    @property
    def failure(self) -> Path:
        """The file that stands for it when it failed."""
        return self.path.with_name(f"failed-{self.path.name}")

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do: done or failed."""
        return self.path.exists() or self.failure.exists()

    @property
    def config(self) -> dict[str, object]:
        """The configurations of its methods by part."""
        return {part: method and method.config for part, method in self.methods}


@dataclass(frozen=True)
class Job:
    """A scene with all of its stages."""

    scene: Scene
    place: Place
    stages: tuple[Stage, ...]
    alarm: float
    threads: int

    @property
    def open(self) -> tuple[Stage, ...]:
        """The stages still to do; those that need a failed one, directly or not, are not among them."""
        lost: set[Path] = set()
        for stage in self.stages:
            if stage.failure.exists() or not lost.isdisjoint(stage.needs):
                lost.add(stage.path)
        return tuple(s for s in self.stages if s.path not in lost and not s.path.exists())


def jobs(grid: Grid, place: Place, threads: int) -> list[Job]:
    """Returns a job a scene, its stages in the order in which they can be done."""
    return [
        Job(scene, place, tuple(_stages(grid, scene, place)), grid.alarm, threads)
        for scene in grid.scenes
    ]


def _stages(grid: Grid, scene: Scene, place: Place) -> Iterator[Stage]:
    root = place.scene(scene) / "scene.h5"
    yield Stage(root, "scene")
    for estimator in (None, *grid.estimators):
        needs: tuple[Path, ...] = (root,)
        if estimator is not None:
            path = place.influence(scene, estimator)
            yield Stage(path, "influence", (("estimator", estimator),), needs)
            needs = (root, path)
        for detector in (
            d for d in grid.detectors if d.reads("influence") == (estimator is not None)
        ):
            path = place.detect(scene, estimator, detector, grid.alarm)
            yield Stage(path, "detect", (("estimator", estimator), ("detector", detector)), needs)
        for sieve in (f for f in grid.filters if f.reads("influence") == (estimator is not None)):
            path = place.filter(scene, estimator, sieve)
            yield Stage(path, "filter", (("estimator", estimator), ("filter", sieve)), needs)
        for remedy in grid.mitigations:
            yield from _mitigations(grid, scene, place, remedy, estimator)
    for certifier in grid.certifiers:
        yield Stage(
            place.certify(scene, certifier), "certify", (("certifier", certifier),), (root,)
        )


def _mitigations(
    grid: Grid, scene: Scene, place: Place, remedy: Remedy, estimator: Method | None
) -> Iterator[Stage]:
    """The cells of one mitigation with one estimator: one for each detector or filter on whose verdict it works."""
    none: list[tuple[str, Method | None]] = [("", None)]
    root, mitigation = place.scene(scene) / "scene.h5", remedy.method
    kinds = {"detector": grid.detectors, "filter": grid.filters}
    judges = [
        (kind, m)
        for kind, methods in kinds.items()
        if mitigation.reads(kind)
        for m in methods
        if remedy.takes(kind, m)
    ]
    for kind, judge in [*judges] or none:
        asks = mitigation.reads("influence") or (judge is not None and judge.reads("influence"))
        if asks != (estimator is not None) or (
            estimator is not None and not remedy.takes("estimator", estimator)
        ):
            continue
        needs = [root, *([place.influence(scene, estimator)] if estimator else [])]
        parts: list[tuple[str, Method | None]] = [("estimator", estimator)]
        if judge is not None:
            used = estimator if judge.reads("influence") else None
            where = (
                place.filter(scene, used, judge)
                if kind == "filter"
                else place.detect(scene, used, judge, grid.alarm)
            )
            needs.append(where)
            parts.append((kind, judge))
        methods = (*parts, ("mitigation", mitigation))
        yield Stage(place.mitigate(scene, methods, grid.alarm), "mitigate", methods, tuple(needs))
