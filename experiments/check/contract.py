"""The checks of an attack's contract: one per rule of `poisonbench.contracts`."""

from dataclasses import dataclass

from experiments.check.runs import STAGES, AttackSubject
from experiments.check.verdict import Check, FindingError, require, skip
from poisonbench.contracts.attack_rules import RULES, count
from poisonbench.contracts.values import Poisoned
from poisonbench.roles import COVER, POISON


@dataclass(frozen=True)
class Rule:
    """The look of a check: whether a run on the small data kept a rule."""

    name: str

    def __call__(self, subject: AttackSubject) -> str:
        """Returns what was found where the rule is kept; raises `FindingError` elsewhere."""
        run = subject.run()
        if run.error is not None:
            raise skip("it does not run")
        prefix = f"{self.name}: "
        found = [
            f.message.removeprefix(prefix) for f in run.faults if f.rule == self.name
        ]
        require(not found, "; ".join(found))
        earlier = _broken_before(self.name, [fault.rule for fault in run.faults])
        if earlier:
            raise skip(f"not judged after {earlier}")
        if not isinstance(run.returned, Poisoned):
            return ""
        return _told(self.name, subject, run.returned)


def _broken_before(rule: str, broken: list[str]) -> str:
    """The broken rule after whose stage `rule` is not judged, or an empty text."""
    order = list(RULES)
    for stage in STAGES:
        faults = [name for name in broken if name in stage]
        comes_later = order.index(rule) > order.index(stage[-1])
        if faults and comes_later:
            return faults[0]
    return ""


def _told(rule: str, subject: AttackSubject, poisoned: Poisoned) -> str:
    """What is said of a rule that is kept; raises a `FindingError` where it does not apply."""
    match rule:
        case "budget":
            return _spent(subject, poisoned)
        case "cover":
            return _covered(poisoned)
        case "clean-label":
            return _kept(subject, poisoned)
        case "eps":
            return _near(subject)
        case "true-label" | "wanted":
            return _aimed(poisoned)
        case _:
            return ""


def _spent(subject: AttackSubject, poisoned: Poisoned) -> str:
    n = len(subject.small[0])
    poison = int((poisoned.role == POISON).sum())
    deleted = n - int((poisoned.origin >= 0).sum())
    budget = getattr(subject.value, "budget", None)
    if budget is not None:
        also = f" and {deleted} deleted" if deleted else ""
        limit = count(budget, n)
        return (
            f"{poison} poison rows{also} of {n}, {limit} paid for by budget {budget:g}"
        )
    if poison + deleted and not hasattr(subject.value, "budget"):
        told = (
            f"{poison} poison rows and no field `budget`: nothing holds it to a number"
        )
        raise FindingError("warn", told)
    raise skip(f"no budget; {poison} poison rows of {n}")


def _covered(poisoned: Poisoned) -> str:
    cover = int((poisoned.role == COVER).sum())
    if not cover:
        raise skip("no cover rows")
    return f"{cover} cover rows"


def _kept(subject: AttackSubject, poisoned: Poisoned) -> str:
    if not getattr(subject.value, "clean_label", False):
        raise skip("it does not declare `clean_label = True`")
    poison = int((poisoned.role == POISON).sum())
    return f"{poison} poison rows with the labels that they had"


def _near(subject: AttackSubject) -> str:
    eps = getattr(subject.value, "eps", None)
    if eps is None:
        raise skip("no field `eps`")
    if hasattr(subject.value, "covered"):
        return f"within {eps:g} outside the pixels of the trigger"
    return f"within {eps:g}"


def _aimed(poisoned: Poisoned) -> str:
    if not len(poisoned.targets):
        raise skip("no attacked test points: an indiscriminate attack")
    return f"{len(poisoned.targets)} attacked test points"


CONTRACT = {rule: Check(words, Rule(rule)) for rule, words in RULES.items()}
