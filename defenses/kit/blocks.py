"""Points some at a time, so that a table of them against the training rows fits into memory."""

from torch import Tensor

AT_ONCE = 1 << 22  # values of a matrix of influence that are copied at a time, 16 MiB


def in_blocks(index: Tensor, width: int, room: int | None = None) -> tuple[Tensor, ...]:
    """Returns the points `index` (b,) in order, in blocks of at most `room` numbers.

    Args:
        index: (b,) int64.
        width: numbers that a point takes.
        room: numbers that a block may take; a block holds one point at least. None: `AT_ONCE`.
    """
    size = (AT_ONCE if room is None else room) // max(1, width)
    blocks: tuple[Tensor, ...] = index.split(max(1, size))
    return blocks
