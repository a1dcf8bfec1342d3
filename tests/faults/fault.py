"""A planted fault, and what became of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A change of one formula that the quick tests beside it must notice.

    Attributes:
        file: path from the root of the tree.
        old: the text to replace; it occurs once in the file.
        new: the text that takes its place.
        tests: arguments of pytest: a file, a test, or a file with `-k` and an expression.
        equivalent: why no test can notice it, where that is so; empty otherwise.
    """

    file: str
    old: str
    new: str
    tests: str
    equivalent: str = ""

    @property
    def title(self) -> str:
        """The change in one line."""
        old = " ".join(self.old.split())
        new = " ".join(self.new.split())
        return f"{self.file}: {old} -> {new}"


@dataclass(frozen=True)
class Outcome:
    """What the tests said to a fault.

    Attributes:
        fault: that was planted.
        killed: the tests failed, as they should.
        seconds: how long they took.
        said: the last line that pytest printed.
    """

    fault: Fault
    killed: bool
    seconds: float
    said: str
