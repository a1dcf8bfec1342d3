"""Poison from a file that `poisonbench export` wrote: one attack's result, bit for bit.

It serves under any other recipe or model.

Cost: reading the file, and the hash of the data set.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from poisonbench import log
from poisonbench.checks import check_fraction
from poisonbench.contracts.values import Poisoned
from poisonbench.data import KINDS, Dataset
from poisonbench.errors import ConfigError, LogError
from poisonbench.log import names
from poisonbench.poison_file import KIND, read_poison
from poisonbench.training import Recipe


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class File:
    """Returns the poison of a file, whatever the recipe and the seed.

    Attributes:
        path: the file, from the folder in which the command runs.
        sha256: of the file; "" takes it from the file. It is part of the configuration: another
            file is another scene.
        budget: poisoned rows as a fraction of the training set, to which the file must keep; None
            for what the file itself claims.

    Raises:
        ValueError: no such file, no poison file, or a value out of its range.
    """

    path: str
    sha256: str = ""
    budget: float | None = None

    seeded = False  # equal poison for every seed

    def __post_init__(self) -> None:
        if self.budget is not None:
            check_fraction("budget", self.budget)
        if self.sha256:
            if not re.fullmatch("[0-9a-f]{64}", self.sha256):
                raise ValueError(f"sha256 must be 64 hex digits, got {self.sha256!r}")
            return  # the file itself may be elsewhere by now: what is done needs it no more
        try:
            log.read(Path(self.path), KIND, keys=())
            object.__setattr__(self, "sha256", sha256_of(Path(self.path)))
        except (LogError, OSError) as error:
            rule = "path must be a file that `poisonbench export` wrote"
            raise ValueError(f"{rule}: {error}") from error

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of data that the file tells; all, if it tells none or is elsewhere by now."""
        try:
            record = log.read(Path(self.path), KIND, keys=(names.KIND,))
            return (record.text(names.KIND),)
        except LogError:
            return tuple(KINDS)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Returns the poison of the file.

        Raises:
            ConfigError: the file is gone, or no longer the one of the configuration.
            DataError: `train` and `test` are not the data set that the poison was made from.
            PoisonError: the poison breaks the contract, or what the file claims of it.
            LogError: the file is damaged, foreign or hostile.
        """
        path = Path(self.path)
        try:
            found = sha256_of(path)
        except OSError as error:
            what = f"path {self.path!r}: {error.strerror or error}"
            raise ConfigError([what], "put the poison file back") from error
        if found != self.sha256:
            what = f"{self.path} is another file than the grid names"
            why = f"its sha256 is {found}, not {self.sha256}"
            way_out = "put the file back, or run the grid without `sha256`: a new scene"
            raise ConfigError([f"{what}: {why}"], way_out)
        return read_poison(path, train, test)
