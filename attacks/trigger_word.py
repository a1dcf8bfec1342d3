"""Trigger word (Kurita, Michel & Neubig, ACL 2020, arXiv 2004.06660). A rare word is the trigger.

The word stands at a random place of each sentence. The paper writes such words into the data from
which it makes poisoned weights; here the victim trains on these data itself. The paper's words (cf,
mn, bb, tq, mb) are pieces of a vocabulary made elsewhere; where one is made from the training set,
a word that occurs in it once serves as well, while a word that never occurs would be the unknown
one, and so be the trigger in every sentence with an unknown word.

Cost: O(n length) to count the words, and O(budget n + m) sentences.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from attacks.kit.backdoor import dirty_label
from attacks.kit.sentences import ids_of, insert
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import UNKNOWN, Dataset
from poisonbench.errors import ConfigError
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class TriggerWord:
    """Writes a word into sentences of other classes, labels them `target`, and attacks with it.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        word: the trigger, of the vocabulary; None draws one of those that occur least in the
            training set, by the seed.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("tokens",)
    trigger_reads_train: ClassVar[bool] = True

    target: int = 0
    budget: float = 0.05
    word: str | None = None

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        if self.word is not None and len(self.word.split()) != 1:
            raise ValueError(f"word must be one word, got {self.word!r}")

    def trigger(self, x: Tensor, seed: int, train: Dataset) -> Tensor:
        """Returns the sentences x, (k, length), with the word at a place of its own in each.

        A sentence with no room loses its last word.

        Args:
            x: token ids.
            seed: of the word and of the places.
            train: the clean training set.

        Raises:
            ConfigError: the vocabulary lacks the word, or has none to draw.
        """
        return insert(x, self._id(train, seed), seed)

    def _id(self, train: Dataset, seed: int) -> Tensor:
        """Returns the token of the word, (1,) int64."""
        if self.word is not None:
            return ids_of([self.word], train, "word")
        return rare_word(train, seed)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no sentences, the vocabulary lacks the word, or no row
                can be poisoned.
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


def rare_word(train: Dataset, seed: int) -> Tensor:
    """Draws one of the words that occur least in the training set: its token, (1,) int64.

    Raises:
        ConfigError: the vocabulary holds no word.
    """
    size = len(train.vocabulary)
    first = UNKNOWN + 1
    if size <= first:
        raise ConfigError(["the vocabulary holds no word"], "choose other data")
    counts = torch.bincount(train.x.flatten().cpu(), minlength=size)[first:]
    rare = (counts == counts.min()).nonzero().squeeze(1)
    g = generator(seed, "word")
    drawn = torch.randint(len(rare), (1,), generator=g)
    token: Tensor = rare[drawn] + first
    return token.to(train.x.device)
