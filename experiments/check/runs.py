"""An attack under test and its runs, each done once."""

import time
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from experiments.check.method import Subject
from experiments.check.verdict import skip
from poisonbench.contracts.attack_rules import attempt, broken_rules
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, subset
from poisonbench.errors import PoisonError
from poisonbench.training import Recipe

ROWS, POINTS = 300, 100  # of the small data on which the contract is checked
QUICK = Recipe(
    model="mlp", epochs=4, batch_size=32, lr=0.1
)  # of surrogates, where only the form matters
STAGES = (
    ("type",),
    ("shape", "dtype"),
    ("finite", "range", "label", "role", "origin"),
)  # none is judged after one broken before


@dataclass(frozen=True, eq=False)
class Run:
    """One call of the attack: what it returned, the rules that it broke, the seconds it took, or the error that it raised."""

    returned: object
    faults: list[PoisonError]
    seconds: float
    error: Exception | None = None


@dataclass(frozen=True)
class AttackSubject(Subject):
    """An attack, the data on which it is checked, and its runs, each done once.

    Attributes:
        data: whole training and test set.
        model: of the victim.
        victim: whether to train one.
        runs: done so far.
    """

    data: tuple[Dataset, Dataset]
    model: str = "cnn"
    victim: bool = True
    runs: dict[tuple[int, str, torch.dtype], Run] = field(default_factory=dict, repr=False)

    @cached_property
    def small(self) -> tuple[Dataset, Dataset]:
        """300 training and 100 test rows."""
        whole, test = self.data
        return subset(whole, min(ROWS, len(whole)), 0), subset(test, min(POINTS, len(test)), 0)

    def run(self, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Run:
        """Returns the run of this seed on the small data, in this place and type."""
        key = seed, device, dtype
        if key not in self.runs:
            clean, test = (part.to(device, dtype) for part in self.small)
            self.runs[key] = self.once(clean, test, seed)
        return self.runs[key]

    def once(self, clean: Dataset, test: Dataset, seed: int) -> Run:
        """Returns a run that is not kept."""
        start = time.perf_counter()
        try:
            returned, faults = attempt(self.value, clean, test, QUICK, seed)
        except Exception as error:  # an attack may raise anything
            return Run(None, [], 0.0, error)
        seconds = time.perf_counter() - start
        if isinstance(returned, Poisoned):
            faults += broken_rules(returned.to(clean.x.device), clean, test, self.value)
        return Run(returned, faults, seconds)

    def poisoned(
        self, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Poisoned:
        """Returns what the attack returned in that run; a `FindingError` that skips where there is no such thing."""
        run = self.run(seed, device, dtype)
        if run.error is not None:
            raise skip("it does not run")
        if not isinstance(run.returned, Poisoned) or any(f.rule in STAGES[1] for f in run.faults):
            raise skip("it does not return a Poisoned of the right form")
        return run.returned


def enlarged(data: Dataset) -> Dataset:
    """Returns images at four times the size, pixel by pixel: for attacks that refuse small ones."""
    return Dataset(data.x.repeat_interleave(4, 2).repeat_interleave(4, 3), data.y, data.classes)


def tensors(p: Poisoned) -> list[Tensor]:
    """Returns every tensor of a poisoning."""
    return [
        p.train.x,
        p.train.y,
        p.role,
        p.origin,
        p.targets.x,
        p.targets.y,
        p.wanted,
        p.target_origin,
    ]


def same(a: Poisoned, b: Poisoned) -> bool:
    """Whether two poisonings agree bit for bit."""
    return all(
        x.dtype == y.dtype and torch.equal(x, y)
        for x, y in zip(tensors(a), tensors(b), strict=True)
    )
