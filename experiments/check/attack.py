"""The checks of an attack.

Its contract rule by rule, what a run of a grid needs of it, and whether a victim falls for it.
"""

from dataclasses import replace

import torch
from torch import Tensor

from experiments.check.contract import CONTRACT
from experiments.check.method import METHOD
from experiments.check.planted import sample
from experiments.check.runs import AttackSubject, Run, large_enough, same, tensors
from experiments.check.verdict import Check, FindingError, require, skip
from experiments.check.victim import VICTIM_CHECKS
from poisonbench.contracts.trigger import lay_trigger
from poisonbench.contracts.values import Poisoned
from poisonbench.data import kinds_of
from poisonbench.errors import ConfigError
from poisonbench.roles import POISON

SLOW = 30.0  # seconds on the small data


def _runs(subject: AttackSubject) -> str:
    error = subject.run().error
    if error is not None:
        hint = " (name other data: --dataset)" if isinstance(error, ConfigError) else ""
        told = " ".join(str(error).split()) or "no message"
        raise FindingError("fail", f"raised {type(error).__name__}: {told}{hint}")
    clean, test = subject.small
    shape = "x".join(map(str, clean.shape))
    return f"{len(clean)} training and {len(test)} test rows of {shape}"


def _deterministic(subject: AttackSubject) -> str:
    first = subject.poisoned()
    clean, test = subject.small
    again = subject.once(clean, test, 0).returned
    alike = isinstance(again, Poisoned) and same(first, again)
    require(alike, "two calls with seed 0 differ")
    return "two calls with seed 0 agree bit for bit"


def _seeded(subject: AttackSubject) -> str:
    if not getattr(subject.value, "seeded", True):
        raise skip("it declares `seeded = False`")
    if same(subject.poisoned(), subject.poisoned(1)):
        told = "seeds 0 and 1 give equal poison: declare `seeded = False` if it draws nothing"
        raise FindingError("warn", told)
    return "seeds 0 and 1 give different poison"


def _newly_broken(subject: AttackSubject, run: Run) -> list[str]:
    """What a run tells of rules that are kept in float32 on the CPU."""
    known = {fault.rule for fault in subject.run().faults}
    return [fault.message for fault in run.faults if fault.rule not in known]


def _elsewhere(
    subject: AttackSubject, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> None:
    """Requires that no rule is broken there that is kept in float32 on the CPU."""
    subject.poisoned()
    run = subject.run(device=device, dtype=dtype)
    name = type(run.error).__name__
    require(run.error is None, f"raised {name}: {run.error}")
    new = _newly_broken(subject, run)
    require(not new, "; ".join(new))


def _wide(subject: AttackSubject) -> str:
    _elsewhere(subject, dtype=torch.float64)
    return "the contract is kept in float64 as in float32"


def _cuda(subject: AttackSubject) -> str:
    if not torch.cuda.is_available():
        raise skip("no CUDA device here")
    _elsewhere(subject, device="cuda")
    found = tensors(subject.poisoned(device="cuda"))
    away = {str(tensor.device) for tensor in found if not tensor.is_cuda}
    require(not away, f"it returns tensors on {', '.join(away)} for data on cuda")
    return "it works where the data lies"


def _apart(subject: AttackSubject) -> str:
    clean, test = subject.small
    returned = subject.run().returned
    if not isinstance(returned, Poisoned):
        raise skip("it does not return a Poisoned")
    clean_tensors = (clean.x, clean.y, test.x, test.y)
    given = {_memory(tensor) for tensor in clean_tensors}
    filled = [tensor for tensor in tensors(returned) if tensor.numel()]
    shared = [tensor for tensor in filled if _memory(tensor) in given]
    told = (
        "of its tensors are views of the clean data: whoever changes one changes both"
    )
    require(not shared, f"{len(shared)} {told}")
    return "no tensor is a view of the clean data"


def _memory(tensor: Tensor) -> int:
    """Where the values of a tensor lie: views of one tensor share it."""
    return tensor.untyped_storage().data_ptr()


def _one_trigger(subject: AttackSubject) -> str:
    if not hasattr(subject.value, "trigger"):
        raise skip("it has no method `trigger`")
    poisoned = subject.poisoned()
    if any(fault.rule == "origin" for fault in subject.run().faults):
        raise skip("not judged after origin")
    shown = _shown(subject, poisoned)
    clean = subject.small[0]
    rows = (poisoned.role == POISON) & (poisoned.origin >= 0)
    source = clean.x[poisoned.origin[rows]]
    laid = lay_trigger(subject.value, source, 0, clean)
    differs = poisoned.train.x[rows] != laid
    if hasattr(subject.value, "covered"):
        differs &= subject.value.covered(laid.shape)
    elif getattr(subject.value, "trigger_differs", False) or hasattr(
        subject.value, "eps"
    ):
        also = "poison rows show a part of it or none, as the attack declares"
        return f"{shown} attacked points show it; {also}"
    wrong = int(differs.flatten(1).any(1).sum())
    told = "poison rows are not trigger(x, seed) of the clean rows they come from"
    require(not wrong, f"{wrong} of {len(laid)} {told}")
    return f"one function made {len(laid)} poison rows and {shown} attacked points"


def _shown(subject: AttackSubject, poisoned: Poisoned) -> int:
    """How many attacked points show the trigger: all that come from the test set must."""
    known = poisoned.target_origin >= 0
    clean, test = subject.small
    source = test.x[poisoned.target_origin[known]]
    expected = lay_trigger(subject.value, source, 0, clean)
    told = (
        "the attacked points are not trigger(x, seed) of the test rows they come from"
    )
    require(torch.equal(poisoned.targets.x[known], expected), told)
    return len(expected)


def _kinds(subject: AttackSubject) -> str:
    own = subject.data[0].kind
    others = [kind for kind in kinds_of(subject.value) if kind != own]
    if not others:
        raise skip(f"it takes data of kind {own} alone")
    subject.poisoned()
    for kind in others:
        _kept_on(kind, subject)
    return f"the contract is kept on data of kind {', '.join(others)} too"


def _kept_on(kind: str, subject: AttackSubject) -> None:
    """Requires that no rule is broken on another kind of data that is kept on the subject's."""
    other = large_enough(replace(subject, data=sample(kind), runs={}))
    run = other.run()
    new = _newly_broken(subject, run)
    told = "; ".join(new)
    if run.error is not None:
        told = f"raised {type(run.error).__name__}: {run.error}"
    if not told:
        return
    if hasattr(subject.value, "kinds"):
        raise FindingError("fail", f"on data of kind {kind}: {told}")
    raise FindingError("warn", f"declare `kinds`: on data of kind {kind}: {told}")


def _fast(subject: AttackSubject) -> str:
    subject.poisoned()
    seconds = subject.run().seconds
    told = f"{seconds:.2f} s on {len(subject.small[0])} rows"
    if seconds > SLOW:
        raise FindingError("warn", f"{told}: every scene of a grid pays this and more")
    return told


ATTACK: dict[str, Check] = {
    **METHOD,
    "runs": Check("attack(train, test, recipe, seed) returns", _runs),
    **CONTRACT,
    "determinism": Check("equal seeds give equal poison, bit for bit", _deterministic),
    "seed": Check(
        "other seeds give other poison: seeds of a grid repeat the experiment", _seeded
    ),
    "float64": Check("it works in the float type of the data", _wide),
    "cuda": Check("it works on the device of the data", _cuda),
    "kinds": Check(
        "it works on every kind of data that its `kinds` name, on all without it",
        _kinds,
    ),
    "memory": Check("the result shares no memory with the clean data", _apart),
    "trigger": Check(
        "what poisons and what is shown at test time is one function, `trigger(x, seed)`",
        _one_trigger,
    ),
    "seconds": Check(f"a small set takes at most {SLOW:.0f} s", _fast),
    **VICTIM_CHECKS,
}
