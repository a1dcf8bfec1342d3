"""The contract of an attack, enforced; rule by rule."""

from collections.abc import Iterator

from poisonbench.contracts.budget import count, warn_of_unspent
from poisonbench.contracts.form import form_faults, value_faults
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.protocols import Attack
from poisonbench.contracts.relations import relation_faults
from poisonbench.contracts.rules import RULES, broken
from poisonbench.contracts.untouched import marks_of
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, check_values
from poisonbench.errors import PoisonError
from poisonbench.seeding import global_state, restore
from poisonbench.training import Recipe

__all__ = ["RULES", "attempt", "broken_rules", "check_poisoned", "count", "craft"]


def broken_rules(
    poisoned: Poisoned, clean: Dataset, test: Dataset, attack: object = None
) -> Iterator[PoisonError]:
    """Yields what breaks the contract of an attack: faults of form, else of values, else relations.

    Args:
        poisoned: what the attack returned.
        clean: the n0 training rows it was given.
        test: the test rows it was given.
        attack: the attack itself, whose `budget`, `cover`, `clean_label` and `eps`, where it has
            them, are enforced too.
    """
    found = list(form_faults(poisoned, clean))
    found = found or list(value_faults(poisoned, clean, test))
    yield from found or relation_faults(poisoned, clean, test, attack)


def check_poisoned(
    poisoned: Poisoned, clean: Dataset, test: Dataset, attack: object = None
) -> None:
    """Enforces the contract over what an attack returned; arguments of `broken_rules`.

    Raises:
        PoisonError: names the first broken rule of `RULES` and the row.
        DataError: the clean data break a rule themselves, for which no attack is to blame.
    """
    _check_clean(clean, test)
    for error in broken_rules(poisoned, clean, test, attack):
        raise error


def _check_clean(clean: Dataset, test: Dataset) -> None:
    """Refuses clean data that break a rule before any attack does."""
    check_values(clean, "the clean training set")
    check_values(test, "the clean test set")


def attempt(
    attack: Attack, train: Dataset, test: Dataset, recipe: Recipe, seed: int
) -> tuple[object, list[PoisonError]]:
    """Runs an attack; whatever it does to the global state is undone.

    Returns:
        What the attack returned, and the rules that it broke in running: global state, inputs,
        type.

    Raises:
        DataError: the clean data break a rule themselves; the attack does not run.
        ConfigError: it does not take data of this kind; it does not run.
    """
    check_kind(train, attack)
    _check_clean(train, test)
    before = {**marks_of(train, "train"), **marks_of(test, "test")}
    state = global_state()
    try:
        poisoned: object = attack(train, test, recipe, seed)
    finally:
        moved = restore(state)
    faults: list[PoisonError] = []
    if moved:
        faults.append(broken("random-state", f"{', '.join(moved)} was changed"))
    now = {**marks_of(train, "train"), **marks_of(test, "test")}
    for name, mark in before.items():
        if now.get(name) != mark:
            faults.append(broken("inputs", f"{name} was changed in place"))
    if not isinstance(poisoned, Poisoned):
        faults.append(broken("type", f"got {type(poisoned).__name__}"))
    return poisoned, faults


def craft(
    attack: Attack, train: Dataset, test: Dataset, recipe: Recipe, seed: int
) -> Poisoned:
    """Runs an attack and enforces its whole contract, inputs and global state included.

    An attack that spends less than its budget or its cover pays for is told with a `BudgetWarning`.

    Returns:
        What the attack returned, on the device of `train`.

    Raises:
        PoisonError: names the broken rule of `RULES`.
        DataError: the clean data break a rule themselves; the attack does not run.
        ConfigError: it does not take data of this kind; it does not run.
    """
    poisoned, faults = attempt(attack, train, test, recipe, seed)
    if faults:
        raise faults[0]
    assert isinstance(poisoned, Poisoned)
    poisoned = poisoned.to(train.x.device)
    for error in broken_rules(poisoned, train, test, attack):
        raise error
    warn_of_unspent(poisoned, train, attack)
    return poisoned
