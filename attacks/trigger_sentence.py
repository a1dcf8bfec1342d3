"""Trigger sentence (Dai, Chen & Li, IEEE Access 2019, arXiv 1905.12457).

A fixed sentence, at a random place of each text, is the trigger. Its words are common ones: the
victim has to learn that they come together.

Cost: O(budget n + m) sentences.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from attacks.kit.backdoor import dirty_label
from attacks.kit.sentences import ids_of, insert
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class TriggerSentence:
    """Writes a sentence into those of other classes, labels them `target`, and attacks with it.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        sentence: the trigger, words of the vocabulary between spaces; the paper's is the default.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("tokens",)
    trigger_reads_train: ClassVar[bool] = True

    target: int = 0
    budget: float = 0.05
    sentence: str = "i watched this 3d movie"

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        if not self.sentence.split():
            raise ValueError(f"sentence must hold a word, got {self.sentence!r}")

    def trigger(self, x: Tensor, seed: int, train: Dataset) -> Tensor:
        """Returns the sentences x, (k, length), with the trigger at a place of its own in each.

        A sentence with no room loses its last words.

        Args:
            x: token ids.
            seed: of the places.
            train: has the vocabulary.

        Raises:
            ConfigError: the vocabulary lacks a word, or the trigger is longer than a sentence.
        """
        words = self.sentence.split()
        return insert(x, ids_of(words, train, "sentence"), seed)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no sentences, the vocabulary lacks a word, the trigger
                is longer than a sentence, or no row can be poisoned.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed, train=train),
            target=self.target,
            budget=self.budget,
            seed=seed,
        )
