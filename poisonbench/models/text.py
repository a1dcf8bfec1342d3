"""Models of sentences, as features followed by a linear head.

A sentence is (L,) token ids, and 0 pads. What stands in the place of padding has no part in the
features, so that a sentence gets the same logits whatever it is padded to. Convolutions are linear
layers on windows of words: the same numbers, and many models train together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import KINDS, PAD, Layout
from poisonbench.errors import ConfigError
from poisonbench.models.pictures import Classifier

WIDTH = 64  # of a word's vector
WINDOWS = (3, 4, 5)  # words that a filter of `text-cnn` sees at once
FILTERS = 64  # of each size
BLOCKS = 2  # of `transformer`
HEADS = 4  # of its attention
HIDDEN = 128  # units between the two layers that follow attention
SPREAD = 0.1  # standard deviation of the vectors of words and places before training


class Windows(nn.Module):
    """Rectified filters on every window of words, and their maximum over the sentence.

    Attributes:
        size: w, the number of words in a window; it holds (w - 1) // 2 words before its place.
        filters: (w d,) -> (k,).
    """

    def __init__(self, size: int, width: int, filters: int) -> None:
        super().__init__()
        self.size = size
        self.filters = nn.Linear(size * width, filters)

    def forward(self, words: Tensor, there: Tensor) -> Tensor:
        """Maps vectors (B, L, d), zero at padding, to (B, k); there (B, L, 1) is 0 at padding."""
        before = (self.size - 1) // 2
        after = self.size - 1 - before
        padded = F.pad(words, (0, 0, before, after))
        length = words.shape[1]
        windows = [padded[:, k : k + length] for k in range(self.size)]
        found: Tensor = self.filters(torch.cat(windows, 2)).relu()
        # rectified numbers are at least 0, so that a 0 at padding never is the maximum
        return (found * there).amax(1)


class TextCNN(nn.Module):
    """Maxima over time of filters on windows of 3, 4 and 5 words."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = _vectors(vocabulary)
        layers = [Windows(size, WIDTH, FILTERS) for size in WINDOWS]
        self.windows = nn.ModuleList(layers)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps token ids (B, L) to features (B, 192)."""
        there = _there(ids, self.words)
        words = self.words(ids) * there
        found = [layer(words, there) for layer in self.windows]
        return torch.cat(found, 1)


class Attention(nn.Module):
    """Attention of every word to the words of its sentence (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter = nn.Linear(width, 3 * width)
        self.leave = nn.Linear(width, width)

    def forward(self, words: Tensor, there: Tensor) -> Tensor:
        """Maps (B, L, d) to the same shape; there (B, L, 1) is 0 at padding."""
        parts = self.enter(words).unflatten(2, (3, self.heads, -1))
        asked, offered, carried = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, L, d')
        scores = asked @ offered.mT / asked.shape[-1] ** 0.5
        absent = there[:, None].mT == 0  # (B, 1, 1, L)
        # a finite number: in a sentence without words all places weigh the same, and none is NaN
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(absent, lowest).softmax(3)
        mixed = (weights @ carried).transpose(1, 2)
        found: Tensor = self.leave(mixed.flatten(2))
        return found


class Block(nn.Module):
    """Attention and two layers, each normalised before and added to what it was given."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.second = nn.LayerNorm(width)
        self.wide = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, words: Tensor, there: Tensor) -> Tensor:
        """Maps (B, L, d) to the same shape; there (B, L, 1) is 0 at padding."""
        words = words + self.attention(self.first(words), there)
        inside = self.wide(self.second(words)).relu()
        out: Tensor = words + self.narrow(inside)
        return out


class Encoder(nn.Module):
    """Blocks of attention on words and their places, and the mean over the words."""

    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__()
        self.words = _vectors(vocabulary)
        self.places = _vectors(length)
        blocks = [Block(WIDTH, HEADS, HIDDEN) for _ in range(BLOCKS)]
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.LayerNorm(WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps token ids (B, L) to features (B, 64)."""
        there = _there(ids, self.words)
        order = torch.arange(ids.shape[1], device=ids.device)
        words = self.words(ids) + self.places(order.expand_as(ids))
        for block in self.blocks:
            words = block(words, there)
        total = (self.last(words) * there).sum(1)
        out: Tensor = total / there.sum(1).clamp(min=1)
        return out


def _vectors(count: int) -> nn.Embedding:
    """Returns a table of `count` vectors."""
    table = nn.Embedding(count, WIDTH)
    nn.init.normal_(table.weight, std=SPREAD)
    return table


def _there(ids: Tensor, table: nn.Embedding) -> Tensor:
    """Returns 1 for every word and 0 for padding, (B, L, 1), in the type of the vectors."""
    return (ids != PAD)[:, :, None].to(table.weight.dtype)


def _check_tokens(layout: Layout, name: str) -> None:
    if not KINDS[layout.kind].whole:
        told = (
            f"model {name!r} works on sentences of token ids, got kind {layout.kind!r}"
        )
        raise ConfigError([told], "use mlp, or cnn for images and spectrograms")


def text_cnn(layout: Layout) -> Classifier:
    """The convolutions of Kim (EMNLP 2014, arXiv 1408.5882) on vectors of words of its own.

    It has 49 k parameters and 64 for every word.
    """
    _check_tokens(layout, "text-cnn")
    features = TextCNN(layout.vocabulary)
    return Classifier(features, nn.Linear(len(WINDOWS) * FILTERS, layout.classes))


def transformer(layout: Layout) -> Classifier:
    """A small encoder: 2 blocks of attention with 4 heads (Vaswani et al. 2017, arXiv 1706.03762).

    It has 67 k parameters and 64 for every word and every place of a sentence.
    """
    _check_tokens(layout, "transformer")
    features = Encoder(layout.vocabulary, layout.shape[0])
    return Classifier(features, nn.Linear(WIDTH, layout.classes))
