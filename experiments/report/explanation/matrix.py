"""An influence matrix as it lies in its log: what is shown reads the rows that it shows alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.report.explanation.ranked import Values
from poisonbench import log
from poisonbench.log import names


@dataclass(frozen=True)
class Matrix:
    """The influence of every training row on every probe point, (m, n), by one estimator.

    Attributes:
        path: of its log.
        config: of the estimator, its name among it.
    """

    path: Path
    config: Mapping[str, Any]

    @property
    def estimator(self) -> str:
        """The name of the estimator."""
        return str(self.config["name"])

    @classmethod
    def of(cls, path: Path) -> "Matrix":
        """Returns that of a log of kind "influence", of which the head alone is read.

        Raises:
            LogError: the log is damaged.
        """
        head = log.read(path, "influence", keys=())
        return cls(path, head.config["estimator"])

    def on(self, point: int) -> Values:
        """Returns the influence of the training rows on a point of the probe, (n,).

        Raises:
            LogError: the log is damaged, or has not that point.
        """
        keys = (names.INFLUENCE,)
        found = log.read(self.path, "influence", keys=keys, rows=[point])
        values: Values = found.data[names.INFLUENCE][0]
        return values
