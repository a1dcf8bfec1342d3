"""Shapley values and their kin: an instance's share in a prediction.

For data: Ghorbani & Zou, ICML 2019, arXiv 1904.02868.

Cost: permutation about log(n), or n / stride, models a permutation, "banzhaf" and "beta" `models`
of them; new test points O(K) predictions and O(m n K) products for K models, kept in the scratch
folder. "knn": O(n d + n log n) a point.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from estimators.kit.retraining import check_measure
from estimators.shapley.fits import Fit, fit_banzhaf, fit_beta, fit_permutations
from estimators.shapley.game import Empty, Game, Players, players
from estimators.shapley.nearest_neighbours import knn_shapley
from estimators.shapley.sampling import Rule
from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_not_negative,
    check_positive,
)
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.models.head import body_of
from poisonbench.notes import attach, note
from poisonbench.objectives import Measure
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace, check_points, check_trace

PROBES = 64  # training instances on which the standard error is judged before there are test points
METHODS = ("permutation", "knn", "banzhaf", "beta")


@dataclass(frozen=True)
class Shapley:
    """Scores phi_i, the mean over random orders of what instance i adds to those before it.

    What it adds is utility: v(S) is that, at a test point, of the model trained with the recipe and
    the seed of the trace on the instances S alone. The standard errors of the scores, (m, n), go to
    the log as `standard_error`. Where a model diverges, what it is part of (a pair of permutations,
    a subset) is left out, and counted in the log.

    Attributes:
        method: "permutation": random permutations and their reverses, asked at every `stride`-th
            prefix (without bias, see `permutations`); the scores of a test point sum to
            v(D) - v(empty). "knn": the exact values of a vote among the nearest `neighbours` in the
            final model's penultimate features (Jia et al. 2019), nothing is retrained. "banzhaf":
            the mean of v over subsets with i minus that over those without, each instance in half
            of them (Wang & Jia 2023). "beta": Beta(alpha, beta)-Shapley (Kwon & Zou 2022) from
            subsets that serve all instances at once; with alpha = beta = 1 these are Shapley values
            from other samples than permutations.
        permutations: at most so many, in pairs.
        precision: permutation sampling ends where the largest standard error is at most this part
            of what is shared out, the largest |v(D) - v(empty)|, on `PROBES` training instances
            (their influence on themselves left out), from 100 permutations on; 0 never. Values are
            of the order of 1 / n of it: to rank single instances takes more.
        tolerance: truncation (TMC): a prefix with |v(D) - v(prefix)| below it counts as D, and so
            do all longer ones; a permutation ends where that holds for all probes. At stride 1 no
            marginal contribution moves by more than twice the tolerance if no longer prefix would
            have left it again, which only the game can promise. 0: none.
        stride: instances between two prefixes; 1 gives the marginal contributions of the
            definition, None strides about as long as the prefix, so that a permutation costs log(n)
            models, most of them small.
        models: of "banzhaf" and "beta".
        alpha: above beta weighs small subsets more.
        beta: above alpha weighs large subsets more.
        neighbours: K of "knn"; its utility is the share of the K votes for test.y, and `measure`
            plays no part.
        measure: at test.y, "loss" (minus the loss; cross entropy without smoothing where the run
            smooths labels), "margin" or "correct".
        empty: what stands for the model trained on nothing: "chance" or "prior" (constant, the
            frequencies of the classes).
        players: "instances", or "labels": the classes play, and every instance has the value of its
            class, undivided.
        seed: of permutations and subsets.

    Raises:
        ValueError: a field out of its range, naming the rule and the value.
    """

    method: Literal["permutation", "knn", "banzhaf", "beta"] = "permutation"
    permutations: int = 2000
    precision: float = 0.03
    tolerance: float = 0.0
    stride: int | None = None
    models: int = 2000
    alpha: float = 4.0
    beta: float = 1.0
    neighbours: int = 5
    measure: Measure = "correct"
    empty: Empty = "chance"
    players: Players = "instances"
    seed: int = 0

    def __post_init__(self) -> None:
        check_measure(self.measure)
        check_choice("method", self.method, METHODS)
        check_choice("empty", self.empty, ("chance", "prior"))
        check_choice("players", self.players, get_args(Players))
        check_at_least("permutations", self.permutations, 2)
        check_at_least("models", self.models, 4)
        check_at_least("neighbours", self.neighbours, 1)
        check_at_least("stride", self.stride, 1)
        check_not_negative("precision", self.precision)
        check_not_negative("tolerance", self.tolerance)
        check_positive("alpha", self.alpha)
        check_positive("beta", self.beta)
        if self.method == "knn" and self.players == "labels":
            what = "players='labels' needs a method that retrains, got method='knn'"
            raise ValueError(what)

    @property
    def needs(self) -> tuple[str, ...]:
        """What it asks of a run."""
        if self.method == "knn":
            return ("final model", "head")
        return ("retraining",)

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n).

        Retrains, or with "knn" computes the features of the training set.

        Raises:
            TypeError: `trace` is no Trace.
        """
        check_trace(trace, self)
        if self.method == "knn":
            return self._neighbours(trace)
        player = players(trace.train, self.players)
        game = Game(trace=trace, player=player, measure=self.measure, empty=self.empty)
        fit = self._fit(game)

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            if not len(test):
                return test.zeros(0, len(player))
            values, errors = fit.estimate(test)
            of_instance = player.to(values.device)
            scores = values[:, of_instance].to(test.dtype)
            spread = errors[:, of_instance].to(test.dtype)
            _tell(scores, spread)
            return scores

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,)."""
        scorer = self.fit(trace)
        train = trace.train
        parts = []
        everything = torch.arange(len(train), device=train.x.device)
        for rows in everything.split(PROBES):
            scores = scorer(train.take(rows))
            own = scores.gather(1, rows[:, None])
            parts.append(own.squeeze(1))
        return torch.cat(parts)

    def _fit(self, game: Game) -> Fit:
        """Returns the models of subsets, trained."""
        if self.method == "banzhaf":
            return fit_banzhaf(game, self.models, self.seed)
        if self.method == "beta":
            return fit_beta(
                game=game,
                models=self.models,
                seed=self.seed,
                alpha=self.alpha,
                beta=self.beta,
            )
        rule = Rule(
            permutations=self.permutations,
            precision=self.precision,
            stride=self.stride,
            tolerance=self.tolerance,
        )
        g = generator(self.seed, "probes")
        order = torch.randperm(len(game.player), generator=g)
        probes = order[:PROBES]
        own = None
        if self.players == "instances":
            own = probes
        return fit_permutations(
            game=game, rule=rule, seed=self.seed, probes=probes, own=own
        )

    def _neighbours(self, trace: Trace) -> Scorer:
        """Returns the scorer of the vote among the nearest neighbours."""
        body = body_of(trace.model())
        train = predict(body, trace.train.x).flatten(1)

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            points = predict(body, test.x).flatten(1)
            return knn_shapley(
                train=train,
                y=trace.train.y,
                test=points,
                labels=test.y,
                neighbours=self.neighbours,
            )

        return score


def _tell(scores: Tensor, errors: Tensor) -> None:
    """Notes the standard errors of the scores, (m, n) each."""
    attach("standard_error", errors)
    note("largest_standard_error", float(errors.max()))
    unclear = scores.abs() < 2 * errors
    note("share_below_two_standard_errors", float(unclear.double().mean()))
