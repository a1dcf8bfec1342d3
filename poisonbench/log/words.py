"""Rows of a log in words: sentences of token ids, and vectors whose features have names.

Needs no torch.
"""

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


def features(values: Sequence[float], columns: Sequence[str]) -> str:
    """Returns the features of a vector by their names: "age 0.52, sex=Male".

    A feature that is 0 is left out, and of one that is 1, such as a category, the name suffices.
    """
    told = []
    for name, value in zip(columns, values, strict=True):
        if value == 1:
            told.append(name)
        elif value != 0:
            told.append(f"{name} {value:.3g}")
    return ", ".join(told)
