"""The checks of an attack: its contract rule by rule, what a run of a grid needs of it, and whether a victim falls for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from experiments.check.method import METHOD, Subject
from experiments.check.verdict import Check, FindingError, require, skip
from experiments.metrics import wilson
from poisonbench.blind import share_seen
from poisonbench.contracts import COVER, POISON, RULES, Poisoned, attempt, broken_rules, count
from poisonbench.data import Dataset, subset
from poisonbench.errors import ConfigError, PoisonError
from poisonbench.training import Recipe, predict, train

ROWS, POINTS = 300, 100  # of the small data on which the contract is checked
SLOW = 30.0  # seconds on the small data
QUICK = Recipe(model="mlp", epochs=4, batch_size=32, lr=0.1)  # of surrogates, where only the form matters
VICTIM = Recipe(epochs=20, batch_size=64, lr=0.1)
STAGES = (("type",), ("shape", "dtype"), ("finite", "range", "label", "role", "origin"))  # none is judged after one broken before


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

    def poisoned(self, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Poisoned:
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
    return [p.train.x, p.train.y, p.role, p.origin, p.targets.x, p.targets.y, p.wanted, p.target_origin]


def same(a: Poisoned, b: Poisoned) -> bool:
    """Whether two poisonings agree bit for bit."""
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def _runs(s: AttackSubject) -> str:
    run = s.run()
    if run.error is not None:
        hint = " (name other data: --dataset)" if isinstance(run.error, ConfigError) else ""
        told = str(run.error) or "no message"
        require(False, f"raised {type(run.error).__name__}: {' '.join(told.split())}{hint}")
    clean, test = s.small
    return f"{len(clean)} training and {len(test)} test rows of {'x'.join(map(str, clean.shape))}"


def _rule(s: AttackSubject, rule: str) -> str:
    run = s.run()
    if run.error is not None:
        raise skip("it does not run")
    found = [fault.message.removeprefix(f"{rule}: ") for fault in run.faults if fault.rule == rule]
    require(not found, "; ".join(found))
    for stage in STAGES:
        earlier = [fault.rule for fault in run.faults if fault.rule in stage]
        if earlier and rule not in stage and rule in list(RULES)[list(RULES).index(stage[-1]) :]:
            raise skip(f"not judged after {earlier[0]}")
    return TOLD[rule](s, run.returned) if rule in TOLD and isinstance(run.returned, Poisoned) else ""


def _spent(s: AttackSubject, p: Poisoned) -> str:
    budget, n = getattr(s.value, "budget", None), len(s.small[0])
    poison, gone = int((p.role == POISON).sum()), n - int((p.origin >= 0).sum())
    if budget is None:
        if poison + gone:
            raise FindingError("warn", f"{poison} poison rows and no field `budget`: nothing holds it to a number")
        raise skip("no field `budget`, no poison rows")
    return f"{poison} poison rows{f' and {gone} deleted' * bool(gone)} of {n}, {count(budget, n)} paid for by budget {budget:g}"


def _covered(_: AttackSubject, p: Poisoned) -> str:
    if not (cover := int((p.role == COVER).sum())):
        raise skip("no cover rows")
    return f"{cover} cover rows"


def _kept(s: AttackSubject, p: Poisoned) -> str:
    if not getattr(s.value, "clean_label", False):
        raise skip("it does not declare `clean_label = True`")
    return f"{int((p.role == POISON).sum())} poison rows with the labels that they had"


def _near(s: AttackSubject, _: Poisoned) -> str:
    if getattr(s.value, "eps", None) is None:
        raise skip("no field `eps`")
    return f"within {s.value.eps:g}" + " outside the pixels of the trigger" * hasattr(s.value, "covered")


def _aimed(_: AttackSubject, p: Poisoned) -> str:
    if not len(p.targets):
        raise skip("no attacked test points: an indiscriminate attack")
    return f"{len(p.targets)} attacked test points"


TOLD: dict[str, Callable[[AttackSubject, Poisoned], str]] = {
    "budget": _spent,
    "cover": _covered,
    "clean-label": _kept,
    "eps": _near,
    "true-label": _aimed,
    "wanted": _aimed,
}


def _deterministic(s: AttackSubject) -> str:
    first = s.poisoned()
    again = s.once(*s.small, 0)
    require(isinstance(again.returned, Poisoned) and same(first, again.returned), "two calls with seed 0 differ")
    return "two calls with seed 0 agree bit for bit"


def _seeded(s: AttackSubject) -> str:
    if not getattr(s.value, "seeded", True):
        raise skip("it declares `seeded = False`")
    if same(s.poisoned(), s.poisoned(1)):
        raise FindingError("warn", "seeds 0 and 1 give equal poison: declare `seeded = False` if it draws nothing")
    return "seeds 0 and 1 give different poison"


def _elsewhere(s: AttackSubject, **where: Any) -> None:
    """Requires that no rule is broken there that is kept in float32 on the CPU."""
    s.poisoned()
    run, known = s.run(**where), {fault.rule for fault in s.run().faults}
    require(run.error is None, f"raised {type(run.error).__name__}: {run.error}")
    new = [fault.message for fault in run.faults if fault.rule not in known]
    require(not new, "; ".join(new))


def _wide(s: AttackSubject) -> str:
    _elsewhere(s, dtype=torch.float64)
    return "the contract is kept in float64 as in float32"


def _cuda(s: AttackSubject) -> str:
    if not torch.cuda.is_available():
        raise skip("no CUDA device here")
    _elsewhere(s, device="cuda")
    away = {str(t.device) for t in tensors(s.poisoned(device="cuda")) if not t.is_cuda}
    require(not away, f"it returns tensors on {', '.join(away)} for data on cuda")
    return "it works where the data lies"


def _apart(s: AttackSubject) -> str:
    clean, test = s.small
    returned = s.run().returned
    if not isinstance(returned, Poisoned):
        raise skip("it does not return a Poisoned")
    given = {t.untyped_storage().data_ptr() for t in (clean.x, clean.y, test.x, test.y)}
    shared = [t for t in tensors(returned) if t.numel() and t.untyped_storage().data_ptr() in given]
    require(not shared, f"{len(shared)} of its tensors are views of the clean data: whoever changes one changes both")
    return "no tensor is a view of the clean data"


def _one_trigger(s: AttackSubject) -> str:
    if not hasattr(s.value, "trigger"):
        raise skip("it has no method `trigger`")
    p, (clean, test) = s.poisoned(), s.small
    if any(fault.rule == "origin" for fault in s.run().faults):
        raise skip("not judged after origin")
    known, rows = p.target_origin >= 0, (p.role == POISON) & (p.origin >= 0)
    shown = s.value.trigger(test.x[p.target_origin[known]], seed=0)
    require(
        torch.equal(p.targets.x[known], shown), "the attacked points are not trigger(x, seed) of the test rows they come from"
    )
    laid = s.value.trigger(clean.x[p.origin[rows]], seed=0)
    differs = p.train.x[rows] != laid
    if hasattr(s.value, "covered"):
        differs &= s.value.covered(laid.shape)
    elif hasattr(s.value, "masks") or hasattr(s.value, "eps"):
        return f"{len(shown)} attacked points show it; poison rows show a part of it or none, as the attack declares"
    wrong = int(differs.flatten(1).any(1).sum())
    require(not wrong, f"{wrong} of {len(laid)} poison rows are not trigger(x, seed) of the clean rows they come from")
    return f"one function made {len(laid)} poison rows and {len(shown)} attacked points"


def _fast(s: AttackSubject) -> str:
    s.poisoned()
    seconds = s.run().seconds
    told = f"{seconds:.2f} s on {len(s.small[0])} rows"
    if seconds > SLOW:
        raise FindingError("warn", f"{told}: every scene of a grid pays this and more")
    return told


def _visible(s: AttackSubject) -> str:
    p = s.poisoned()
    if s.run().faults:
        raise skip("not judged while a rule is broken")
    share = share_seen(s.model, p, s.small[1])
    if share is None:
        raise skip("no attacked point differs from the test row it comes from: no trigger")
    if share == 0:
        raise FindingError("warn", f"{s.model} sees none of the changed pixels: it is blind to the trigger at any budget")
    return f"{s.model} sees {share:.0%} of the changed pixels"


def _fooled(s: AttackSubject) -> str:
    if not s.victim:
        raise skip("no victim asked for")
    if not len(s.poisoned().targets) or s.run().faults:
        raise skip("no attacked test points" if not s.run().faults else "not judged while a rule is broken")
    clean, test = s.data
    recipe = Recipe(**{**VICTIM.__dict__, "model": s.model})
    p = s.value(clean, test, recipe, 0)
    victim, control = (train(part, recipe, 0).model() for part in (p.train, clean))
    hits, base = (int((predict(m, p.targets.x).argmax(1) == p.wanted).sum()) for m in (victim, control))
    right, before = (float((predict(m, test.x).argmax(1) == test.y).float().mean()) for m in (victim, control))
    m = len(p.targets)
    low, high = wilson([hits / m], m)
    told = f"{s.model}: attack success {hits / m:.2f} [{low:.2f}, {high:.2f}] of {m}, unpoisoned {base / m:.2f}; "
    told += f"clean accuracy {right:.3f}, unpoisoned {before:.3f}"
    if low <= base / m:
        raise FindingError("warn", told)
    return told


ATTACK: dict[str, Check] = {
    **METHOD,
    "runs": Check("attack(train, test, recipe, seed) returns", _runs),
    **{rule: Check(words, partial(_rule, rule=rule)) for rule, words in RULES.items()},
    "determinism": Check("equal seeds give equal poison, bit for bit", _deterministic),
    "seed": Check("other seeds give other poison: seeds of a grid repeat the experiment", _seeded),
    "float64": Check("it works in the float type of the data", _wide),
    "cuda": Check("it works on the device of the data", _cuda),
    "memory": Check("the result shares no memory with the clean data", _apart),
    "trigger": Check("what poisons and what is shown at test time is one function, `trigger(x, seed)`", _one_trigger),
    "seconds": Check(f"a small set takes at most {SLOW:.0f} s", _fast),
    "visible": Check("the victim can see the trigger", _visible),
    "success": Check("a quick victim falls for it more often than an unpoisoned one", _fooled),
}
