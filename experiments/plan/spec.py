"""What a grid is made of: frozen values with a canonical configuration, and the names that follow from it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from experiments.plan.identity import configuration, identifier
from poisonbench.training import Recipe
from poisonbench.training.start import Trained


@dataclass(frozen=True)
class Method:
    """An attack, an estimator or a defense under the name by which the grid calls it.

    Attributes:
        name: a name of its table, or package.module:Class.
        value: the frozen dataclass itself.
    """

    name: str
    value: Any

    @property
    def config(self) -> dict[str, Any]:
        """The name and all hyperparameters, defaults included."""
        return {"name": self.name, **configuration(self.value)}

    def reads(self, what: str) -> bool:
        """Whether it declares in `uses` that it reads "influence", "reference", "oracle", ..."""
        return what in getattr(self.value, "uses", ())


@dataclass(frozen=True)
class DataSpec:
    """A data set, whole or a stratified subset drawn by the scene's seed.

    Attributes:
        name: for `poisonbench.data.load`.
        train: training rows, None for all.
        test: test rows, None for all.
    """

    name: str = "digits"
    train: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class TransferSpec:
    """The pretrained model from which the victim starts: how it is made, or the file that holds it.

    Attributes:
        rows: training rows on which it is pretrained by the victim's recipe, drawn by the scene's seed and disjoint from those of
            the victim; 0 without a `state`: there is none, the victim trains from scratch.
        epochs: of the pretraining, None: the recipe's.
        lr: of the pretraining, None: the recipe's.
        trained: "head" freezes the features, "all" fine-tunes them.
        keep_head: the victim starts with the pretrained head; otherwise with a fresh one.
        state: the given model instead: the trace.h5 of a run (its final model), or a state dict that torch.save wrote.
        sha256: of the file `state`; takes its place in the configuration.

    Raises:
        ValueError: a value out of its range, or no such file.
    """

    rows: int = 0
    epochs: int | None = None
    lr: float | None = None
    trained: Trained = "head"
    keep_head: bool = False
    state: str | None = field(default=None, metadata={"configured": False})
    sha256: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ValueError(f"rows must be at least 0, got {self.rows}")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if self.trained not in get_args(Trained):
            raise ValueError(
                f"trained must be one of {', '.join(get_args(Trained))}, got {self.trained!r}"
            )
        if self.state is None:
            return
        if self.rows or self.epochs is not None or self.lr is not None:
            raise ValueError(
                f"a given state is not pretrained: leave out rows, epochs and lr, or the state {self.state!r}"
            )
        try:
            content = Path(self.state).read_bytes()
        except OSError as error:
            raise ValueError(
                f"state {self.state!r} in {Path.cwd()}: {error.strerror or error}"
            ) from error
        object.__setattr__(self, "sha256", hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class ProbeSpec:
    """How many test points a scene judges.

    Attributes:
        attacked: attacked test points, at most.
        controls: clean controls, at most; half of them, as far as there are, predicted as a label that the attacker wants.
        calibration: further clean test points, which only set the thresholds: a defender's small trusted set.
    """

    attacked: int = 40
    controls: int = 100
    calibration: int = 150

    def __post_init__(self) -> None:
        for name, least in (("attacked", 1), ("controls", 2), ("calibration", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Scene:
    """A data set, a recipe, an attack and a seed: one poisoned training run and the points on which it is judged."""

    dataset: DataSpec
    recipe: Recipe
    attack: Method
    seed: int
    probe: ProbeSpec
    transfer: TransferSpec | None = None

    @property
    def config(self) -> dict[str, Any]:
        """All that the scene's results depend on."""
        names = (
            ("dataset", "recipe", "probe")
            if self.transfer is None
            else ("dataset", "recipe", "probe", "transfer")
        )
        plain = {name: configuration(getattr(self, name)) for name in names}
        return {**plain, "attack": self.attack.config, "seed": self.seed}

    @property
    def id(self) -> str:
        """Folder name, readable and unique."""
        model = self.recipe.model if self.transfer is None else f"{self.recipe.model}-transfer"
        return identifier(
            f"{self.dataset.name}-{model}-{self.attack.name}-s{self.seed}", self.config
        )


@dataclass(frozen=True)
class Remedy:
    """A mitigation, and on whose verdicts it works.

    Attributes:
        method: the mitigation.
        of: kind ("estimator", "detector", "filter") -> names of methods of the grid; of a kind not named it takes all.
    """

    method: Method
    of: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def takes(self, kind: str, method: Method) -> bool:
        """Whether it works on this method's results."""
        return method.name in dict(self.of).get(kind, (method.name,))


@dataclass(frozen=True)
class Grid:
    """All scenes of a run, and the methods applied to each."""

    name: str
    scenes: tuple[Scene, ...]
    estimators: tuple[Method, ...] = ()
    detectors: tuple[Method, ...] = ()
    alarm: float = 0.05
    filters: tuple[Method, ...] = ()
    certifiers: tuple[Method, ...] = ()
    mitigations: tuple[Remedy, ...] = ()
