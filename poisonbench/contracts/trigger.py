"""The trigger of an attack, laid on instances: one call, whatever the trigger depends on."""

from typing import Any

from torch import Tensor

from poisonbench.data import Dataset


def lay_trigger(attack: Any, x: Tensor, seed: int, train: Dataset) -> Tensor:
    """Returns the instances x, (k, *shape), with the trigger of an attack.

    Args:
        attack: has a method `trigger(x, seed)`, or `trigger(x, seed, train)` if it declares
            `trigger_reads_train = True`.
        x: clean instances.
        seed: of the attack.
        train: the clean training set, whose words or values such a trigger is made of.
    """
    if getattr(attack, "trigger_reads_train", False):
        laid: Tensor = attack.trigger(x, seed, train)
    else:
        laid = attack.trigger(x, seed=seed)
    return laid
