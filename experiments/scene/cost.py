"""What happens around a stage: its wall seconds and memory, its warnings, the global state."""

import contextlib
import ctypes
import gc
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

# how many modules were loaded when their objects were last set aside
_frozen_modules = [0]
# the peaks of the blocks that are being measured, the innermost last
_peaks: list["_Peak"] = []


@dataclass
class Cost:
    """Filled when the measured block ends.

    Attributes:
        seconds: wall time.
        peak_bytes: on CUDA the allocator's peak; on a CPU, under Linux, the peak of resident
            memory; both less what was in use at the start. -1 where the system does not tell.
        start_bytes: what was in use at the start, -1 likewise.
    """

    seconds: float = 0.0
    peak_bytes: int = -1
    start_bytes: int = -1


@dataclass
class _Peak:
    """The highest reading of a block so far, in bytes: a block inside it resets the counter."""

    device: torch.device
    highest: int = -1

    def read(self) -> None:
        """Takes the counter's reading in."""
        self.highest = max(self.highest, _peak(self.device))


def _resident(field: str) -> int:
    """Returns a memory figure of this process in bytes, -1 where /proc is absent.

    Args:
        field: "VmRSS", now, or "VmHWM", the peak since the last reset.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return -1
    for line in lines:
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return -1


def _settle() -> None:
    """Frees what is no longer used, also to the system where glibc can.

    A peak of memory is then the block's own. Hundreds of thousands of objects belong to loaded
    modules: to look through them each time would take longer than most blocks, so they are left
    out of later collections, whenever modules have been loaded since the last one.
    """
    gc.collect()
    if len(sys.modules) != _frozen_modules[0]:
        _frozen_modules[0] = len(sys.modules)
        gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def measured(device: torch.device, after: Cost | None = None) -> Iterator[Cost]:
    """Measures its block on `device`; a CUDA device is synchronised before each reading.

    Args:
        device: where it computes.
        after: the cost of an earlier block whose results this one holds: memory is counted from
            the start of that one.
    """
    cost = Cost()
    for outer in _peaks:
        outer.read()
    cost.start_bytes = _start_watching(device)
    if after is not None:
        cost.start_bytes = after.start_bytes
    peak = _Peak(device)
    _peaks.append(peak)
    start = time.perf_counter()
    try:
        yield cost
    finally:
        _peaks.remove(peak)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        peak.read()
        if peak.highest >= 0 and cost.start_bytes >= 0:
            cost.peak_bytes = max(0, peak.highest - cost.start_bytes)


def _start_watching(device: torch.device) -> int:
    """Resets the peak of memory; returns the bytes in use, -1 where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    _settle()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    return _resident("VmRSS")


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _resident("VmHWM")


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Collects the warnings raised in its block as texts for the log."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    for warning in caught:
        text = str(warning.message)[:1000]
        if not issubclass(warning.category, DeprecationWarning) and text not in texts:
            texts.append(text)
