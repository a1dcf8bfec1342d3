"""Letters beside points, where they are farthest from the points and from one another."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

CLOSE = (0.05, 0.05)  # between points that share a label
POINTS = np.array([210.0, 150.0])  # size of a panel whose axes run from 0 to 1, about
SIDES = (
    (-8, 0),
    (8, 0),
    (-7, -8),
    (7, -8),
    (-7, 8),
    (7, 8),
    (0, -10),
    (-14, 0),
    (14, 0),
)
# points between a letter and what is nearest: the first side that has them is taken
ENOUGH = 8.0

Place = tuple[float, float]


def write_letters(ax: Axes, places: Sequence[Place], letters: Sequence[str]) -> None:
    """Writes the letter of each point beside it, those of close points together.

    Args:
        ax: a panel whose axes run from 0 to 1.
        places: of the points.
        letters: of the points.
    """
    taken = [POINTS * place for place in places]
    for group in _close(places):
        middle = np.mean([places[index] for index in group], axis=0)
        rooms = []
        for shift in SIDES:
            away = np.subtract(taken, POINTS * middle + shift)
            rooms.append(np.linalg.norm(away, axis=1).min())
        best = SIDES[int(np.argmax(np.minimum(rooms, ENOUGH)))]
        taken.append(POINTS * middle + best)
        ax.annotate(
            "".join(sorted({letters[index] for index in group})),
            middle,
            xytext=best,
            textcoords="offset points",
            fontsize=7,
            ha="center",
            va="center",
            color="0.2",
        )


def _close(places: Sequence[Place]) -> list[list[int]]:
    """The indices of the points that share a label."""
    groups: list[list[int]] = []
    for index in sorted(range(len(places)), key=places.__getitem__):
        for group in groups:
            distance = np.abs(np.subtract(places[group[0]], places[index]))
            if (distance < CLOSE).all():
                group.append(index)
                break
        else:
            groups.append([index])
    return groups
