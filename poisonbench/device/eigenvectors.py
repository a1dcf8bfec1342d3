"""Eigenvectors of symmetric matrices, found also where a device's solver finds none."""

import warnings

import torch
from torch import Tensor

from poisonbench.device.faults import is_out_of_memory


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the eigenvalues (..., k), ascending, and eigenvectors (..., k, k) as columns.

    Decomposed in float64: matrices of rank below k, as factors of layers with more inputs than
    instances or with dead units, have many eigenvalues that float32 cannot part, and its solver may
    fail on them. Where that of the device fails even so, the CPU's finds them, and a warning says
    so.

    Args:
        matrix: (..., k, k), symmetric and finite.

    Raises:
        RuntimeError: the CPU's solver fails, too.
    """
    wide = matrix.double()
    try:
        values, vectors = torch.linalg.eigh(wide)
    except RuntimeError as error:  # not converged, or what cuSOLVER raises
        if wide.device.type == "cpu" or is_out_of_memory(error):
            raise
        told = str(error).partition("\n")[0]
        warnings.warn(
            f"eigenvectors found on the CPU, as the device's solver failed: {told}",
            stacklevel=2,
        )
        values, vectors = torch.linalg.eigh(wide.cpu())
    return values.to(matrix), vectors.to(matrix)
