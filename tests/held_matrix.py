"""An influence matrix in memory, in place of that in a log."""

from dataclasses import dataclass

import numpy as np

from experiments.report.explanation.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Held(Matrix):
    """Holds its values, (m, n)."""

    values: np.ndarray

    def on(self, point: int) -> np.ndarray:
        return self.values[point]
