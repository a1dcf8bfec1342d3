"""Filters and mitigations outside the tree, named `toy_defense:...` in a grid.

Among them those that misbehave.
"""

import os
import sys
from dataclasses import dataclass
from typing import ClassVar

import torch

from poisonbench.contracts.values import Evidence, Means, Mitigated
from poisonbench.notes import note
from poisonbench.training.trace import Trace


@dataclass(frozen=True)
class ByLabel:
    uses: ClassVar[tuple[str, ...]] = ()
    label: int = 0

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.role is None, (
            "the ground truth reached a filter that does not declare it"
        )
        return (evidence.trace.train.y == self.label).double()


@dataclass(frozen=True)
class ByTruth:
    uses: ClassVar[tuple[str, ...]] = ("oracle",)

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.role is not None
        return (evidence.role == 1).double()


@dataclass(frozen=True)
class RareWords:
    """A detector of sentences alone: how seldom the training set has the rarest word."""

    kinds: ClassVar[tuple[str, ...]] = ("tokens",)
    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        train = evidence.trace.train
        counts = train.x.flatten().bincount(minlength=len(train.vocabulary))
        return -counts[evidence.test.x].amin(1).double()


@dataclass(frozen=True)
class ByInfluence:
    uses: ClassVar[tuple[str, ...]] = ("influence",)

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.influence is not None
        return evidence.influence.sum(0)


@dataclass(frozen=True)
class NotesDevices:
    """A detector that notes which GPU it sees, and its process."""

    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        note("visible", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
        note("process", os.getpid())
        return torch.zeros(len(evidence.test)).double()


@dataclass(frozen=True)
class Raises(ByLabel):
    def __call__(self, evidence: Evidence) -> torch.Tensor:
        raise RuntimeError("this filter always breaks")


@dataclass(frozen=True)
class Short(ByLabel):
    def __call__(self, evidence: Evidence) -> torch.Tensor:
        return torch.zeros(3)


@dataclass(frozen=True)
class KeepsAll:
    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        assert evidence.role is None
        assert evidence.influence is None
        return Mitigated(
            torch.ones(len(evidence.trace.train), dtype=torch.bool), evidence.trace, 0
        )


@dataclass(frozen=True)
class NotesKnown(KeepsAll):
    """Notes how many points it is told are clean."""

    uses: ClassVar[tuple[str, ...]] = ("reference",)

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        assert means.known is not None
        note("known", int(means.known.sum()))
        note("points", len(means.known))
        return super().__call__(evidence, means)


@dataclass(frozen=True)
class NotesUntold(KeepsAll):
    """Notes whether it is told of clean points without asking."""

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        note("told", int(means.known is not None))
        return super().__call__(evidence, means)


@dataclass(frozen=True)
class NotesAlarm:
    """A mitigation that notes what share of clean points its detector may flag."""

    uses: ClassVar[tuple[str, ...]] = ("influence", "detector")

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        assert means.flags is not None
        note("alarm_told", means.alarm)
        everything = torch.ones(len(evidence.trace.train), dtype=torch.bool)
        return Mitigated(everything, evidence.trace, 0)


@dataclass(frozen=True)
class Lies(KeepsAll):
    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        return Mitigated(
            torch.zeros(len(evidence.trace.train), dtype=torch.bool), evidence.trace, 0
        )


@dataclass(frozen=True)
class RetrainsOnHalves(KeepsAll):
    """Four runs, and time to be killed between them."""

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        rows = torch.arange(len(evidence.trace.train))
        for part in range(4):
            keep = rows % 4 != part
            trace = means.retrain(keep)
        return Mitigated(keep, trace, 4)


@dataclass(frozen=True)
class RetrainsMirrored:
    """A detector that learns: it trains on rows in reverse, and asks that run for its losses."""

    uses: ClassVar[tuple[str, ...]] = ("influence", "reference", "retraining")
    shift: float = 0.0

    def fit(self, evidence: Evidence) -> "Mirrored":
        assert evidence.means is not None
        rows = evidence.trace.train
        order = torch.arange(len(rows)).flip(0)
        trace = evidence.means.train(rows.take(order))
        again = evidence.means.train(rows.take(order))
        assert states_equal(trace, again)
        return Mirrored(trace, self.shift)

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        return self.fit(evidence)(evidence)


@dataclass(frozen=True, eq=False)
class Mirrored:
    """What it has learned."""

    trace: Trace
    shift: float
    uses: ClassVar[tuple[str, ...]] = ("influence", "reference", "retraining")

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.means is not None
        assert evidence.means.influence is not None
        influence = evidence.means.influence(self.trace, evidence.test)
        return influence.double().amax(1) + self.shift


@dataclass(frozen=True)
class MeansThere:
    """A detector that says whether it is given means."""

    uses: ClassVar[tuple[str, ...]] = ("retraining",)

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        given = float(evidence.means is not None)
        return torch.full((len(evidence.test),), given)


@dataclass(frozen=True)
class MeansHidden(MeansThere):
    """The same, without declaring that it trains again."""

    uses: ClassVar[tuple[str, ...]] = ()


def states_equal(a: Trace, b: Trace) -> bool:
    """Whether two runs end in the same model, bit for bit."""
    states = [run.checkpoints[-1].state for run in (a, b)]
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def _spoil_instances(evidence: Evidence) -> None:
    evidence.trace.train.x.zero_()


def _spoil_hidden(evidence: Evidence) -> None:
    evidence.test.x.data[0] = 7.0  # no version counter sees it


def _spoil_numpy(evidence: Evidence) -> None:
    evidence.trace.train.y.numpy()[:] = 0


def _spoil_checkpoint(evidence: Evidence) -> None:
    state = evidence.trace.checkpoints[-1].state
    state["head.weight"].mul_(2)


def _replace_parameter(evidence: Evidence) -> None:
    state = evidence.trace.checkpoints[0].state
    state["head.bias"] = torch.ones_like(state["head.bias"])


def _switch_off_gradients(evidence: Evidence) -> None:
    torch.set_grad_enabled(False)


def _go_elsewhere(evidence: Evidence) -> None:
    os.chdir("/")


def _unset_variable(evidence: Evidence) -> None:
    os.environ.pop("PATH")


def _take_threads(evidence: Evidence) -> None:
    torch.set_num_threads(torch.get_num_threads() + 1)


def _draw(evidence: Evidence) -> None:
    torch.rand(1)


def _leave(evidence: Evidence) -> None:
    sys.exit(3)


def _interrupt(evidence: Evidence) -> None:
    raise KeyboardInterrupt


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def _raise_unprintable(evidence: Evidence) -> None:
    raise UnprintableError


MISCHIEF = {
    "instances": (_spoil_instances, "victim.trace.train.x"),
    "hidden": (_spoil_hidden, "victim.probe.points.x"),
    "numpy": (_spoil_numpy, "victim.trace.train.y"),
    "checkpoint": (_spoil_checkpoint, "head.weight"),
    "parameter": (_replace_parameter, "checkpoints[0].state['head.bias']"),
    "gradients": (_switch_off_gradients, "torch's gradient mode"),
    "folder": (_go_elsewhere, "the working directory"),
    "environment": (_unset_variable, "the environment"),
    "threads": (_take_threads, "torch's number of threads"),
    "draws": (_draw, "torch's generator"),
    "exit": (_leave, "SystemExit: 3"),
    "interrupt": (_interrupt, "KeyboardInterrupt"),
    "unprintable": (_raise_unprintable, "UnprintableError, whose text cannot be made"),
}


@dataclass(frozen=True)
class Mischievous:
    """A detector that does one of `MISCHIEF`, and then its work."""

    uses: ClassVar[tuple[str, ...]] = ("influence",)
    what: str = "instances"

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.influence is not None
        scores = evidence.influence.double().amax(1)
        act, _ = MISCHIEF[self.what]
        act(evidence)
        return scores


@dataclass(frozen=True)
class Overwrites:
    """A detector that uses its influence as working memory."""

    uses: ClassVar[tuple[str, ...]] = ("influence", "reference", "oracle")

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        scores = torch.rand(len(evidence.test), generator=torch.Generator())
        for given in (evidence.influence, evidence.trusted, evidence.role):
            assert given is not None
            given.zero_()
        return scores
