"""Representer point selection (Yeh et al., NeurIPS 2018, arXiv 1811.09720): a logit as a sum over
the training instances.

Cost: one pass over the data, then Newton's method on the head alone (`stationary_head`). Scores of
m test points: O(m n d).
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from estimators.kit.stationary_head import Decomposition, decomposition, refit
from poisonbench.checks import check_positive
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.losses import check_cross_entropy
from poisonbench.models import predict
from poisonbench.models.head import body_of, head_of
from poisonbench.notes import note
from poisonbench.training import Recipe
from poisonbench.training.trace import Trace, check_points, check_trace

TOLERATED = 1e-6  # decomposition error above which it warns


@dataclass(frozen=True)
class RepresenterPoint:
    """Scores alpha_{i,c} <f_i, f_test>, c = test.y, with f the penultimate features and alpha from
    the refitted head.

    The head is refitted, from the trained one, until J(W) = mean cross entropy + l2 |W|^2 is
    stationary. There W is the sum of alpha_i f_i^T, so that a test point's scores sum to its logit
    of test.y. A bias counts as the weight of a constant feature 1, regularised like the others.

    Attributes:
        l2: regulariser; half of a recipe's weight decay is the same penalty. Small values leave the
            head as trained but rest the scores on the few instances with a large loss; large ones
            spread them.
        renormalize: alpha_i divided by its norm, so that the scale of an instance's loss does not
            count. Taken from margin gradients, which have the direction of the loss gradients and
            do not vanish with growing confidence.

    Raises:
        ValueError: l2 is not positive.
    """

    needs: ClassVar[tuple[str, ...]] = ("final model", "head")

    l2: float = 2.5e-4
    renormalize: bool = False

    def __post_init__(self) -> None:
        check_positive("l2", self.l2)

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); refits the head.

        Warns when the head does not become stationary.

        Raises:
            ConfigError: the model's head is not linear, or the loss is no cross entropy.
        """
        check_trace(trace, self)
        model = trace.model()
        found = self.decompose(trace)
        _tell(found)
        shares = self._shares(found)

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            kernel = _inputs(model, test.x) @ found.inputs.T
            scores = kernel * shares.T[test.y]
            return scores.to(test.dtype)

        return score

    def refusal(self, recipe: Recipe) -> str:
        """Returns why it has no scores for runs of a recipe, "" if it has."""
        if recipe.label_smoothing:
            return (
                "the shares of the head rest on cross entropy, without label_smoothing"
            )
        return ""

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,): alpha_{i, y_i} |f_i|^2.

        Never negative.
        """
        found = self.decompose(trace)
        shares = self._shares(found)
        own = shares.gather(1, trace.train.y[:, None]).squeeze(1)
        squares = found.inputs.square().sum(1)
        return (own * squares).to(trace.train.dtype)

    def decompose(self, trace: Trace) -> Decomposition:
        """Returns the refitted head beside its sum; `error` tells how far the two are apart.

        Raises as `fit` does.
        """
        check_trace(trace, self)
        check_cross_entropy(trace.loss, "representer-point")
        model = trace.model()
        head = head_of(model)
        inputs = _inputs(model, trace.train.x)
        y = trace.train.y
        columns = [head.weight.detach()]
        if head.bias is not None:
            columns.append(head.bias.detach()[:, None])
        start = torch.cat(columns, 1).double()
        weight = refit(start, inputs, y, self.l2)
        return decomposition(weight, inputs, y, self.l2)

    def _shares(self, found: Decomposition) -> Tensor:
        return found.directions if self.renormalize else found.alpha


def _tell(found: Decomposition) -> None:
    """Logs how near the head is to a stationary point, and warns where it is not near."""
    norm = float(found.gradient.norm())
    note("gradient_norm", norm)
    note("decomposition_error", found.error)
    if not found.error <= TOLERATED:
        text = f"|grad J| = {norm:.1e}, decomposition error {found.error:.1e}"
        warnings.warn(f"the head is not stationary: {text}", stacklevel=3)


def _inputs(model: nn.Module, x: Tensor) -> Tensor:
    """Returns what the head's weights multiply, (B, D) float64: the features, and 1 for a bias."""
    features = predict(body_of(model), x).double()
    if head_of(model).bias is None:
        return features
    one = features.new_ones(len(features), 1)
    return torch.cat([features, one], 1)
