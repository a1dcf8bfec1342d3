"""The checks of an attack: its contract rule by rule, what a run of a grid needs of it, and whether a victim falls for it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from experiments.check.method import METHOD
from experiments.check.runs import STAGES, AttackSubject, same, tensors
from experiments.check.verdict import Check, FindingError, require, skip
from experiments.check.victim import VICTIM_CHECKS
from poisonbench.contracts.attack_rules import RULES, count
from poisonbench.contracts.values import Poisoned
from poisonbench.errors import ConfigError
from poisonbench.roles import COVER, POISON

SLOW = 30.0  # seconds on the small data


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
    return (
        TOLD[rule](s, run.returned) if rule in TOLD and isinstance(run.returned, Poisoned) else ""
    )


def _spent(s: AttackSubject, p: Poisoned) -> str:
    budget, n = getattr(s.value, "budget", None), len(s.small[0])
    poison, gone = int((p.role == POISON).sum()), n - int((p.origin >= 0).sum())
    if budget is None:
        if poison + gone and not hasattr(s.value, "budget"):
            raise FindingError(
                "warn", f"{poison} poison rows and no field `budget`: nothing holds it to a number"
            )
        raise skip(f"no budget; {poison} poison rows of {n}")
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
    return f"within {s.value.eps:g}" + " outside the pixels of the trigger" * hasattr(
        s.value, "covered"
    )


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
    require(
        isinstance(again.returned, Poisoned) and same(first, again.returned),
        "two calls with seed 0 differ",
    )
    return "two calls with seed 0 agree bit for bit"


def _seeded(s: AttackSubject) -> str:
    if not getattr(s.value, "seeded", True):
        raise skip("it declares `seeded = False`")
    if same(s.poisoned(), s.poisoned(1)):
        raise FindingError(
            "warn", "seeds 0 and 1 give equal poison: declare `seeded = False` if it draws nothing"
        )
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
    require(
        not shared,
        f"{len(shared)} of its tensors are views of the clean data: whoever changes one changes both",
    )
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
        torch.equal(p.targets.x[known], shown),
        "the attacked points are not trigger(x, seed) of the test rows they come from",
    )
    laid = s.value.trigger(clean.x[p.origin[rows]], seed=0)
    differs = p.train.x[rows] != laid
    if hasattr(s.value, "covered"):
        differs &= s.value.covered(laid.shape)
    elif getattr(s.value, "trigger_differs", False) or hasattr(s.value, "eps"):
        return f"{len(shown)} attacked points show it; poison rows show a part of it or none, as the attack declares"
    wrong = int(differs.flatten(1).any(1).sum())
    require(
        not wrong,
        f"{wrong} of {len(laid)} poison rows are not trigger(x, seed) of the clean rows they come from",
    )
    return f"one function made {len(laid)} poison rows and {len(shown)} attacked points"


def _fast(s: AttackSubject) -> str:
    s.poisoned()
    seconds = s.run().seconds
    told = f"{seconds:.2f} s on {len(s.small[0])} rows"
    if seconds > SLOW:
        raise FindingError("warn", f"{told}: every scene of a grid pays this and more")
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
    "trigger": Check(
        "what poisons and what is shown at test time is one function, `trigger(x, seed)`",
        _one_trigger,
    ),
    "seconds": Check(f"a small set takes at most {SLOW:.0f} s", _fast),
    **VICTIM_CHECKS,
}
