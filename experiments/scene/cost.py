"""What happens around a stage: its cost in wall seconds and memory, the warnings it raises, the global state it must not move."""

import contextlib
import ctypes
import gc
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Cost:
    """Filled when the measured block ends.

    Attributes:
        seconds: wall time.
        peak_bytes: on CUDA the allocator's peak; on a CPU, under Linux, the peak of resident memory; both less what was in use
            at the start. -1 where the system does not tell.
    """

    seconds: float = 0.0
    peak_bytes: int = -1


def _resident(field: str) -> int:
    """Returns VmRSS (now) or VmHWM (peak since the last reset) of this process in bytes, -1 where /proc is absent."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return -1
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), -1)


def _settle() -> None:
    """Frees what is no longer used, also to the system where glibc can, so that a peak of memory is the block's own."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measures its block on `device`; a CUDA device is synchronised before each reading."""
    cost = Cost()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        _settle()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = _resident("VmRSS")
    start = time.perf_counter()
    try:
        yield cost
    finally:
        if cuda:
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated(device) if cuda else _resident("VmHWM")
        cost.peak_bytes = max(0, peak - before) if min(peak, before) >= 0 else -1


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Collects the warnings raised in its block as texts for the log; puts back the global generator and default dtype."""
    state, dtype, threads = (
        torch.random.get_rng_state(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
    )
    texts: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield texts
    finally:
        torch.random.set_rng_state(state)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
    texts += dict.fromkeys(
        str(w.message)[:1000] for w in caught if not issubclass(w.category, DeprecationWarning)
    )
