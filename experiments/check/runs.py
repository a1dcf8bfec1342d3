"""An attack under test and its runs, each done once."""

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil

import torch
from torch import Tensor

from experiments.check.method import Subject
from experiments.check.verdict import skip
from poisonbench.contracts.attack_rules import attempt, broken_rules
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, subset
from poisonbench.errors import ConfigError, PoisonError
from poisonbench.training import Recipe

ENLARGED_BELOW = 28  # pixels a side: images on which some attacks refuse to work
ROWS = 300  # training rows of the small data on which the contract is checked
POINTS = 100  # and its test rows
# of surrogates, where only the form matters
QUICK = Recipe(model="mlp", epochs=4, batch_size=32, lr=0.1)
QUICK_TEXT = Recipe(model="text-cnn", epochs=1, batch_size=32, lr=0.1)
# of the victim, by the kind of data: a few seconds, and of ordinary accuracy
VICTIMS = {
    "image": Recipe(model="cnn", epochs=20, batch_size=64, lr=0.1),
    "spectrogram": Recipe(model="cnn", epochs=10, batch_size=32, lr=0.03),
    "vector": Recipe(model="mlp", epochs=5, batch_size=128, lr=0.05),
    "tokens": Recipe(
        model="text-cnn", epochs=4, batch_size=64, lr=0.002, optimizer="adamw"
    ),
}
LEAST_STEPS = 200  # of the victim's training, on data sets of few rows
# rules of which none is judged after one of an earlier stage that is broken
STAGES = (
    ("type",),
    ("shape", "dtype", "kind"),
    ("finite", "range", "padding", "label", "role", "origin"),
)


@dataclass(frozen=True, eq=False)
class Run:
    """One call of the attack.

    Attributes:
        returned: what it returned.
        faults: the rules that it broke.
        seconds: that it took.
        error: that it raised, instead of all this.
    """

    returned: object
    faults: list[PoisonError]
    seconds: float
    error: Exception | None = None


@dataclass(frozen=True)
class AttackSubject(Subject):
    """An attack, the data on which it is checked, and its runs, each done once.

    Attributes:
        data: whole training and test set.
        model: of the victim; None: what is usual for the kind of data.
        victim: whether to train one.
        runs: done so far.
    """

    data: tuple[Dataset, Dataset]
    model: str | None = None
    victim: bool = True
    runs: dict[tuple[int, str, torch.dtype], Run] = field(
        default_factory=dict, repr=False
    )

    @property
    def recipe(self) -> Recipe:
        """The victim's."""
        clean = self.data[0]
        usual = VICTIMS[str(clean.kind)]
        needed = ceil(LEAST_STEPS * usual.batch_size / len(clean))
        epochs = max(usual.epochs, needed)
        return replace(usual, model=self.model or usual.model, epochs=epochs)

    @cached_property
    def small(self) -> tuple[Dataset, Dataset]:
        """300 training and 100 test rows."""
        whole, test = self.data
        rows = subset(whole, min(ROWS, len(whole)), 0)
        points = subset(test, min(POINTS, len(test)), 0)
        return rows, points

    def run(
        self, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Run:
        """Returns the run of this seed on the small data, in this place and type."""
        key = seed, device, dtype
        if key not in self.runs:
            clean, test = self.small
            clean = clean.to(device, dtype)
            test = test.to(device, dtype)
            self.runs[key] = self.once(clean, test, seed)
        return self.runs[key]

    def once(self, clean: Dataset, test: Dataset, seed: int) -> Run:
        """Returns a run that is not kept."""
        quick = QUICK_TEXT if clean.kind == "tokens" else QUICK
        start = time.perf_counter()
        try:
            returned, faults = attempt(self.value, clean, test, quick, seed)
        except Exception as error:  # an attack may raise anything
            return Run(None, [], 0.0, error)
        seconds = time.perf_counter() - start
        if isinstance(returned, Poisoned):
            moved = returned.to(clean.x.device)
            faults += broken_rules(moved, clean, test, self.value)
        return Run(returned, faults, seconds)

    def poisoned(
        self, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Poisoned:
        """Returns what the attack returned in that run.

        Raises:
            FindingError: a skip, where it returned no Poisoned of the right form.
        """
        run = self.run(seed, device, dtype)
        if run.error is not None:
            raise skip("it does not run")
        malformed = any(fault.rule in STAGES[1] for fault in run.faults)
        if malformed or not isinstance(run.returned, Poisoned):
            raise skip("it does not return a Poisoned of the right form")
        return run.returned


def enlarged(data: Dataset) -> Dataset:
    """Returns images at four times the size, pixel by pixel: for attacks that refuse small ones."""
    x = data.x.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return data.rows(x, data.y)


def large_enough(subject: AttackSubject) -> AttackSubject:
    """Returns the subject on enlarged images, where it refuses small ones and takes these."""
    clean, test = subject.data
    if len(clean.shape) != 3 or max(clean.shape[1:]) >= ENLARGED_BELOW:
        return subject
    if not isinstance(subject.run().error, ConfigError):
        return subject
    larger = replace(subject, data=(enlarged(clean), enlarged(test)), runs={})
    return subject if larger.run().error else larger


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
    for one, other in zip(tensors(a), tensors(b), strict=True):
        if one.dtype != other.dtype or not torch.equal(one, other):
            return False
    return True
