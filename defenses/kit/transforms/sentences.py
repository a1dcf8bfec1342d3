"""Sentences: with words dropped, with words hidden; two exchange their halves.

Words cannot be added up: Gao et al., TDSC 2021, arXiv 1911.10312, put those of one sentence in the
place of some of another's.
"""

import torch
from torch import Tensor

from poisonbench.data.kind import PAD, UNKNOWN


def closed_up(ids: Tensor, keep: Tensor) -> Tensor:
    """Returns the words of sentences that stay, without gaps; one at least, if an unknown one.

    Args:
        ids: (m, L) token ids; padding goes to the end.
        keep: (m, L) or (L,) bool.
    """
    stays = keep & (ids != PAD)
    order = stays.int().argsort(dim=1, descending=True, stable=True)
    moved = ids.gather(1, order)
    left = stays.gather(1, order)
    closed = moved.masked_fill(~left, PAD)
    closed[~left.any(1), 0] = UNKNOWN
    return closed


def dropped(ids: Tensor) -> Tensor:
    """Returns the sentences without the words at even places, counted from 0."""
    return closed_up(ids, _odd(ids))


def hidden(ids: Tensor) -> Tensor:
    """Returns the sentences with the words at odd places unknown, those that `dropped` leaves."""
    goes = _odd(ids) & (ids != PAD)
    return ids.masked_fill(goes, UNKNOWN)


def joined(first: Tensor, second: Tensor) -> Tensor:
    """Returns the first half of the words of one sentence, then the second half of the other's.

    Of an odd number of words the one in the middle is of the first half.

    Args:
        first: (m, L) or (1, L) token ids, padded at the end.
        second: the same.
    """
    m = max(len(first), len(second))
    length = first.shape[1]
    place = torch.arange(length, device=first.device)
    head = place < _middle(first)
    tail = place >= _middle(second)
    both = torch.cat([first.expand(m, -1), second.expand(m, -1)], 1)
    stays = torch.cat([head.expand(m, -1), tail.expand(m, -1)], 1)
    return closed_up(both, stays)[:, :length]


def _odd(ids: Tensor) -> Tensor:
    """Whether each place of a sentence is odd, (L,)."""
    return torch.arange(ids.shape[1], device=ids.device) % 2 == 1


def _middle(ids: Tensor) -> Tensor:
    """Half the words of each sentence, rounded up, (m, 1)."""
    words = (ids != PAD).sum(1, keepdim=True)
    return (words + 1) // 2


def perturbed(ids: Tensor, _train: Tensor) -> list[Tensor]:
    """Returns them with half of the words dropped, and with the other half hidden."""
    return [dropped(ids), hidden(ids)]


def added(ids: Tensor, other: Tensor) -> list[Tensor]:
    """Returns each sentence's beginning with another's end, and the reverse."""
    one = other[None]
    return [joined(ids, one), joined(one, ids)]
