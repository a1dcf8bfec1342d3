"""A least-squares head, fitted to features some rows at a time.

The matrices of all rows are multiplied in the dtype of the features, and summed in float64: with
its regulariser the problem is well conditioned.

Cost: O(n D^2 + D^3) for D features, or n if these are more. Memory: the features and O(D^2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.head.inputs import Inputs
from poisonbench.data import Dataset

_COLUMNS = 256  # of the matrix of second moments that are computed together


@dataclass(frozen=True, eq=False)
class Head:
    """A least-squares head fitted to the one-hot labels.

    Attributes:
        inputs: what it sees of the training rows.
        factor: (D, D) float64, the Cholesky factor of their regularised second moments.
        points: (m, D) float64, the test points, whitened as by `white`.
        residual: (n, C) float64, label minus fit.
        votes: (m, C) float64, what it says of the test points.
    """

    inputs: Inputs
    factor: Tensor
    points: Tensor
    residual: Tensor
    votes: Tensor

    def white(self, rows: Tensor) -> Tensor:
        """Returns training rows (u,) so that their products are the hat matrix, (u, D)."""
        parts = [self._whitened(part) for part in self.inputs.parts(rows)]
        return torch.cat(parts)

    def pull(self, rows: Tensor) -> Tensor:
        """Returns what the residuals of training rows (r,) weigh, whitened, (D, C) float64."""
        classes = self.residual.shape[1]
        total = self.residual.new_zeros(self.inputs.width, classes)
        start = 0
        for part in self.inputs.parts(rows):
            stop = start + len(part)
            index = rows[start:stop]
            residual = self.residual[index]
            total += part.double().T @ residual
            start = stop
        white = self._whitened(total.T)
        return white.T

    def _whitened(self, inputs: Tensor) -> Tensor:
        """Returns inputs (k, D) after the triangular solve, (k, D)."""
        factor = self.factor.to(inputs.dtype)
        solved = torch.linalg.solve_triangular(
            factor,
            inputs.T,
            upper=False,
        )
        white: Tensor = solved.T
        return white


def fit_head(
    rows: Tensor,
    points: Tensor,
    train: Dataset,
    l2: float,
) -> Head:
    """Returns the head that minimises the mean squared error + l2 |W|^2 over the training rows.

    Args:
        rows: (n, d) features of the training rows.
        points: (m, d), of the test points.
        train: the n training rows, whose labels are fitted.
        l2: strength of the regulariser.
    """
    n = len(train)
    labels = F.one_hot(train.y, train.classes).double()
    inputs = Inputs.of(rows)
    width = inputs.width
    gram = labels.new_zeros(width, width)
    moment = labels.new_zeros(width, train.classes)
    start = 0
    for part in inputs.parts():
        _add_products(gram, part)
        stop = start + len(part)
        own = labels[start:stop]
        moment += part.double().T @ own
        start = stop
    gram.diagonal().add_(n * l2)
    # which reads the lower half alone
    factor = torch.linalg.cholesky(gram)
    weights = torch.cholesky_solve(moment, factor)
    fits = []
    for part in inputs.parts():
        fit = part.double() @ weights
        fits.append(fit)
    fitted = torch.cat(fits)
    seen = inputs.at(points.double())
    solved = torch.linalg.solve_triangular(
        factor,
        seen.T,
        upper=False,
    )
    return Head(
        inputs=inputs,
        factor=factor,
        points=solved.T,
        residual=labels - fitted,
        votes=seen @ weights,
    )


def _add_products(gram: Tensor, inputs: Tensor) -> None:
    """Adds inputs.T @ inputs, (b, D), to the lower half of gram, (D, D) float64.

    In blocks of columns, so that most of the upper half, which is the same, is not computed.
    """
    width = len(gram)
    for start in range(0, width, _COLUMNS):
        stop = min(width, start + _COLUMNS)
        below = inputs[:, start:]
        own = inputs[:, start:stop]
        products = below.T @ own
        gram[start:, start:stop] += products
