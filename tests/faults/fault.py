"""A planted fault, what became of it, and the table of all."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


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

    def planted_in(self, text: str) -> str:
        """Returns the content of the file with the fault in it.

        Raises:
            ValueError: the text to replace does not occur exactly once.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"the text occurs {found} times, not once: {self.title}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Outcome:
    """What the tests said to a fault.

    Attributes:
        fault: that was planted.
        killed: the tests failed, as they should.
        seconds: how long they took.
        said: why it survived, or how it was killed.
    """

    fault: Fault
    killed: bool
    seconds: float
    said: str


def all_faults() -> list[Fault]:
    """Reads the tables beside this file, one for each package."""
    faults = []
    for path in sorted(HERE.glob("*.toml")):
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
        faults += [Fault(**row) for row in rows]
    return faults
