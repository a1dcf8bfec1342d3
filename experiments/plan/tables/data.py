"""The table of a grid file that names a data set."""

from dataclasses import dataclass, field
from typing import Any

from experiments.plan.identity import configuration
from poisonbench.checks import check_at_least
from poisonbench.data.classes import named_classes


@dataclass(frozen=True)
class DataSpec:
    """A data set, whole or a stratified subset drawn by the scene's seed.

    Attributes:
        name: for `poisonbench.data.load`.
        train: training rows, None for all.
        test: test rows, None for all.
        classes: the classes that are kept, by name or number; their labels become 0, 1, ... in
            this order. Empty for all. `train` and `test` count rows of these.
        sha256: of all rows of a data set from outside; None if built in or not yet loaded.

    Raises:
        ValueError: no rows, or no such classes.
    """

    name: str = "digits"
    train: int | None = None
    test: int | None = None
    classes: tuple[int | str, ...] = field(
        default=(), metadata={"configured": "when changed"}
    )
    sha256: str | None = field(default=None, metadata={"configured": False})

    def __post_init__(self) -> None:
        check_at_least("train", self.train, 1)
        check_at_least("test", self.test, 1)
        named = named_classes(self.name, self.classes)
        object.__setattr__(self, "classes", named)

    @property
    def config(self) -> dict[str, Any]:
        """All that its rows depend on."""
        config: dict[str, Any] = configuration(self)
        if self.sha256:
            config["sha256"] = self.sha256
        return config

    @property
    def label(self) -> str:
        """The name, with the classes that are kept where not all are."""
        return "-".join(str(word) for word in (self.name, *self.classes))
