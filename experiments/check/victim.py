"""The checks of an attack that ask a victim: whether it sees the trigger, and falls for it."""

from dataclasses import dataclass

from experiments.check.runs import AttackSubject
from experiments.check.verdict import Check, FindingError, skip
from experiments.check.visibility import share_seen
from experiments.evaluation.intervals import wilson
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.training import Recipe, train

# what an instance is made of, by its kind
PARTS = {
    "image": "pixels",
    "spectrogram": "pixels",
    "vector": "features",
    "tokens": "words",
}


@dataclass(frozen=True)
class Standing:
    """How a model stands.

    Attributes:
        hits: attacked points that it predicts as the attacker wants.
        accuracy: on the clean test set.
    """

    hits: int
    accuracy: float


def _visible(subject: AttackSubject) -> str:
    poisoned = subject.poisoned()
    if subject.run().faults:
        raise skip("not judged while a rule is broken")
    model = subject.recipe.model
    share = share_seen(subject.recipe, poisoned, subject.small[1])
    if share is None:
        raise skip(
            "no attacked point differs from the test row it comes from: no trigger"
        )
    parts = PARTS[str(poisoned.targets.kind)]
    if share == 0:
        told = f"{model} sees none of the changed {parts}"
        raise FindingError("warn", f"{told}: it is blind to the trigger at any budget")
    return f"{model} sees {share:.0%} of the changed {parts}"


def _fooled(subject: AttackSubject) -> str:
    if not subject.victim:
        raise skip("no victim asked for")
    returned = subject.poisoned()
    if subject.run().faults:
        raise skip("not judged while a rule is broken")
    if not len(returned.targets):
        raise skip("no attacked test points")
    clean, test = subject.data
    recipe = subject.recipe
    poisoned = subject.value(clean, test, recipe, 0)
    victim = _standing(poisoned.train, recipe, poisoned, test)
    control = _standing(clean, recipe, poisoned, test)
    m = len(poisoned.targets)
    rate = victim.hits / m
    base = control.hits / m
    low, high = wilson([rate], m)
    told = (
        f"{recipe.model}: attack success {rate:.2f} [{low:.2f}, {high:.2f}] of {m}, "
        f"unpoisoned {base:.2f}; "
        f"clean accuracy {victim.accuracy:.3f}, unpoisoned {control.accuracy:.3f}"
    )
    if low <= base:
        raise FindingError("warn", told)
    return told


def _standing(
    data: Dataset, recipe: Recipe, poisoned: Poisoned, test: Dataset
) -> Standing:
    """How a model that is trained on `data` stands."""
    model = train(data, recipe, 0).model()
    hits = predict(model, poisoned.targets.x).argmax(1) == poisoned.wanted
    right = predict(model, test.x).argmax(1) == test.y
    return Standing(int(hits.sum()), float(right.float().mean()))


VICTIM_CHECKS: dict[str, Check] = {
    "visible": Check("the victim can see the trigger", _visible),
    "success": Check(
        "a quick victim falls for it more often than an unpoisoned one", _fooled
    ),
}
