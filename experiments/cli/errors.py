"""Errors and warnings as a person meets them: a line, a hint, and the exit code of its kind."""

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, TextIO

import click

OURS = ("attacks", "defenses", "estimators", "experiments", "poisonbench")


class Told(click.Command):
    """Turns every error that is a person's to mend into `Error: ...` and a hint."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a traceback is shown for a bug, and for anything under --debug."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, SystemExit):
            raise
        except BaseException as error:
            code, lines = _explain(error)
            if code is None or ctx.params.get("debug"):
                traceback.print_exc()
            for line in lines:
                click.echo(line, err=True)
            raise click.exceptions.Exit(code or 1) from error


class Commands(Told, click.Group):
    """A group of commands with such errors."""


def _explain(error: BaseException) -> tuple[int | None, list[str]]:
    """Returns the exit code and what to print; the code is None for a bug."""
    from experiments.runner.lock import Interrupted
    from poisonbench.errors import PoisonbenchError

    if isinstance(error, Interrupted | KeyboardInterrupt):
        code = error.code if isinstance(error, Interrupted) else 130
        return code, [
            "Interrupted. What is done stays done; the same command goes on from there."
        ]
    if isinstance(
        error, BrokenPipeError
    ):  # the reader of a pipe, such as head, has had enough
        # or Python tries again to write at exit
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        return 1, []
    if isinstance(error, MemoryError):
        return 1, ["Error: out of memory", "Hint: fewer --workers, or a smaller probe"]
    if isinstance(error, PoisonbenchError):
        return _exit_code(error), _lines(error)
    return None, []


def _exit_code(error: BaseException) -> int:
    from experiments.runner.lock import BusyError
    from poisonbench.errors import ConfigError, DataError, LogError

    if isinstance(error, ConfigError | DataError):
        return 2
    if isinstance(error, LogError):
        return 3
    if isinstance(error, BusyError):
        return 4
    return 1


def _lines(error: Any) -> list[str]:
    """The faults of a `PoisonbenchError`, one per line, and its hint."""
    faults = getattr(error, "errors", [error.message])
    lines = [f"Error: {fault}" for fault in faults]
    if error.hint:
        lines.append(f"Hint: {error.hint}")
    return lines


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows what a person is to know in one line, and other warnings as Python does."""
    from poisonbench import errors

    ours = errors.BudgetWarning | errors.CalibrationWarning | errors.RunWarning
    if issubclass(category, ours | errors.PluginWarning | errors.TrackerWarning):
        text = f"Warning: {message}\n"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    click.echo(text, nl=False, file=file, err=True)


def warn_of_clashes(folder: Path) -> None:
    """Tells of files in the working directory that have the name of a package of ours.

    A grid cannot name what is in them: `attacks.mine:Mine` means our package.
    """
    if (folder / "experiments" / "cli" / "errors.py").exists():
        return  # the source tree itself
    for name in OURS:
        for path in (folder / name, folder / f"{name}.py"):
            if path.exists():
                what = f"{path.name} in this folder has the name of a package of poisonbench"
                hint = f"`{name}.module:Class` means the package: rename it to use what is in it"
                click.echo(f"Warning: {what}; {hint}", err=True)
