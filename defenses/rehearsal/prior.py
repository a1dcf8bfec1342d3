"""The weights of questions that the package brings: learned by rehearsal on public data sets.

`python -m experiments.study prior` learns them and writes `prior.json`, which names the data sets.
Where the head alone is trained, as in transfer, other questions tell: `python -m experiments.study
prior-head` learns the weights for that, and writes `prior_head.json`.
"""

import json
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from poisonbench.checks import check_choice
from poisonbench.training.trace import Trace

FILE = Path(__file__).parent / "prior.json"
HEAD_FILE = Path(__file__).parent / "prior_head.json"
NONE = "none"  # weights 0: nothing is known before the rehearsal
ALL = "all"  # data sets
ANY = "any"  # kind of data


@cache
def priors() -> dict[str, dict[str, dict[str, float]]]:
    """Returns name of a prior -> kind of data -> question -> weight, as the package brings them."""
    found: dict[str, dict[str, dict[str, float]]] = json.loads(
        FILE.read_text(encoding="utf-8")
    )["priors"]
    return found


@cache
def head_priors() -> dict[str, dict[str, float]]:
    """Returns name of a prior -> question -> weight, for runs that train the head alone."""
    found: dict[str, dict[str, float]] = json.loads(
        HEAD_FILE.read_text(encoding="utf-8")
    )["priors"]
    return found


def check_prior(name: str) -> None:
    """Raises ValueError for a prior that the package does not bring."""
    check_choice("prior", name, (NONE, *priors()))


def trains_head_alone(trace: Trace) -> bool:
    """Whether a run is known to leave everything below the head as it was."""
    if trace.recipe is None or trace.recipe.start is None:
        return False
    return trace.recipe.start.trained == "head"


def prior_weights(name: str, trace: Trace, sides: tuple[str, ...]) -> Tensor:
    """Returns the weights of questions, (f,) float64; 0 where the prior does not know one.

    Args:
        name: of the prior.
        trace: of the victim. A kind of data without weights of its own takes those of any kind.
        sides: names of the f surprises.
    """
    if name == NONE:
        return torch.zeros(len(sides), dtype=torch.float64)
    if trains_head_alone(trace):
        weights = head_priors().get(name, head_priors()[ALL])
    else:
        known = priors()[name]
        weights = known.get(str(trace.train.kind), known[ANY])
    values = [weights.get(side, 0.0) for side in sides]
    return torch.tensor(values, dtype=torch.float64)
