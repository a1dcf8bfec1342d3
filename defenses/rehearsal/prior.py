"""The weights of questions that the package brings: learned by rehearsal on public data sets.

`python -m experiments.study prior` learns them and writes `prior.json`, which names the data sets.
"""

import json
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from poisonbench.checks import check_choice

FILE = Path(__file__).parent / "prior.json"
NONE = "none"  # weights 0: nothing is known before the rehearsal
ANY = "any"  # kind of data


@cache
def priors() -> dict[str, dict[str, dict[str, float]]]:
    """Returns name of a prior -> kind of data -> question -> weight, as the package brings them."""
    found: dict[str, dict[str, dict[str, float]]] = json.loads(
        FILE.read_text(encoding="utf-8")
    )["priors"]
    return found


def check_prior(name: str) -> None:
    """Raises ValueError for a prior that the package does not bring."""
    check_choice("prior", name, (NONE, *priors()))


def prior_weights(name: str, kind: str, sides: tuple[str, ...]) -> Tensor:
    """Returns the weights of questions, (f,) float64; 0 where the prior does not know one.

    Args:
        name: of the prior.
        kind: of the data; without weights of their own they take those of any kind.
        sides: names of the f surprises.
    """
    if name == NONE:
        return torch.zeros(len(sides), dtype=torch.float64)
    known = priors()[name]
    weights = known.get(kind, known[ANY])
    values = [weights.get(side, 0.0) for side in sides]
    return torch.tensor(values, dtype=torch.float64)
