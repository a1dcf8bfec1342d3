"""Tables of Markdown."""

from collections.abc import Sequence


def table(
    head: Sequence[str],
    body: Sequence[Sequence[str]],
) -> str:
    """Returns a table, a line for each row of cells."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
