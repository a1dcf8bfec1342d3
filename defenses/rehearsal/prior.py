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


def key_of(kind: str, stream: bool) -> str:
    """Returns the key of weights: of a kind of data, for single points or for a stream of them."""
    return f"{kind}, stream" if stream else kind


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


def prior_weights(name: str, kind: str, stream: bool, sides: tuple[str, ...]) -> Tensor:
    """Returns the weights of questions, (f,) float64; 0 where the prior does not know one.

    Args:
        name: of the prior.
        kind: of the data; without weights of their own they take those of any kind.
        stream: whether questions about other points are among them.
        sides: names of the f surprises.
    """
    if name == NONE:
        return torch.zeros(len(sides), dtype=torch.float64)
    known = priors()[name]
    of_any = known[key_of(ANY, stream)]
    weights = known.get(key_of(kind, stream), of_any)
    values = [weights.get(side, 0.0) for side in sides]
    return torch.tensor(values, dtype=torch.float64)
