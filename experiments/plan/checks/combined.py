"""Whether the methods of a grid can be combined: what one works on, another must give."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.plan.fields import Faults
from experiments.plan.kind import Kind
from experiments.plan.kinds import DONE
from experiments.plan.spec import Applied, Method
from poisonbench.contracts.scope import WAY, misfit
from poisonbench.registry import nearest

Raw = Mapping[str, Any]


def check_of(
    of: Mapping[str, tuple[str, ...]],
    attacks: Sequence[Method],
    found: tuple[Applied, ...],
    path: str,
    faults: Faults,
) -> None:
    """Adds a fault for each name of a method that the grid does not have."""
    for part, names in of.items():
        methods = [a.method for a in found if a.part == part]
        if part == "attack":
            methods = list(attacks)
        known = list(dict.fromkeys(method.name for method in methods))
        has = ", ".join(known) or "none"
        for name in names:
            if name not in known:
                what = f"the grid has no [[{part}]] {name!r}{nearest(name, known)} (it has: {has})"
                faults.add(f"{path}.{part}", what)


def check_verdicts(
    kind: Kind, method: Method, found: tuple[Applied, ...], path: str, faults: Faults
) -> None:
    """Adds a fault for a method that works on a verdict which the grid does not have."""
    if not kind.judged:
        return
    for part in ("detector", "filter"):
        if method.reads(part) and not any(applied.part == part for applied in found):
            what = f"{method.name} works on the verdict of a {part}"
            faults.add(path, f"{what}: name at least one [[{part}]]")


def check_scores(found: tuple[Applied, ...], faults: Faults) -> None:
    """Adds a fault for each method that reads scores which an estimator of the grid leaves out."""
    estimators = [one.method for one in found if one.part == "estimator"]
    for applied in found:
        of = dict(applied.of).get("estimator")
        for estimator in estimators:
            if of is not None and estimator.name not in of:
                continue
            why = misfit(estimator.value, applied.method.value)
            if why:
                faults.add(applied.part, f"{why}: {WAY}")


def check_estimators(raw: Raw, found: tuple[Applied, ...], faults: Faults) -> None:
    """Adds a fault for the first method that needs an estimator, where the grid has none."""
    if raw.get("estimator"):
        return
    each = {kind.part for kind in DONE if kind.estimators == "each"}
    for applied in found:
        if applied.part in each or applied.method.reads("influence"):
            what = f"a {applied.part} of the grid reads influence"
            faults.add("estimator", f"{what}: name at least one [[estimator]]")
            return
