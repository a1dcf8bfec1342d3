"""The look of an estimator: one colour and marker in every figure, whatever else is in a run."""

from collections.abc import Collection, Iterable
from typing import Any
from zlib import crc32

from experiments.evaluation.names import natural
from experiments.report.pictures.look import COLOURS, MARKERS

NO_INFLUENCE = "none"
# their places are the numbers of their looks: a new one is appended
FIXED = (
    "gas",
    "tracin",
    "influence-functions",
    "representer-point",
    "hydra",
    "shapley",
    "trak",
    NO_INFLUENCE,
    "downsampling",
    "leave-one-out",
    "screened",
)
LARGER = {"*": 1.6}  # a marker that is smaller than the others of its size
LOOKS: int = len(COLOURS) * len(MARKERS)


def point(number: int, size: float = 5.0) -> dict[str, Any]:
    """Returns the look of a point; colours and markers recur together only after 64 numbers."""
    shift = number // len(COLOURS)
    marker = MARKERS[(number + shift) % len(MARKERS)]
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": marker,
        "markersize": size * LARGER.get(marker, 1.0),
        "linestyle": "",
    }


def numbers(labels: Iterable[str]) -> dict[str, int]:
    """Returns the number of each estimator's look, in the order of their names.

    A built-in estimator has its own, another one that of its name. Settings of one estimator share
    its colour; the first has its marker.

    Args:
        labels: as the tables call them: a name, and the settings in which some differ;
            `NO_INFLUENCE` for detectors without influence, which comes last.
    """
    order = sorted(set(labels), key=_none_last)
    first: dict[str, str] = {}
    for label in order:
        first.setdefault(_name(label), label)
    others = [label for label in order if first[_name(label)] != label]
    found: dict[str, int] = {}
    for label in [*first.values(), *others]:
        found[label] = _free(_name(label), set(found.values()))
    return {label: found[label] for label in order}


def _free(name: str, taken: Collection[int]) -> int:
    """The number of a name, or the next of its colour, or any that no other has."""
    own = _own(name)
    if own not in taken:
        return own
    colours = len(COLOURS)
    alike = [*range(own + colours, LOOKS, colours), *range(own % colours, own, colours)]
    candidates: list[int] = [*alike, *range(LOOKS)]
    for number in candidates:
        if number >= len(FIXED) and number not in taken:
            return number
    return own


def _own(name: str) -> int:
    """The number that a name alone gives; those of built-in estimators are for no others."""
    if name in FIXED:
        return FIXED.index(name)
    others = LOOKS - len(FIXED)
    number: int = len(FIXED) + crc32(name.encode()) % others
    return number


def _name(label: str) -> str:
    """An estimator's name without settings and scene."""
    return label.split()[0].rstrip(",")


def _none_last(estimator: str) -> tuple[bool, list[tuple[float, str]]]:
    """A sort key."""
    return estimator == NO_INFLUENCE, natural(estimator)
