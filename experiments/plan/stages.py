"""What there is to do: the cells of a grid, a file each, in an order in which they can be done."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.plan.checks.fit import check_fit
from experiments.plan.kind import Kind
from experiments.plan.kinds import APPLIED, DETECT, FILTER, kind_named
from experiments.plan.outside import data_facts
from experiments.plan.paths import Methods, Place, SceneLike
from experiments.plan.spec import Applied, Grid, Method

VERDICTS = (DETECT, FILTER)  # kinds on whose verdicts others work


@dataclass(frozen=True)
class Stage:
    """A cell of the grid.

    Attributes:
        path: the file in which it ends.
        kind: the name of a row of `KINDS`.
        methods: part -> method, in the order of the log: estimator, then the detector or filter on
            whose verdict it works, then its own.
        needs: the files that it reads; it is not begun while one of them stands for a failure or
            waits for one.
    """

    path: Path
    kind: str
    methods: Methods = ()
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

    scene: SceneLike
    place: Place
    stages: tuple[Stage, ...]
    alarm: float
    threads: int

    @property
    def open(self) -> tuple[Stage, ...]:
        """The stages still to do, without those that need a failed one, directly or not."""
        lost: set[Path] = set()
        for stage in self.stages:
            if stage.failure.exists() or not lost.isdisjoint(stage.needs):
                lost.add(stage.path)
        return tuple(
            s for s in self.stages if s.path not in lost and not s.path.exists()
        )


def logged_config(job: Job, stage: Stage) -> dict[str, object]:
    """Returns the configuration that the log of a stage holds."""
    scene = job.scene.config
    if stage.kind == "scene":
        return scene
    config: dict[str, object] = {"scene": scene, **stage.config}
    if kind_named(stage.kind).alarm:
        config["alarm"] = job.alarm
    return config


def jobs(grid: Grid, place: Place, threads: int) -> list[Job]:
    """Returns a job for each scene, its stages in the order in which they can be done."""
    return [
        Job(scene, place, tuple(stages_of(grid, scene, place)), grid.alarm, threads)
        for scene in grid.scenes
    ]


def with_data_digests(grid: Grid, place: Place) -> Grid:
    """Returns the grid with the sha256 of each data set from outside the package, which is loaded.

    Raises:
        DataError: it is not there, or not of the form that the library works with.
        ConfigError: a method or a model of the grid does not take its kind of data.
    """
    facts = {}
    for spec in dict.fromkeys(scene.dataset for scene in grid.scenes):
        facts[spec.name] = data_facts(spec.name, place.root, place.download)
    check_fit(grid, {name: found.kind for name, found in facts.items()})
    scenes = []
    for scene in grid.scenes:
        digest = facts[scene.dataset.name].sha256
        dataset = replace(scene.dataset, sha256=digest)
        scenes.append(replace(scene, dataset=dataset))
    return replace(grid, scenes=tuple(scenes))


def stages_of(grid: Grid, scene: SceneLike, place: Place) -> Iterator[Stage]:
    """Yields the stages of a scene, those that others need before them."""
    scene_file = place.scene(scene) / "scene.h5"
    yield Stage(scene_file, "scene")
    for estimator in (None, *grid.methods("estimator")):
        if estimator is not None:
            path = place.influence(scene, estimator)
            yield Stage(path, "influence", (("estimator", estimator),), (scene_file,))
        cells = _Cells(grid, scene, place, estimator)
        for kind in APPLIED:
            for applied in grid.of(kind.part):
                yield from cells.of(kind, applied)


@dataclass(frozen=True)
class _Cells:
    """The cells of a scene with one estimator, or without."""

    grid: Grid
    scene: SceneLike
    place: Place
    estimator: Method | None

    def of(self, kind: Kind, applied: Applied) -> Iterator[Stage]:
        """Those of one method: one, or one for each verdict on which it works."""
        if not applied.takes("attack", self.scene.attack):
            return
        reads_verdict = any(applied.method.reads(verdict.part) for verdict in VERDICTS)
        if kind.judged and reads_verdict:
            yield from self._of_verdicts(kind, applied)
        elif self._fits(kind, applied, None):
            yield self._stage(kind, applied.method)

    def _of_verdicts(self, kind: Kind, applied: Applied) -> Iterator[Stage]:
        """Those of a method for each verdict on which it works."""
        for verdict, judge in self._verdicts(applied):
            if self._fits(kind, applied, judge):
                yield self._stage(kind, applied.method, verdict, judge)

    def _verdicts(self, applied: Applied) -> Iterator[tuple[Kind, Method]]:
        """The detectors and filters of the grid on whose verdicts a method works."""
        for verdict in VERDICTS:
            if applied.method.reads(verdict.part):
                for judge in self.grid.of(verdict.part):
                    if not judge.takes("attack", self.scene.attack):
                        continue
                    if applied.takes(verdict.part, judge.method):
                        yield verdict, judge.method

    def _fits(self, kind: Kind, applied: Applied, judge: Method | None) -> bool:
        """Whether the method is combined with this estimator, or with none."""
        reads = applied.method.reads("influence")
        if judge is not None:
            reads = reads or judge.reads("influence")
        wanted = kind.estimators == "each" or (kind.estimators == "if read" and reads)
        if self.estimator is None:
            return not wanted
        return wanted and applied.takes("estimator", self.estimator)

    def _stage(
        self,
        kind: Kind,
        method: Method,
        verdict: Kind | None = None,
        judge: Method | None = None,
    ) -> Stage:
        methods: Methods = ()
        needs = [self.place.scene(self.scene) / "scene.h5"]
        if kind.estimators != "none":
            methods = (("estimator", self.estimator),)
        if kind.estimators == "if read" and self.estimator is not None:
            needs.append(self.place.influence(self.scene, self.estimator))
        if verdict is not None and judge is not None:
            methods = (*methods, (verdict.part, judge))
            needs.append(self._verdict_file(verdict, judge))
        methods = (*methods, (kind.part, method))
        path = self.place.stage(self.scene, kind, methods, self.grid.alarm)
        return Stage(path, kind.name, methods, tuple(needs))

    def _verdict_file(self, verdict: Kind, judge: Method) -> Path:
        estimator = self.estimator if judge.reads("influence") else None
        methods = (("estimator", estimator), (verdict.part, judge))
        return self.place.stage(self.scene, verdict, methods, self.grid.alarm)
