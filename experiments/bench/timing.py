"""Fair timings on a noisy machine: contestants take turns, figures are ratios within a round."""

import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from experiments.scene.cost import measured
from poisonbench.log import processor


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant, a value per round, and its largest peak of additional memory."""

    name: str
    seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def race(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    warm: int = 1,
) -> dict[str, Timing]:
    """Runs every contestant once a round, in turn, after `warm` rounds that are not counted.

    On one thread of a CPU the seconds are those of the processor, which other work on the machine
    hardly changes; else they are of the clock.

    Returns:
        A timing by name; contestants that raise are left out after a line that says why.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    peaks = dict.fromkeys(contestants, -1)
    for turn in range(rounds + warm):
        for name in list(seconds):
            try:
                with measured(device) as cost:
                    start = time.process_time()
                    contestants[name]()
                    of_processor = time.process_time() - start
            except Exception as error:  # a peer may fail in any way; that is a result
                print(f"{name}: left out, {type(error).__name__}: {error}")
                del seconds[name]
                continue
            if turn >= warm:
                took = of_processor if _alone(device) else cost.seconds
                seconds[name].append(took)
                peaks[name] = max(peaks[name], cost.peak_bytes)
    return {
        name: Timing(name, tuple(values), peaks[name])
        for name, values in seconds.items()
    }


def _alone(device: torch.device) -> bool:
    return device.type == "cpu" and torch.get_num_threads() == 1


def unit(device: torch.device) -> str:
    """Returns what the seconds of a race are."""
    if _alone(device):
        return "seconds of the processor"
    return "seconds of the clock"


def ratio(a: Timing, b: Timing) -> str:
    """Returns the median over the rounds of a/b, with its range."""
    values = sorted(x / y for x, y in zip(a.seconds, b.seconds, strict=True))
    return f"{statistics.median(values):.2f} [{values[0]:.2f}, {values[-1]:.2f}]"


def slope(sizes: Sequence[int], timings: Sequence[Timing]) -> float:
    """Returns the least-squares slope of log seconds (the fastest round of each) over log size."""
    xs = [math.log(size) for size in sizes]
    ys = [math.log(min(timing.seconds)) for timing in timings]
    return statistics.linear_regression(xs, ys).slope


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a pipe table, aligned for reading as text."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    rule = "|".join("-" * (width + 2) for width in widths)
    lines = [_line(head, widths), f"|{rule}|"]
    lines += [_line(row, widths) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    inside = " | ".join(padded)
    return f"| {inside} |"


def machine(device: torch.device) -> str:
    """Returns a line on the machine, the versions and the date."""
    parts = [
        _processor(device),
        f"{torch.get_num_threads()} threads",
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
        time.strftime("%Y-%m-%d", time.gmtime()),
    ]
    return ", ".join(parts)


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()
