"""Instances as they are shown to people: pictures, or words. Needs no torch itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from poisonbench.log.words import sentence

if TYPE_CHECKING:
    from poisonbench.data import Dataset

NOUNS = {
    "image": "images",
    "spectrogram": "sounds",
    "tokens": "sentences",
    "vector": "rows",
}
MOST_FEATURES = 20  # of a vector, those of largest magnitude


class Some:
    """Some rows of a table, by their numbers in the whole of it."""

    def __init__(self, values: NDArray[Any], rows: Sequence[int]) -> None:
        self._values = values
        self._places = {row: place for place, row in enumerate(rows)}

    def __getitem__(self, row: int) -> Any:
        """Returns the row of that number; KeyError where it is not among these."""
        return self._values[self._places[int(row)]]


@dataclass(frozen=True, eq=False)
class Instances:
    """Instances with their labels, and what it takes to show them.

    Attributes:
        x: (n, *shape), or `Some` of these rows.
        y: (n,) labels, or those of the same rows.
        kind: of the data, a key of `poisonbench.data.KINDS`.
        vocabulary: of sentences, the word of every token id.
        columns: of vectors, the name of every feature; may be empty.
    """

    x: Any
    y: Any
    kind: str = "image"
    vocabulary: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: "Dataset") -> "Instances":
        """Returns the instances of a data set."""
        return cls(
            x=data.x.cpu().numpy(),
            y=data.y.cpu().numpy(),
            kind=str(data.kind),
            vocabulary=data.vocabulary,
            columns=data.columns,
        )

    def numbered(self, rows: Sequence[int]) -> "Instances":
        """Returns the same as rows of a whole that are found by their numbers there."""
        return replace(self, x=Some(self.x, rows), y=Some(self.y, rows))

    @property
    def noun(self) -> str:
        """What training instances are called."""
        return f"training {NOUNS[self.kind]}"

    @property
    def are_pictures(self) -> bool:
        """Whether they are drawn; others are written."""
        return self.kind in ("image", "spectrogram")

    def at(self, x: NDArray[Any]) -> str:
        """Returns an instance x, (*shape), in words; "" for a picture."""
        if self.kind == "tokens":
            return sentence(x.tolist(), self.vocabulary)
        if self.kind == "vector":
            return ", ".join(self._features(x.ravel()))
        return ""

    def _features(self, x: NDArray[Any]) -> list[str]:
        """The features of a vector that are not 0, at most `MOST_FEATURES`, in their order."""
        largest_first = np.argsort(-np.abs(x), kind="stable")
        chosen = np.sort(largest_first[:MOST_FEATURES])
        return [self._feature(int(i), float(x[i])) for i in chosen if x[i] != 0]

    def _feature(self, index: int, value: float) -> str:
        name = self.columns[index] if self.columns else f"x{index}"
        is_category = "=" in name and value == 1
        return name if is_category else f"{name} {value:.3g}"
