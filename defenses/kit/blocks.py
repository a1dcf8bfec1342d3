"""Points some at a time, so that a table of them against the training rows fits into memory."""

from torch import Tensor


def in_blocks(index: Tensor, width: int, room: int) -> tuple[Tensor, ...]:
    """Returns the points `index` (b,) in order, in blocks of at most `room` numbers.

    Args:
        index: (b,) int64.
        width: numbers that a point takes.
        room: numbers that a block may take; a block holds one point at least.
    """
    size = room // max(1, width)
    blocks: tuple[Tensor, ...] = index.split(max(1, size))
    return blocks
