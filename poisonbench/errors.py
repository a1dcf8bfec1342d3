"""Errors that are a person's to mend: what is wrong, and the way out.

The command line prints each in two lines. Needs no torch.
"""

from pathlib import Path


class PoisonbenchError(Exception):
    """Base of all errors that name a rule, the value that broke it, and a way out.

    Attributes:
        message: what is wrong, in a line.
        hint: what to do about it; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(PoisonbenchError):
    """A configuration that cannot be run; `errors` holds every fault found, one line each."""

    def __init__(self, errors: list[str], hint: str = "") -> None:
        super().__init__("\n".join(errors), hint)
        self.errors = errors


class DataError(PoisonbenchError):
    """A data set that is absent, unknown, or not of the form that the library works with."""


class PointsError(DataError, ValueError):
    """Points that are no instances as those of the training set."""


class PoisonError(PoisonbenchError):
    """An attack broke its contract.

    Attributes:
        rule: name of the broken rule, one of `poisonbench.contracts.RULES`.
    """

    def __init__(self, rule: str, message: str, hint: str = "") -> None:
        super().__init__(f"{rule}: {message}", hint)
        self.rule = rule


class ModelError(PoisonbenchError, ValueError):
    """A model that the library cannot work with as it is; the message names the layer."""

    @classmethod
    def of_layer(
        cls, name: str, module: object, reason: str, hint: str = ""
    ) -> "ModelError":
        """Returns the error of the layer `name` ("" for the whole model) for a reason."""
        kind = type(module).__name__
        place = f"layer {name!r} ({kind})" if name else f"the model ({kind})"
        return cls(f"{place} {reason}", hint)


class DivergedError(PoisonbenchError):
    """Training left the finite numbers.

    Attributes:
        epoch: the epoch (from 1) in which it happened.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__(
            f"training diverged in epoch {epoch}",
            "lower the learning rate `lr` or the momentum",
        )
        self.epoch = epoch


class ReplayError(PoisonbenchError):
    """A run, repeated, does not end where it ended: scores made along the way would be wrong.

    Attributes:
        parameter: name of the first parameter or buffer that differs.
    """

    def __init__(self, parameter: str, found: str) -> None:
        super().__init__(
            f"the run, repeated, does not end at its last checkpoint: {parameter!r} {found}",
            "train again here if it was trained on another device, version or number of threads; "
            "else the model draws outside the seeds, keeps state that is no parameter or buffer, "
            "or was changed by who looked at it",
        )
        self.parameter = parameter


class LogError(PoisonbenchError):
    """A log file that is damaged, foreign, or of another schema.

    Attributes:
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path | str, reason: str, hint: str = "") -> None:
        super().__init__(f"{path}: {reason}", hint)
        self.path = Path(path)
        self.reason = reason


class LogWriteError(LogError):
    """A log cannot be written, and what was there before stays whole.

    The disk is full, or the system refuses.
    """


class ChangedError(PoisonbenchError):
    """A method changed what it may only read.

    Attributes:
        names: of what it changed: tensors that it was given, or parts of the process's state.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(
            f"the method changed what it may only read: {', '.join(names)}",
            "work on a copy (x.clone()), draw from a generator of its own "
            "(torch.Generator), and put back what it sets",
        )
        self.names = names


class PluginWarning(UserWarning):
    """A plug-in of another distribution is left out; everything else is as it was."""


class TrackerWarning(UserWarning):
    """A tracker of runs failed; the cells are as they would be without it."""


class BudgetWarning(UserWarning):
    """An attack changed fewer rows than its budget pays for; the message says how many, and why."""


class RunWarning(UserWarning):
    """A run of someone else's, or points given to it, look unlike what they are said to be."""


class CalibrationWarning(UserWarning):
    """There are few clean points for the alarm rate that they are to calibrate."""
