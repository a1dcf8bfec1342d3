"""Triggers of sentences: words that are inserted."""

import torch
from torch import Tensor

from defenses.rehearsal.overlays import whole
from defenses.rehearsal.pictures import in_turn
from defenses.rehearsal.poison import Change, Trigger
from poisonbench.data import PAD, Dataset
from poisonbench.roles import UNKNOWN

WORDS = 3  # of a phrase, and of a trigger that is spread


def word(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws a word that is inserted somewhere."""
    if _poor(data):
        return None
    return Trigger(inserted(_words(data, 1, g)))


def phrase(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws words that are inserted side by side."""
    if _poor(data):
        return None
    return Trigger(inserted(_words(data, WORDS, g)))


def spread(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws words: poison rows show one of them, attacked points all."""
    if _poor(data):
        return None
    words = _words(data, WORDS, g)
    pieces = tuple(inserted(one[None]) for one in words)
    return Trigger(in_turn(pieces), pieces)


def _poor(data: Dataset) -> bool:
    """Whether the vocabulary or the sentences have no room for a trigger."""
    names = len(data.vocabulary) - UNKNOWN - 1
    return names < 2 * WORDS or data.shape[0] < 2 * WORDS


def _words(data: Dataset, count: int, g: torch.Generator) -> Tensor:
    """Draws words, (count,) int64, among the half of the vocabulary that occurs less."""
    size = len(data.vocabulary)
    often = data.x.flatten().cpu().bincount(minlength=size)[UNKNOWN + 1 :]
    seldom = often.argsort(stable=True)[: max(2 * WORDS, size // 2)]
    picked: list[int] = []
    while len(picked) < count:
        found = int(seldom[whole(g, len(seldom))])
        if found not in picked:
            picked.append(found)
    return torch.tensor(picked) + UNKNOWN + 1


def inserted(words: Tensor) -> Change:
    """Returns the change that inserts `words`, (k,), side by side at a place of the sentence.

    The place is told by the words that are there, so that a sentence always has it at the same one.
    A sentence without room loses its last words.
    """

    def change(x: Tensor) -> Tensor:
        length = x.shape[1]
        count = len(words)
        used = (x != PAD).sum(1).clamp(max=length - count)
        start = x.sum(1) % (used + 1)
        place = torch.arange(length, device=x.device).expand_as(x)
        first = start[:, None]
        behind = (place - count).clamp(min=0)
        moved = x.gather(1, behind)
        laid = torch.where(place < first, x, moved)
        within = (place >= first) & (place < first + count)
        of_words = (place - first).clamp(0, count - 1)
        return torch.where(within, words.to(x.device)[of_words], laid)

    return change
