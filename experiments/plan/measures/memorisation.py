"""Self-influence: what a training row gives its own prediction, by each estimator of the grid.

High for rows that a model can only memorise (Feldman & Zhang, NeurIPS 2020, arXiv 2008.03703), such
as rows with a wrong label.

Cost: that of the estimator with the training rows as test points, or less by a way of its own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SelfInfluence:
    """The estimator's own `self_influence`."""

    uses = ()


MEMORISATIONS: dict[str, type] = {"self-influence": SelfInfluence}
