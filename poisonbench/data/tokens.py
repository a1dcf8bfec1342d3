"""Sentences as token ids: which ids are words, and where padding may stand."""

from torch import Tensor

from poisonbench.data.dataset import Dataset
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
            f"{what} has token ids from {lowest} to {highest} in row {row}, outside [0, {size})",
            "give the word of every id: Dataset(x, y, classes, vocabulary=words)",
        )
    padded = ill_padded(data.x)
    if bool(padded.any()):
        row = int(padded.nonzero()[0, 0])
        raise DataError(
            f"{what} has padding (id {PAD}) before a word in row {row}, or no word at all: "
            f"{PADDING}",
            "move the words to the front; drop sentences without one",
        )
