"""Sentences of token ids in words. Needs no torch."""

from collections.abc import Sequence

from poisonbench.roles import PAD


def sentence(ids: Sequence[int], vocabulary: Sequence[str]) -> str:
    """Returns the words of a row of token ids without its padding; an id without a word as #id."""
    words = [_word(index, vocabulary) for index in ids if index != PAD]
    return " ".join(words)


def _word(index: int, vocabulary: Sequence[str]) -> str:
    if 0 <= index < len(vocabulary):
        return vocabulary[index]
    return f"#{index}"
