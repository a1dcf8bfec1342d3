"""Values, models, training, gradients and the log of poisonbench: knows no method.

    import poisonbench as pb

gives the public names below. Each is imported when it is first used: `import poisonbench` alone
loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poisonbench.api import Guard, influence
    from poisonbench.contracts.verdicts import Proponents, Verdict, proponents
    from poisonbench.data import Dataset, load
    from poisonbench.training import Checkpoint, Recipe, Trace, train

__all__ = [
    "Checkpoint",
    "Dataset",
    "Guard",
    "Proponents",
    "Recipe",
    "Trace",
    "Verdict",
    "influence",
    "load",
    "proponents",
    "train",
]

_HOMES = {
    "Checkpoint": "poisonbench.training",
    "Dataset": "poisonbench.data",
    "Guard": "poisonbench.api",
    "Proponents": "poisonbench.contracts.verdicts",
    "Recipe": "poisonbench.training",
    "Trace": "poisonbench.training",
    "Verdict": "poisonbench.contracts.verdicts",
    "influence": "poisonbench.api",
    "load": "poisonbench.data",
    "proponents": "poisonbench.contracts.verdicts",
    "train": "poisonbench.training",
}


def __getattr__(name: str) -> Any:
    """Returns a public name, imported now."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
