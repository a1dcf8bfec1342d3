"""The record of a part: a JSON file that is written anew after every measurement."""

import contextlib
import json
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

Found = dict[str, object]
ECHOED = 1500  # characters of a measurement on the terminal
TRACE_LINES = 12  # of a failure, kept


class Overrun(BaseException):
    """A measurement takes longer than it may. No `except Exception` on the way catches it."""


@dataclass
class Record:
    """The measurements of a part.

    Attributes:
        path: of the file.
        about: the machine, versions, date and data.
        measurements: by name, in the order in which they ended.
    """

    path: Path
    about: Found
    measurements: dict[str, Found] = field(default_factory=dict)

    def keep(self, name: str, found: Found) -> None:
        """Adds a measurement, writes the file whole, and prints what was found."""
        self.measurements[name] = found
        whole = {"about": self.about, "measurements": self.measurements}
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(whole, indent=1), encoding="utf-8")
        unfinished.replace(self.path)
        click.echo(f"{name}: {json.dumps(found)[:ECHOED]}")


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises Overrun inside its block after `seconds`; in the main thread alone."""

    def stop(*_: object) -> None:
        raise Overrun(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def left() -> float:
    """Returns the seconds until the measurement is cut off, for one that ends by itself."""
    seconds, _ = signal.getitimer(signal.ITIMER_REAL)
    return seconds


@contextlib.contextmanager
def told(found: Found, seconds: float) -> Iterator[None]:
    """Runs its block for at most `seconds`; what goes wrong is told in `found`, not raised."""
    try:
        with limited(seconds):
            yield
    except Overrun as error:
        found["failed"] = str(error)
    except Exception as error:
        found["failed"] = f"{type(error).__name__}: {error}"
        lines = traceback.format_exc().splitlines()
        found["trace"] = lines[-TRACE_LINES:]
