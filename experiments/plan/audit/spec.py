"""An audit: a finished model, its training set, the points to judge and the points to trust."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.plan.identity import configuration, identifier
from experiments.plan.outside import version_mark
from experiments.plan.spec import Applied
from poisonbench.checks import check_at_least, check_fraction, check_not_negative
from poisonbench.losses import check_loss


@dataclass(frozen=True)
class AuditSpec:
    """What is audited, as an audit file or the command line names it.

    Data are `package.module:callable`, which returns them, or a file FILE.npz with x and, but for
    points and trusted, y.

    Attributes:
        model: a built-in name, or `package.module:callable`.
        train: the training set, as the model saw it.
        points: to be judged.
        trusted: points known to be clean that were not trained on.
        checkpoints: files of states in the order of training, the final model last.
        lr: learning rates of the checkpoints: one for all, or one each.
        head: name of the last linear layer; None finds it.
        loss: by which the model was trained.
        weight_decay: w of the regulariser (w/2)|theta|^2.
        seed: of what a method draws, and of the half of the trusted points that a detector is
            fitted to.
        model_args: keyword arguments of the model's callable; None calls it as a grid does.

    Raises:
        ValueError: a value out of its range, or no such file.
    """

    model: str
    train: str
    points: str
    trusted: str
    checkpoints: tuple[str, ...]
    lr: float | tuple[float, ...] | None = None
    head: str | None = None
    loss: str = "cross-entropy"
    weight_decay: float = 0.0
    seed: int = 0
    model_args: tuple[tuple[str, Any], ...] | None = field(
        default=None, metadata={"settable": False}
    )

    def __post_init__(self) -> None:
        check_not_negative("weight_decay", self.weight_decay)
        check_at_least("seed", self.seed, 0)
        check_loss(self.loss)
        rates = self.lr if isinstance(self.lr, tuple) else (self.lr,)
        for rate in rates:
            if rate is not None:
                check_not_negative("lr", rate)
        if not self.checkpoints:
            raise ValueError("checkpoints must name at least one file, got none")
        for path in self.checkpoints:
            if not Path(path).is_file():
                raise ValueError(f"checkpoints: there is no file {path!r}")


@dataclass(frozen=True)
class Unknown:
    """Stands where a scene has its attack: nobody knows whether there was one."""

    name: str = "unknown"

    @property
    def config(self) -> dict[str, Any]:
        """As of an attack."""
        return {"name": self.name}


@dataclass(frozen=True)
class AuditScene:
    """A finished model and the points on which it is judged: what an audit has for a scene.

    Attributes:
        spec: what is audited.
        classes: that the model tells apart.
        digests: sha256 of the training set, the points, the trusted points, the checkpoints and the
            model's code, by the names of the fields.
        attack: unknown.
    """

    spec: AuditSpec
    classes: int
    digests: tuple[tuple[str, str], ...]
    attack: Unknown = Unknown()

    @property
    def seed(self) -> int:
        """Of what methods draw."""
        return self.spec.seed

    @property
    def config(self) -> dict[str, Any]:
        """All that the results depend on."""
        spec = self.spec
        digests = dict(self.digests)
        recipe = {
            "model": spec.model,
            "model_args": None if spec.model_args is None else dict(spec.model_args),
            "checkpoints": digests["checkpoints"],
            "lr": configuration(spec.lr),
            "head": spec.head,
            "loss": spec.loss,
            "weight_decay": spec.weight_decay,
        }
        if digests.get("model"):
            recipe["code"] = digests["model"]
        return {
            "dataset": {
                "name": spec.train,
                "sha256": digests["train"],
                "classes": self.classes,
            },
            "recipe": recipe,
            "probe": {"points": digests["points"], "trusted": digests["trusted"]},
            "attack": self.attack.config,
            "seed": spec.seed,
            **version_mark(),
        }

    @property
    def id(self) -> str:
        """Folder name, readable and unique."""
        label = f"audit-{Path(self.spec.train).stem}-{self.spec.model}"
        return identifier(label, self.config)


@dataclass(frozen=True)
class Audit:
    """What an audit file asks for.

    Attributes:
        name: of the audit.
        spec: what is audited.
        applied: estimators and detectors.
        alarm: share of trusted points that a detector may flag.
    """

    name: str
    spec: AuditSpec
    applied: tuple[Applied, ...]
    alarm: float = 0.05

    def __post_init__(self) -> None:
        check_fraction("alarm", self.alarm)
