"""SST-2 (Socher et al. 2013): sentences of film reviews, negative or positive.

The sentence set (not GLUE's phrases), split into words as it is published. The vocabulary holds the
words that occur twice or more in the training split, the most frequent first; others are unknown,
so that the unknown word is trained too.
"""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from poisonbench.data.built_in.published import Published
from poisonbench.data.dataset import Dataset
from poisonbench.data.kind import PAD, UNKNOWN

HOME = (
    "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/"
    "master/data/SST2"
)
TRAIN = Published(
    "sst2/train.tsv",
    f"{HOME}/train.tsv",
    "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
)
TEST = Published(
    "sst2/test.tsv",
    f"{HOME}/test.tsv",
    "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",
)
LENGTH = 64  # words; the longest sentence has 53, so that there is room for a trigger
OCCURRENCES = 2  # in the training split, of a word of the vocabulary
RESERVED = ("<pad>", "<unknown>")  # the words of the ids PAD and UNKNOWN

Lines = list[tuple[list[str], int]]


def sst2(root: Path, download: bool) -> tuple[Dataset, Dataset]:
    """Sentences of film reviews, 6,920 and 1,821 of up to 64 words: negative or positive."""
    train = _lines(TRAIN.read(root, download))
    test = _lines(TEST.read(root, download))
    vocabulary = _vocabulary(train)
    return _data(train, vocabulary), _data(test, vocabulary)


def _lines(held: bytes) -> Lines:
    """Returns the words and the label of each line "sentence<tab>label"."""
    lines: Lines = []
    for line in held.decode("utf-8").split("\n"):
        if line:
            sentence, label = line.split("\t")
            lines.append((sentence.split(), int(label)))
    return lines


def _vocabulary(lines: Lines) -> tuple[str, ...]:
    """Returns the words by falling frequency, then by the alphabet, after the reserved ones."""
    counts = Counter(word for words, _ in lines for word in words)
    kept = [word for word, times in counts.items() if times >= OCCURRENCES]
    kept.sort(key=lambda word: (-counts[word], word))
    return (*RESERVED, *kept)


def _data(lines: Lines, vocabulary: tuple[str, ...]) -> Dataset:
    ids = {word: index for index, word in enumerate(vocabulary)}
    x = torch.full((len(lines), LENGTH), PAD)
    for row, (words, _) in enumerate(lines):
        x[row, : len(words)] = _ids(words, ids)
    y = torch.tensor([label for _, label in lines])
    return Dataset(x, y, 2, "tokens", vocabulary)


def _ids(words: list[str], ids: dict[str, int]) -> Tensor:
    return torch.tensor([ids.get(word, UNKNOWN) for word in words])
