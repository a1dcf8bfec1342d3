"""A stage about to be done: the methods it applies, and all that it may read."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from experiments.plan.paths import Place
from experiments.plan.spec import Method, Scene
from experiments.plan.stages import Stage
from experiments.scene.cost import Cost
from experiments.scene.victim import Victim
from poisonbench import log
from poisonbench.contracts.values import Evidence
from poisonbench.notes import Notes
from poisonbench.roles import CALIBRATION


@dataclass(frozen=True, eq=False)
class Cell:
    """A stage about to be done, with all that it may read.

    Attributes:
        scene: of which it is a part.
        place: where the scene lies.
        stage: what is to be done, and with which methods.
        victim: the scene's training run, probe and ground truth.
        kept: the influence matrix read or made last, by estimator; one at a time.
        alarm: share of the calibration points that a detector may flag.
    """

    scene: Scene
    place: Place
    stage: Stage
    victim: Victim
    kept: dict[Method, Tensor]
    alarm: float

    def method(self, part: str) -> Method:
        """The method of a part that the stage must have."""
        found = dict(self.stage.methods)[part]
        assert found is not None, part
        return found

    @property
    def device(self) -> torch.device:
        """Where the victim was trained."""
        return self.victim.trace.train.x.device

    @property
    def scratch(self) -> Path:
        """Folder for the restart blocks of this stage."""
        return self.place.scene(self.scene) / "scratch" / self.stage.path.stem

    def influence(self) -> Tensor | None:
        """The influence (m, n) of the stage's estimator, on the CPU; None without one."""
        estimator = dict(self.stage.methods).get("estimator")
        if estimator is None:
            return None
        if estimator not in self.kept:
            record = log.read(self.place.influence(self.scene, estimator), "influence")
            self.kept.clear()
            self.kept[estimator] = torch.as_tensor(record.data["influence"])
        return self.kept[estimator]

    def trusted(self, method: Method) -> Tensor:
        """The probe points (m,) bool on the CPU that `method` may know to be clean: none, or the first half of the calibration.

        The calibration points were drawn at random, so any half will do; the other sets a detector's threshold.
        """
        calibration = self.victim.probe.group == CALIBRATION
        return (
            calibration
            & (calibration.cumsum(0) <= int(calibration.sum()) // 2)
            & method.reads("reference")
        )

    def evidence(self, method: Method) -> Evidence:
        """What `method` may see: points known to be clean and the ground truth only if it declares their use."""
        victim, influence = self.victim, self.influence() if method.reads("influence") else None
        return Evidence(
            victim.trace,
            victim.test,
            None if influence is None else influence.to(self.device),
            self.trusted(method).to(self.device) if method.reads("reference") else None,
            victim.role.to(self.device) if method.reads("oracle") else None,
        )

    def write(
        self,
        data: Mapping[str, Tensor],
        about: Mapping[str, float | str],
        told: Notes,
        **config: float,
    ) -> None:
        """Writes the file in which the stage ends, and removes the restart blocks that led to it."""
        attributes = {f"note_{k}": v for k, v in told.figures.items()} | {
            **about,
            "device": str(self.device),
        }
        log.write(
            self.stage.path,
            self.stage.kind,
            config={"scene": self.scene.config, **self.stage.config, **config},
            data={**told.arrays, **data},
            attributes={**attributes, "seed": self.scene.seed},
        )
        shutil.rmtree(self.scratch, ignore_errors=True)


def about_run(method: Method, cost: Cost, notes: list[str]) -> dict[str, float | str]:
    """Returns the attributes that tell how a defense ran and what it took beyond the victim."""
    return {
        "seconds": cost.seconds,
        "uses": ",".join(method.value.uses),
        "warnings": "\n".join(notes),
    }


def check_shape(
    method: Method, what: str, value: Tensor, want: tuple[int, ...], letters: str
) -> None:
    """Raises ValueError where what a method returned is not of the shape `want`, which `letters` name."""
    if tuple(value.shape) != want:
        told = f"({want[0]},)" if len(want) == 1 else str(want)
        raise ValueError(
            f"{method.name} returned {what} of shape {tuple(value.shape)}, not {letters} = {told}"
        )
