"""A stage about to be done: the methods it applies, and all that it may read."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from experiments.plan.paths import Place, SceneLike
from experiments.plan.spec import Method
from experiments.plan.stages import Stage
from experiments.scene.cost import Cost
from experiments.scene.kinds.retraining import Retrainer, means_of
from experiments.scene.victim import Victim
from poisonbench import log
from poisonbench.contracts.calibration import reference_of
from poisonbench.contracts.scope import per_cosine
from poisonbench.contracts.untouched import Untouched
from poisonbench.contracts.values import Evidence, Means
from poisonbench.log import names
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
        untouched: the victim and the state of the process, as they were before the stage.
    """

    scene: SceneLike
    place: Place
    stage: Stage
    victim: Victim
    kept: dict[Method, Tensor]
    alarm: float
    untouched: Untouched

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
        return self.place.scratch(self.scene) / self.stage.path.stem

    @cached_property
    def retrainer(self) -> Retrainer:
        """Trains the victim again; its runs are shared by the stages of the scene."""
        return Retrainer(self.victim.trace, self.place.runs(self.scene))

    def influence(self) -> Tensor | None:
        """The influence (m, n) of the stage's estimator, on the CPU; None without one."""
        estimator = dict(self.stage.methods).get("estimator")
        if estimator is None:
            return None
        if estimator not in self.kept:
            record = log.read(self.place.influence(self.scene, estimator), "influence")
            self.kept.clear()
            self.kept[estimator] = torch.as_tensor(record.data[names.INFLUENCE])
        return self.kept[estimator]

    def trusted(self, method: Method) -> Tensor:
        """The probe points (m,) bool on the CPU that `method` may know to be clean.

        None, or the first half of the calibration points: they were drawn at random, so any half
        will do; the other half sets a detector's threshold.
        """
        calibration = self.victim.probe.group == CALIBRATION
        return reference_of(method.value, calibration)

    def evidence(self, method: Method) -> Evidence:
        """What `method` may see: of all there is only what it declares to use.

        Influence, trusted points and ground truth are copies of its own.
        """
        influence = self.influence() if method.reads("influence") else None
        cosine = self._per_cosine() if influence is not None else None
        trusted = self.trusted(method) if method.reads("reference") else None
        role = self.victim.role if method.reads("oracle") else None
        return Evidence(
            trace=self.victim.trace,
            test=self.victim.test,
            influence=self._placed(influence),
            trusted=self._placed(trusted),
            role=self._placed(role),
            means=self._means(method),
            per_cosine=cosine,
        )

    def _per_cosine(self) -> float | None:
        """What a cosine counts in the influence, see `Evidence`."""
        estimator = self.method("estimator")
        return per_cosine(estimator.value, self.victim.trace)

    def _means(self, method: Method) -> Means | None:
        """What `method` trains again with, if it declares that; None of a run without a recipe.

        Mitigations, which always train again, are given their means beside the evidence.
        """
        if not method.reads("retraining") or self.victim.trace.recipe is None:
            return None
        return means_of(self.retrainer, dict(self.stage.methods).get("estimator"))

    def _placed(self, tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return tensor.to(self.device, copy=True)

    def write(
        self,
        data: Mapping[str, Tensor],
        about: Mapping[str, float | str],
        told: Notes,
        **config: float,
    ) -> None:
        """Writes the file in which the stage ends, and removes its restart blocks.

        Raises:
            ChangedError: the stage's methods changed what they may only read; nothing is written.
        """
        self.untouched.check()
        attributes = {
            **{f"note_{name}": value for name, value in told.figures.items()},
            **about,
            "device": str(self.device),
            "seed": self.scene.seed,
        }
        log.write(
            self.stage.path,
            self.stage.kind,
            config={"scene": self.scene.config, **self.stage.config, **config},
            data={**told.arrays, **data},
            attributes=attributes,
        )
        shutil.rmtree(self.scratch, ignore_errors=True)


def about_run(
    method: Method, cost: Cost, warnings: list[str]
) -> dict[str, float | str]:
    """Returns the attributes that tell how a method ran and what it took beyond the victim."""
    return {
        "seconds": cost.seconds,
        "peak_bytes": cost.peak_bytes,
        "uses": ",".join(method.value.uses),
        "warnings": "\n".join(warnings),
    }


def check_shape(
    method: Method, what: str, value: Tensor, want: tuple[int, ...], letters: str
) -> None:
    """Checks the shape of what a method returned.

    Args:
        method: that returned it.
        what: how a message calls it.
        value: the tensor.
        want: its shape.
        letters: the shape in letters, such as "(m, n)".

    Raises:
        ValueError: it is not of that shape.
    """
    if tuple(value.shape) != want:
        told = f"({want[0]},)" if len(want) == 1 else str(want)
        got = tuple(value.shape)
        raise ValueError(
            f"{method.name} returned {what} of shape {got}, not {letters} = {told}"
        )
