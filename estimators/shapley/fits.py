"""What is kept of a fit: the models of subsets, which give the values at new test points."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from estimators.kit.retraining import with_and_without
from estimators.shapley.game import Answers, Game
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
from estimators.shapley.walks import Round
from poisonbench.data import Dataset
from poisonbench.notes import note
from poisonbench.seeding import generator


class Fit(Protocol):
    """Models of subsets, trained once."""

    def estimate(self, test: Dataset) -> Estimate:
        """Returns values and standard errors of the P players at m test points, (m, P) each."""
        ...


@dataclass(frozen=True, eq=False)
class PermutationFit:
    """The models of the prefixes of permutations.

    Attributes:
        game: that was played.
        whole: the model of all players.
        rounds: the permutations and the prefixes that were asked.
        answers: the models of each call of each round, in order.
        tolerance: of the truncation.
    """

    game: Game
    whole: Answers
    rounds: list[Round]
    answers: list[Answers]
    tolerance: float

    def estimate(self, test: Dataset) -> Estimate:
        """Returns values and standard errors, (m, P) each."""
        empty = self.game.without_instances(test)
        full = self.whole.utility(test, empty)[0]
        tally = Tally.of(full, self.game.players)
        answers = iter(self.answers)
        for done in self.rounds:
            values = [next(answers).utility(test, empty) for _ in done.visits]
            tally.add(
                done.walk,
                fill(
                    round_=done,
                    values=values,
                    empty=empty,
                    full=full,
                    tolerance=self.tolerance,
                ),
            )
        return tally.values, tally.standard_error


def fit_permutations(
    game: Game,
    rule: Rule,
    seed: int,
    probes: Tensor,
    own: Tensor | None,
) -> PermutationFit:
    """Samples permutations and trains the models of their prefixes until the rule says stop.

    Args:
        game: of P players.
        rule: when to stop.
        seed: of the permutations.
        probes: (m,) int64, the training instances at which the standard errors are judged.
        own: (m,) int64 or None, the player that each of them is: not judged there.
    """
    points = game.trace.train.take(probes)
    whole = game.whole()
    empty = game.without_instances(points)
    full = whole.utility(points, empty)[0]
    answers: list[Answers] = []

    def ask(masks: Tensor) -> Tensor:
        answers.append(game.train(masks))
        return answers[-1].utility(points, empty)

    drawn = sample(
        ask=ask,
        players=game.players,
        empty=empty,
        full=full,
        rule=rule,
        seed=seed,
        own=own,
    )
    note("permutations", 2 * drawn.tally.pairs)
    note("models", sum(map(len, answers)) + 1)
    note("stride", rule.stride or "growing")
    note("truncated", drawn.truncated)
    note("stopped", drawn.stopped)
    note("diverged_models", sum(answer.diverged for answer in answers))
    return PermutationFit(
        game=game,
        whole=whole,
        rounds=drawn.rounds,
        answers=answers,
        tolerance=rule.tolerance,
    )


@dataclass(frozen=True, eq=False)
class BanzhafFit:
    """The models of subsets that hold each player with probability 1/2.

    Attributes:
        game: that was played.
        masks: (K, P) bool, the subsets.
        answers: their models.
    """

    game: Game
    masks: Tensor
    answers: Answers

    def estimate(self, test: Dataset) -> Estimate:
        """Returns values and standard errors, (m, P) each."""
        empty = self.game.without_instances(test)
        values = self.answers.utility(test, empty)
        return with_and_without(values, self.masks)


def fit_banzhaf(game: Game, models: int, seed: int) -> BanzhafFit:
    """Trains the models of `models` random halves."""
    g = generator(seed, "subsets")
    masks = draw_halves(models, game.players, g)
    answers = game.train(masks)
    _tell(answers)
    return BanzhafFit(game, masks, answers)


@dataclass(frozen=True, eq=False)
class BetaFit:
    """The models of subsets whose sizes are drawn by the weights of a semivalue.

    Attributes:
        game: that was played.
        whole: the model of all players.
        masks: (K, P) bool, the subsets.
        answers: their models.
        weights: (P,), of the semivalue.
    """

    game: Game
    whole: Answers
    masks: Tensor
    answers: Answers
    weights: Tensor

    def estimate(self, test: Dataset) -> Estimate:
        """Returns values and standard errors, (m, P) each."""
        empty = self.game.without_instances(test)
        full = self.whole.utility(test, empty)[0]
        values = self.answers.utility(test, empty)
        return semivalues(
            masks=self.masks,
            values=values,
            weights=self.weights,
            empty=empty,
            full=full,
        )


def fit_beta(
    game: Game,
    models: int,
    seed: int,
    alpha: float,
    beta: float,
) -> BetaFit:
    """Trains the models of `models` subsets for Beta(alpha, beta)-Shapley values."""
    weights = beta_weights(game.players, alpha, beta)
    g = generator(seed, "subsets")
    masks = draw_sized(models, size_distribution(weights), g)
    whole = game.whole()
    answers = game.train(masks)
    _tell(answers)
    return BetaFit(
        game=game,
        whole=whole,
        masks=masks,
        answers=answers,
        weights=weights,
    )


def _tell(answers: Answers) -> None:
    """Notes how many models were trained, that of all players among them."""
    note("models", len(answers) + 1)
    note("diverged_models", answers.diverged)
