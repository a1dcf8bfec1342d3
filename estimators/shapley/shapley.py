"""Shapley values and their kin (for data: Ghorbani & Zou, ICML 2019, arXiv 1904.02868): an instance's share in a prediction.

Needs: models retrained on subsets of the training set; with method="knn" the final model alone, with penultimate features.

Cost: permutation about log(n), or n / stride, models a permutation, "banzhaf" and "beta" `models` of them;
new test points O(K) predictions and O(m n K) products for K models, kept in the scratch folder. "knn": O(n d + n log n) a point.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from estimators.kit.retraining import check_measure, with_and_without
from estimators.shapley.game import Answers, Empty, Game
from estimators.shapley.nearest_neighbours import knn_shapley
from estimators.shapley.permutations import fill
from estimators.shapley.sampling import Rule, Tally, sample
from estimators.shapley.semivalues import (
    Estimate,
    beta_weights,
    draw_halves,
    draw_sized,
    semivalues,
    size_distribution,
)
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import attach, note
from poisonbench.objectives import Measure
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace, check_trace

PROBES = 64  # training instances on which the standard error is judged before there are test points
METHODS = ("permutation", "knn", "banzhaf", "beta")


@dataclass(frozen=True)
class Shapley:
    """Scores phi_i, the mean over random orders of what instance i adds to the utility of the model trained on those before it.

    v(S) is the utility, at a test point, of the model trained with the recipe and the seed of the trace on the instances S alone.
    The standard errors of the scores, (m, n), go to the log as `standard_error`. Where a model diverges, what it is part of (a
    pair of permutations, a subset) is left out, and counted in the log.

    Attributes:
        method: "permutation": random permutations and their reverses, asked at every `stride`-th prefix (without bias, see
            `_permutations`); the scores of a test point sum to v(D) - v(empty). "knn": the exact values of a vote among the
            nearest `neighbours` in the final model's penultimate features (Jia et al. 2019), nothing is retrained. "banzhaf": the
            mean of v over subsets with i minus that over those without, each instance in half of them (Wang & Jia 2023).
            "beta": Beta(alpha, beta)-Shapley (Kwon & Zou 2022) from subsets that serve all instances at once; with
            alpha = beta = 1 these are Shapley values from other samples than permutations.
        permutations: at most so many, in pairs.
        precision: permutation sampling ends where the largest standard error is at most this part of what is shared out, the
            largest |v(D) - v(empty)|, on `PROBES` training instances (their influence on themselves left out), from 100
            permutations on; 0 never. Values are of the order of 1 / n of it: to rank single instances takes more.
        tolerance: truncation (TMC): a prefix with |v(D) - v(prefix)| below it counts as D, and so do all longer ones; a
            permutation ends where that holds for all probes. At stride 1 no marginal contribution moves by more than twice the
            tolerance if no longer prefix would have left it again, which only the game can promise. 0: none.
        stride: instances between two prefixes; 1 gives the marginal contributions of the definition, None strides about as
            long as the prefix, so that a permutation costs log(n) models, most of them small.
        models: of "banzhaf" and "beta".
        alpha, beta: alpha above beta weighs small subsets more.
        neighbours: K of "knn"; its utility is the share of the K votes for test.y, and `measure` plays no part.
        measure: at test.y, "loss" (minus the loss), "margin" or "correct".
        empty: what stands for the model trained on nothing: "chance" or "prior" (constant, the frequencies of the classes).
        players: "instances", or "labels": the classes play, and every instance has the value of its class, undivided.
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
    players: Literal["instances", "labels"] = "instances"
    seed: int = 0

    def __post_init__(self) -> None:
        check_measure(self.measure)
        choices = {
            "method": METHODS,
            "empty": ("chance", "prior"),
            "players": ("instances", "labels"),
        }
        for name, allowed in choices.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        for name, least in (("permutations", 2), ("models", 4), ("neighbours", 1), ("stride", 1)):
            if (count := getattr(self, name)) is not None and count < least:
                raise ValueError(f"{name} must be at least {least}, got {count}")
        for name in ("precision", "tolerance"):
            if not (0 <= (part := getattr(self, name)) < math.inf):
                raise ValueError(f"{name} must be finite and not negative, got {part}")
        for name in ("alpha", "beta"):
            if not (0 < (shape := getattr(self, name)) < math.inf):
                raise ValueError(f"{name} must be positive and finite, got {shape}")
        if self.method == "knn" and self.players == "labels":
            raise ValueError("players='labels' needs a method that retrains, got method='knn'")

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); retrains, or with "knn" computes the features of the training set."""
        check_trace(trace)
        if self.method == "knn":
            return self._neighbours(trace)
        y = trace.train.y.cpu()
        player = (
            torch.arange(len(y))
            if self.players == "instances"
            else torch.unique(y, return_inverse=True)[1]
        )
        game = Game(trace, player, self.measure, self.empty)
        estimate = self._permutation(game) if self.method == "permutation" else self._subsets(game)

        def score(test: Dataset) -> Tensor:
            if not len(test):
                return test.x.new_zeros(0, len(trace.train))
            values, errors = (
                part[:, player.to(part.device)].to(test.x.dtype) for part in estimate(test)
            )
            attach("standard_error", errors)
            note("largest_standard_error", float(errors.max()))
            note(
                "share_below_two_standard_errors",
                float((values.abs() < 2 * errors).double().mean()),
            )
            return values

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,)."""
        check_trace(trace)
        scorer, rows = self.fit(trace), torch.arange(len(trace.train), device=trace.train.x.device)
        return torch.cat(
            [
                scorer(trace.train.take(part)).gather(1, part[:, None]).squeeze(1)
                for part in rows.split(PROBES)
            ]
        )

    def _neighbours(self, trace: Trace) -> Scorer:
        body, K = trace.model().features, self.neighbours
        assert isinstance(body, torch.nn.Module)
        train = predict(body, trace.train.x).flatten(1)
        return lambda test: knn_shapley(
            train, trace.train.y, predict(body, test.x).flatten(1), test.y, K
        )

    def _permutation(self, game: Game) -> Callable[[Dataset], Estimate]:
        data, P = game.trace.train, game.players
        rows = torch.randperm(len(data), generator=generator(self.seed, "probes"))[:PROBES]
        whole = game.train(torch.ones(1, P, dtype=torch.bool))
        kept: list[Answers] = []

        def ends(test: Dataset) -> tuple[Tensor, Tensor]:
            empty = game.without_instances(test)
            return empty, whole.utility(test, empty)[0]

        def ask(masks: Tensor) -> Tensor:
            kept.append(game.train(masks))
            return kept[-1].utility(probes, empty)

        probes = data.take(rows)
        empty, full = ends(probes)
        rule = Rule(self.permutations, self.precision, self.stride, self.tolerance)
        drawn = sample(
            ask, P, empty, full, rule, self.seed, rows if self.players == "instances" else None
        )
        note("permutations", 2 * drawn.tally.pairs)
        note("models", sum(map(len, kept)) + 1)
        note("stride", self.stride or "growing")
        note("truncated", drawn.truncated)
        note("stopped", drawn.stopped)
        note("diverged_models", sum(answer.diverged for answer in kept))

        def estimate(test: Dataset) -> Estimate:
            (empty, full), answers = ends(test), iter(kept)
            tally = Tally.of(full, P)
            for part in drawn.rounds:
                values = [next(answers).utility(test, empty) for _ in part.visits]
                tally.add(part.walk, fill(part, values, empty, full, self.tolerance))
            return tally.values, tally.standard_error

        return estimate

    def _subsets(self, game: Game) -> Callable[[Dataset], Estimate]:
        g, weights = (
            generator(self.seed, "subsets"),
            beta_weights(game.players, self.alpha, self.beta),
        )
        halves = self.method == "banzhaf"
        whole = game.train(torch.ones(1, game.players, dtype=torch.bool))
        masks = (
            draw_halves(self.models, game.players, g)
            if halves
            else draw_sized(self.models, size_distribution(weights), g)
        )
        answers = game.train(masks)
        note("models", len(answers) + 1)
        note("diverged_models", answers.diverged)

        def estimate(test: Dataset) -> Estimate:
            empty = game.without_instances(test)
            values = answers.utility(test, empty)
            if halves:
                return with_and_without(values, masks)
            return semivalues(masks, values, weights, empty, whole.utility(test, empty)[0])

        return estimate
