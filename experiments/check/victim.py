"""The checks of an attack that ask a victim: whether it can see the trigger, and whether it falls for it."""

from experiments.check.runs import AttackSubject
from experiments.check.verdict import Check, FindingError, skip
from experiments.check.visibility import share_seen
from experiments.evaluation.intervals import wilson
from poisonbench.models import predict
from poisonbench.training import Recipe, train

VICTIM = Recipe(epochs=20, batch_size=64, lr=0.1)


def _visible(s: AttackSubject) -> str:
    p = s.poisoned()
    if s.run().faults:
        raise skip("not judged while a rule is broken")
    share = share_seen(s.model, p, s.small[1])
    if share is None:
        raise skip("no attacked point differs from the test row it comes from: no trigger")
    if share == 0:
        raise FindingError(
            "warn",
            f"{s.model} sees none of the changed pixels: it is blind to the trigger at any budget",
        )
    return f"{s.model} sees {share:.0%} of the changed pixels"


def _fooled(s: AttackSubject) -> str:
    if not s.victim:
        raise skip("no victim asked for")
    if not len(s.poisoned().targets) or s.run().faults:
        raise skip(
            "no attacked test points" if not s.run().faults else "not judged while a rule is broken"
        )
    clean, test = s.data
    recipe = Recipe(**{**VICTIM.__dict__, "model": s.model})
    p = s.value(clean, test, recipe, 0)
    victim, control = (train(part, recipe, 0).model() for part in (p.train, clean))
    hits, base = (
        int((predict(m, p.targets.x).argmax(1) == p.wanted).sum()) for m in (victim, control)
    )
    right, before = (
        float((predict(m, test.x).argmax(1) == test.y).float().mean()) for m in (victim, control)
    )
    m = len(p.targets)
    low, high = wilson([hits / m], m)
    told = f"{s.model}: attack success {hits / m:.2f} [{low:.2f}, {high:.2f}] of {m}, unpoisoned {base / m:.2f}; "
    told += f"clean accuracy {right:.3f}, unpoisoned {before:.3f}"
    if low <= base / m:
        raise FindingError("warn", told)
    return told


VICTIM_CHECKS: dict[str, Check] = {
    "visible": Check("the victim can see the trigger", _visible),
    "success": Check("a quick victim falls for it more often than an unpoisoned one", _fooled),
}
