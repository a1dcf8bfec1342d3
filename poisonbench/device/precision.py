"""Matrix products and convolutions in full float32 precision: no TF32, and no bfloat16 on a CPU.

PyTorch keeps two records of it. The older one (`set_float32_matmul_precision`, `allow_tf32`) also
writes the newer (`fp32_precision` of each kind of operation), but not the other way about, and an
operation that finds them in contradiction raises an error. So the older one is written first.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

EXACT = "ieee"
INHERITED = "none"  # the operation does as the wider setting says
HIGHEST = "highest"


def _operations() -> tuple[Any, ...]:
    """What has a precision of its own, on CUDA and on the CPU."""
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    return (
        torch.backends.cuda.matmul,
        cudnn.conv,
        cudnn.rnn,
        mkldnn.matmul,
        mkldnn.conv,
        mkldnn.rnn,
    )


@dataclass(frozen=True)
class _Found:
    """The settings that are put back.

    Attributes:
        matmul: the older record of matrix products; "" where it contradicts the newer.
        cudnn: the older record of cuDNN; None where it contradicts the newer.
        operations: the newer record, an entry for each of `_operations`.
    """

    matmul: str
    cudnn: bool | None
    operations: tuple[str, ...]

    @classmethod
    def now(cls) -> "_Found":
        """Reads the settings."""
        matmul = ""
        cudnn = None
        operations = tuple(kind.fp32_precision for kind in _operations())
        with contextlib.suppress(RuntimeError):
            matmul = torch.get_float32_matmul_precision()
            # raises where the records contradict each other
            _ = torch.backends.cuda.matmul.allow_tf32
        with contextlib.suppress(RuntimeError):
            cudnn = torch.backends.cudnn.allow_tf32
        return cls(matmul, cudnn, operations)

    def put_back(self) -> None:
        """Writes the settings, the older record first, for it writes the newer one."""
        if self.matmul not in ("", HIGHEST):
            torch.set_float32_matmul_precision(self.matmul)
        if self.cudnn is not None:
            torch.backends.cudnn.allow_tf32 = self.cudnn
        for kind, value in zip(_operations(), self.operations, strict=True):
            kind.fp32_precision = INHERITED
            if kind.fp32_precision != value:
                kind.fp32_precision = value


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Products and convolutions in full float32 while it lasts; what was set is put back."""
    found = _Found.now()
    if found.matmul not in ("", HIGHEST):
        torch.set_float32_matmul_precision(HIGHEST)
    if found.cudnn:
        torch.backends.cudnn.allow_tf32 = False
    for kind in _operations():
        kind.fp32_precision = EXACT
    try:
        yield
    finally:
        found.put_back()
