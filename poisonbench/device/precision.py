"""Matrix products and convolutions in full float32 precision: no TF32, and no bfloat16 on a CPU.

A method may ask for TF32: on NVIDIA's tensor cores, the factors of a product rounded to 11 bits.
Or for bfloat16: the gradient engine then passes a model of bfloat16, and all sums of products are
those of float32; what is left in float32 may be TF32, which keeps every number of bfloat16.

PyTorch keeps two records of it. The older one (`set_float32_matmul_precision`, `allow_tf32`) also
writes the newer (`fp32_precision` of each kind of operation), but not the other way about, and an
operation that finds them in contradiction raises an error. So the older one is written first.

Autocast of a caller would round what is computed inside its block: it is off here, too.
"""

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch

Precision = Literal["full", "tf32", "bf16"]
EXACT = "ieee"
TF32 = "tf32"
BF16 = "bf16"
INHERITED = "none"  # the operation does as the wider setting says
CASTING = ("cpu", "cuda")  # kinds of device that have an autocast of their own
OLDER = {EXACT: "highest", TF32: "high"}  # the same in the older record
_asked: ContextVar[str] = ContextVar("_asked", default=EXACT)

# PyTorch 2.9 warns of the older record where it is first read in a process: here, unheard
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.get_float32_matmul_precision()


def _on_cuda() -> tuple[Any, ...]:
    """What has a precision of its own on CUDA."""
    cudnn: Any = torch.backends.cudnn
    return (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)


def _operations() -> tuple[Any, ...]:
    """What has a precision of its own, on CUDA and on the CPU."""
    mkldnn: Any = torch.backends.mkldnn
    return (*_on_cuda(), mkldnn.matmul, mkldnn.conv, mkldnn.rnn)


@dataclass(frozen=True)
class _Found:
    """The settings that are put back.

    Attributes:
        matmul: the older record of matrix products; "" where it contradicts the newer.
        cudnn: the older record of cuDNN; None where it contradicts the newer.
        operations: the newer record, an entry for each of `_operations`.
        reduced: whether cuBLAS may add up products of bfloat16 in bfloat16.
    """

    matmul: str
    cudnn: bool | None
    operations: tuple[str, ...]
    reduced: bool

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
        reduced = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        return cls(matmul, cudnn, operations, reduced)

    def put_back(self) -> None:
        """Writes the settings, the older record first, for it writes the newer one."""
        if self.matmul:
            torch.set_float32_matmul_precision(self.matmul)
        if self.cudnn is not None:
            torch.backends.cudnn.allow_tf32 = self.cudnn
        for kind, value in zip(_operations(), self.operations, strict=True):
            kind.fp32_precision = INHERITED
            if kind.fp32_precision != value:
                kind.fp32_precision = value
        if self.reduced:
            _allow_reduced(True)

    def write(self, wanted: str) -> None:
        """Sets what CUDA computes with, the older record first; the CPU is exact.

        Where the records contradict each other, and so could not be put back, all is exact.
        """
        if wanted == BF16:
            _allow_reduced(False)
            wanted = TF32
        told = bool(self.matmul) and self.cudnn is not None
        if not told:
            wanted = EXACT
        if self.matmul not in ("", OLDER[wanted]):
            torch.set_float32_matmul_precision(OLDER[wanted])
        if self.cudnn is not None and self.cudnn != (wanted == TF32):
            torch.backends.cudnn.allow_tf32 = wanted == TF32
        for kind in _operations():
            kind.fp32_precision = EXACT
        for kind in _on_cuda():
            kind.fp32_precision = wanted


def _allow_reduced(allowed: bool) -> None:
    """Says whether cuBLAS may add up products of bfloat16 in bfloat16."""
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = allowed


@contextlib.contextmanager
def asking(precision: Precision) -> Iterator[None]:
    """Lets `full_precision` allow TF32 on CUDA inside its block, where less than "full" is asked.

    With "bf16" the sums of bfloat16 are those of float32 there.
    """
    token = _asked.set(EXACT if precision == "full" else precision)
    try:
        yield
    finally:
        _asked.reset(token)


def asked() -> str:
    """Returns what is asked for: EXACT, TF32 or BF16."""
    return _asked.get()


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Products and convolutions in full float32 while it lasts; what was set is put back.

    Inside `asking("tf32")` and `asking("bf16")` they are those of TF32 on CUDA. Autocast is off.
    """
    found = _Found.now()
    cast = {kind: torch.is_autocast_enabled(kind) for kind in CASTING}
    found.write(asked())
    for kind in CASTING:
        torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        for kind, enabled in cast.items():
            torch.set_autocast_enabled(kind, enabled)
        found.put_back()
