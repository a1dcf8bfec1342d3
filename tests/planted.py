"""The planted problems of `poisonbench check detector`.

It is known what is poison and what rests on it.
"""

from experiments.check.planted import ATTACKED, POISONED, planted, triggered

__all__ = ["ATTACKED", "POISONED", "planted", "triggered"]
