"""Sentences as token ids: which ids are words, and where padding may stand."""

import torch
from torch import Tensor

from poisonbench.data.dataset import Dataset
from poisonbench.data.form import agreeing
from poisonbench.data.kind import PAD
from poisonbench.errors import DataError

PADDING = "a sentence begins with a word, and padding follows its last"


def strange(x: Tensor, vocabulary: int) -> Tensor:
    """Returns (n,) bool: the sentences of x, (n, L), with an id outside [0, vocabulary)."""
    outside = (x < 0) | (x >= vocabulary)
    return outside.any(1)


def ill_padded(x: Tensor) -> Tensor:
    """Returns (n,) bool: the sentences of x, (n, L), that begin with padding or have it inside."""
    is_word = x != PAD
    resumes = is_word[:, 1:] & ~is_word[:, :-1]
    return resumes.any(1) | ~is_word[:, 0]


def edits(one: Tensor, other: Tensor) -> Tensor:
    """Returns (n,) int64, by how many words the sentences of two (n, L) differ.

    Words are replaced, inserted or deleted (Levenshtein 1966), and padding is none. Cost: O(n L^2).
    """
    n, length = one.shape
    position = torch.arange(length + 1, device=one.device)
    row = position.expand(n, -1)  # from no word of `one` to the first words of `other`
    rows = [row]
    for i in range(length):
        replaced = row[:, :-1] + (one[:, i : i + 1] != other)
        reached = (row + 1).clone()
        reached[:, 1:] = torch.minimum(reached[:, 1:], replaced)
        # words inserted one after the other: the least of reached[j] + (k - j) over j <= k
        row = (reached - position).cummin(1).values + position
        rows.append(row)
    table = torch.stack(rows, 1)
    ends = (one != PAD).sum(1)
    others = (other != PAD).sum(1)
    return table[torch.arange(n, device=one.device), ends, others]


def check_sentences(data: Dataset, what: str) -> None:
    """Checks that token ids are of the vocabulary, and that padding follows the last word.

    Raises:
        DataError: names the first row, and the way out.
    """
    size = len(data.vocabulary)
    outside = strange(data.x, size)
    if bool(outside.any()):
        row = int(outside.nonzero()[0, 0])
        lowest = int(data.x[row].min())
        highest = int(data.x[row].max())
        raise DataError(
            f"{agreeing(what, 'has')} token ids from {lowest} to {highest} in row {row}, "
            f"outside [0, {size})",
            "give the word of every id: Dataset(x, y, classes, vocabulary=words)",
        )
    padded = ill_padded(data.x)
    if bool(padded.any()):
        row = int(padded.nonzero()[0, 0])
        raise DataError(
            f"{agreeing(what, 'has')} padding (id {PAD}) before a word in row {row}, "
            f"or no word at all: {PADDING}",
            "move the words to the front; drop sentences without one",
        )
