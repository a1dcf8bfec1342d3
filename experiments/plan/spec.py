"""What a grid is made of: frozen values with a canonical configuration, and names from it."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

from experiments.plan.identity import configuration, identifier
from experiments.plan.outside import digest_of_file, version_mark
from experiments.plan.tables.data import DataSpec
from poisonbench.checks import check_at_least, check_choice, check_positive
from poisonbench.training import Recipe
from poisonbench.training.start import Trained


@dataclass(frozen=True)
class Method:
    """An attack, an estimator or a defense under the name by which the grid calls it.

    Attributes:
        name: a name of its table, or package.module:Class.
        value: the frozen dataclass itself.
        code: sha256 of the code behind the name, "" where it is built in.
    """

    name: str
    value: Any
    code: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """The name, all hyperparameters, defaults included, and the code if it is not built in."""
        config = {"name": self.name, **configuration(self.value)}
        if self.code:
            config["code"] = self.code
        return config

    def reads(self, what: str) -> bool:
        """Whether it declares in `uses` that it reads "influence", "reference", "oracle", ..."""
        return what in getattr(self.value, "uses", ())


@dataclass(frozen=True)
class TransferSpec:
    """The pretrained model from which the victim starts: how it is made, or the file that holds it.

    Attributes:
        rows: training rows for pretraining by the victim's recipe, drawn by the scene's seed, none
            of which the victim sees; 0 without a `state`: the victim trains from scratch.
        epochs: of the pretraining, None: the recipe's.
        lr: of the pretraining, None: the recipe's.
        trained: "head" freezes the features, "all" fine-tunes them.
        keep_head: the victim starts with the pretrained head; otherwise with a fresh one.
        state: a given model instead: the trace.h5 of a run, or a file of torch.save or safetensors.
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
        check_at_least("rows", self.rows, 0)
        check_at_least("epochs", self.epochs, 1)
        if self.lr is not None:
            check_positive("lr", self.lr)
        check_choice("trained", self.trained, get_args(Trained))
        if self.state is None:
            return
        if self.rows or self.epochs is not None or self.lr is not None:
            way = f"leave out rows, epochs and lr, or the state {self.state!r}"
            raise ValueError(f"a given state is not pretrained: {way}")
        object.__setattr__(self, "sha256", digest_of_file(self.state))


@dataclass(frozen=True)
class ProbeSpec:
    """How many test points a scene judges.

    Attributes:
        attacked: attacked test points, at most.
        controls: clean controls, at most; half of them, as far as there are, predicted as a label
            that the attacker wants.
        calibration: further clean test points, which set the thresholds: a small trusted set.
    """

    attacked: int = 40
    controls: int = 100
    calibration: int = 150

    def __post_init__(self) -> None:
        check_at_least("attacked", self.attacked, 1)
        check_at_least("controls", self.controls, 2)
        check_at_least("calibration", self.calibration, 1)


@dataclass(frozen=True)
class Scene:
    """One poisoned training run and the points on which it is judged.

    Attributes:
        dataset: the clean data.
        recipe: of the victim's training.
        attack: what poisons the data.
        seed: of all random choices.
        probe: the sizes of the probe.
        transfer: the pretrained model, None for training from scratch.
        model_code: sha256 of the code of the recipe's model, "" where it is built in.
    """

    dataset: DataSpec
    recipe: Recipe
    attack: Method
    seed: int
    probe: ProbeSpec
    transfer: TransferSpec | None = None
    model_code: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """All that the scene's results depend on."""
        recipe = configuration(self.recipe)
        if self.model_code:
            recipe["code"] = self.model_code
        config = {
            "dataset": self.dataset.config,
            "recipe": recipe,
            "probe": configuration(self.probe),
            "attack": self.attack.config,
            "seed": self.seed,
            **version_mark(),
        }
        if self.transfer is not None:
            config["transfer"] = configuration(self.transfer)
        return config

    @cached_property  # every path of a cell asks for it
    def id(self) -> str:
        """Folder name, readable and unique."""
        model = self.recipe.model
        if self.transfer is not None:
            model = f"{model}-transfer"
        label = f"{self.dataset.label}-{model}-{self.attack.name}-s{self.seed}"
        return identifier(label, self.config)


@dataclass(frozen=True)
class Applied:
    """A method that the grid applies to its scenes, and with which others it is combined.

    Attributes:
        part: the table of the grid file that names it: "detector", "mitigation", ...
        method: what that table names.
        of: part -> names of methods of the grid; of a part not named it takes all.
    """

    part: str
    method: Method
    of: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def takes(self, part: str, method: Method) -> bool:
        """Whether it is combined with this method."""
        chosen = dict(self.of).get(part)
        return chosen is None or method.name in chosen


@dataclass(frozen=True)
class Grid:
    """All scenes of a run, and the methods applied to each."""

    name: str
    scenes: tuple[Scene, ...]
    applied: tuple[Applied, ...] = ()
    alarm: float = 0.05

    def of(self, part: str) -> tuple[Applied, ...]:
        """What a table of the grid file names: "estimator", "detector", ..."""
        return tuple(applied for applied in self.applied if applied.part == part)

    def methods(self, part: str) -> tuple[Method, ...]:
        """The methods that a table of the grid file names."""
        return tuple(applied.method for applied in self.of(part))
