"""What an influence estimator needs of a training run, and what a run offers.

"final model" is there in every run; "checkpoints" are states with their learning rates, not
all of them 0; "steps" are
the batches and rates of all steps, with a replay of them; "retraining" is a way to train again on
other rows; "head" is a last linear layer, whose input are the penultimate features.
"""

from collections.abc import Iterable, Sequence

from poisonbench.errors import ConfigError

# need -> what it means, and what to give to a run that lacks it
NEEDS = {
    "final model": ("the trained model", "give the model"),
    "checkpoints": (
        "checkpoints with their learning rates, not all of them 0",
        "Trace.of(model, train, checkpoints=[(state, lr), ...]), or lr= beside the states: a "
        "constant where a schedule ended at 0; of a model alone, take influence-functions",
    ),
    "steps": (
        "the batch and the learning rate of every step, and a replay of them",
        "only the loop of `poisonbench.training.train` can be replayed; take tracin or gas at the "
        "checkpoints",
    ),
    "retraining": (
        "a way to train again on other rows",
        "Trace.of(..., retrain=fn) with a function (model, data, seed) -> (step, lr, state), ...",
    ),
    "head": (
        "a last linear layer",
        "name it: Trace.of(..., head='fc'), or end the model in nn.Linear",
    ),
}


# what a run by a loop from outside offers
LOOP_OFFERS = frozenset(NEEDS) - {"steps"}


def unmet(offers: frozenset[str], needs: Iterable[str]) -> list[str]:
    """Returns the needs that a run does not meet, in their order."""
    return [need for need in needs if need not in offers]


def check_needs(offers: frozenset[str], needs: Iterable[str], who: str) -> None:
    """Refuses a method whose needs a run does not meet.

    Args:
        offers: of the run.
        needs: of the method, keys of `NEEDS`.
        who: names the method in the error.

    Raises:
        ConfigError: names every unmet need, and the way to meet each.
    """
    lacking = unmet(offers, needs)
    if lacking:
        raise unmet_needs(lacking, who)


def unmet_needs(needs: Sequence[str], who: str) -> ConfigError:
    """Returns the error of needs that a run does not meet, with the way to meet each."""
    faults = []
    ways = []
    for need in needs:
        meaning, way = NEEDS[need]
        faults.append(f"{who} needs {meaning}, which this run does not offer")
        ways.append(way)
    return ConfigError(faults, "; ".join(ways))
