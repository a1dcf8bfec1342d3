"""Downsampling (Feldman & Zhang, NeurIPS 2020, arXiv 2008.03703): influence by random subsets.

Cost: O(K T) steps at the size of the subsets, O(K p) memory or disk; m new test points
O(K m p + K m n), without retraining.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from estimators.kit.retraining import check_measure, smaller_kept, with_and_without
from poisonbench.checks import check_at_least, check_choice, check_fraction
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.notes import attach, note
from poisonbench.objectives import Measure
from poisonbench.seeding import derive, generator
from poisonbench.training import Ensemble, train_many
from poisonbench.training.trace import Trace, check_points, check_trace

Sampling = Literal["fixed", "bernoulli"]

ROUNDS = 12  # of trades, after which a subset has met 2^12 others
NOT_TRADED = 2.0  # above every draw from [0, 1)


@dataclass(frozen=True)
class Downsampling:
    """Scores the mean of F over models with i minus that over models without (eq. 2).

    F is the measure at the test point. The standard error of every score goes into the log beside
    it. Self-influence is the memorisation of an instance (eq. 1).

    Attributes:
        models: K.
        fraction: r, share of the training set on which a model trains.
        sampling: "fixed": subsets of rn instances that hold every instance equally often, up to
            one; scores then estimate E[LOO] at that size up to centring, and sum to 0 over the
            instances where the design is exact. "bernoulli": every instance with probability r on
            its own; with r = .5 scores are estimates of the Banzhaf value.
        measure: F: "loss": minus the cross entropy; "margin": of the logits; "correct": 1 or 0.
        seed: of the subsets and of the models' training, with the trace's.

    Raises:
        ValueError: a field out of its range; in `fit`, a fraction of no instances or of all.
    """

    needs: ClassVar[tuple[str, ...]] = ("retraining",)

    models: int = 500
    fraction: float = 0.5
    sampling: Sampling = "fixed"
    measure: Measure = "loss"
    seed: int = 0

    def __post_init__(self) -> None:
        check_measure(self.measure)
        check_at_least("models", self.models, 2)
        check_fraction("fraction", self.fraction)
        check_choice("sampling", self.sampling, get_args(Sampling))

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n), after training K models.

        Raises:
            TypeError: `trace` is no Trace.
        """
        check_trace(trace, self)
        ensemble = self._ensemble(trace, None)

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            values = ensemble.utility(test, self.measure, trace.loss)
            scores, errors = with_and_without(values, ensemble.masks)
            attach("standard_error", errors.float())
            unclear = scores.abs() < 2 * errors
            share = float(unclear.double().mean())
            note("share_below_two_standard_errors", share)
            return scores.to(trace.train.dtype)

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, its memorisation, (n,)."""
        check_trace(trace, self)
        ensemble = self._ensemble(trace, smaller_kept(trace))
        values = ensemble.utility(trace.train, self.measure, trace.loss)
        scores, _ = with_and_without(values, ensemble.masks, paired=True)
        return scores.to(trace.train.dtype)

    def masks(self, n: int, seed: int) -> Tensor:
        """Returns the subsets (K, n) bool of a training set of n instances, for a trace's seed.

        Raises:
            ValueError: a subset of no instances or of all.
        """
        g = generator(seed, "downsampling", self.seed)
        if self.sampling == "bernoulli":
            return torch.rand((self.models, n), generator=g) < self.fraction
        size = round(self.fraction * n)
        if not 0 < size < n:
            raise ValueError(
                f"fraction must leave 1 to {n - 1} of {n} instances, got {self.fraction}, "
                f"which leaves {size}"
            )
        return balanced(self.models, n, size, g)

    def _ensemble(self, trace: Trace, points: Dataset | None) -> Ensemble:
        seeds = []
        for k in range(self.models):
            seed = derive(trace.seed, "downsampling", self.seed, k)
            seeds.append(seed)
        masks = self.masks(len(trace.train), trace.seed)
        ensemble = train_many(
            trace.train,
            masks,
            trace.by_recipe,
            seeds,
            points=points,
            scratch=trace.scratch,
        )
        note("diverged_models", int(ensemble.diverged.sum()))
        kept = masks[~ensemble.diverged]
        one_sided = kept.all(0) | ~kept.any(0)
        lost = int(one_sided.sum())
        if lost:
            warnings.warn(
                f"{lost} instances are in none or in all of {len(kept)} models: NaN; "
                "train more models",
                stacklevel=3,
            )
        return ensemble


def balanced(
    K: int,
    n: int,
    size: int,
    g: torch.Generator,
) -> Tensor:
    """Draws K subsets (K, n) bool of `size` instances, every instance in equally many.

    That is up to one, where K size / n is no integer. Not in complementary pairs: where utility
    adds up over the instances a complement tells nothing new, and pairs would double the variance.
    Instead subsets trade what they do not share (the curveball of Strona et al. 2014), which keeps
    all margins.
    """
    # windows of a circle: balanced, but all alike
    places = torch.arange(K * size) % n
    masks = torch.zeros(K, n, dtype=torch.bool)
    masks.scatter_(1, places.view(K, size), True)
    masks = masks[:, torch.randperm(n, generator=g)]
    for _ in range(ROUNDS):
        order = torch.randperm(K, generator=g)
        half = K // 2
        one = order[:half]
        other = order[half : 2 * half]
        traded = masks[one] ^ masks[other]
        given = masks[one] & traded
        mine = given.sum(1, keepdim=True)
        draw = torch.rand(traded.shape, generator=g)
        draw.masked_fill_(~traded, NOT_TRADED)
        rank = draw.argsort(1).argsort(1)
        chosen = rank < mine
        masks_one = torch.where(traded, chosen, masks[one])
        masks_other = torch.where(traded, ~chosen, masks[other])
        masks[one] = masks_one
        masks[other] = masks_other
    return masks
