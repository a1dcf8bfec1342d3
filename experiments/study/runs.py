"""What studies share: runs of grids, results that are kept, the estimators that are asked."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import click

from poisonbench.errors import ConfigError

if TYPE_CHECKING:
    from experiments.plan.spec import Grid
    from poisonbench.training import Recipe


class Keepable(Protocol):
    """What a study has found, as a file holds it."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Returns what a file holds."""

    def save(self, path: Path) -> None:
        """Writes the file."""


# options that say what is shown of the results, and where data lie
SHOWN = {"numbers", "figure", "pictures", "data_root", "only"}
F = TypeVar("F", bound=Keepable)


def kept(path: Path | None, kind: type[F], make: Callable[[], F]) -> F:
    """Returns what a file holds if it is there, and otherwise what is made, and saved in it.

    Args:
        path: of the file; None: nothing is kept.
        kind: of what was found.
        make: does the study.

    Raises:
        ConfigError: the file was made with other options of the command that runs.
    """
    if path is None:
        return make()
    check_options(path)
    if path.exists():
        return kind.read(path)
    found = make()
    found.save(path)
    return found


def digest(path: Path) -> str:
    """Returns eight digits that change with what is in a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def check_options(path: Path) -> None:
    """Keeps the options of the command that runs beside the file of what it finds.

    Raises:
        ConfigError: the file is there, and was made with others.
    """
    params = click.get_current_context().params
    asked = {name: str(value) for name, value in params.items() if name not in SHOWN}
    beside = path.with_name(f"{path.name}.options.json")
    if not path.exists():
        beside.write_text(json.dumps(asked, indent=1), encoding="utf-8")
        return
    if not beside.exists():
        click.echo(
            f"Warning: it is not known with which options {path} was made", err=True
        )
        return
    made = json.loads(beside.read_text(encoding="utf-8"))
    other = [name for name in asked if made.get(name) != asked[name]]
    if other:
        told = ", ".join(f"{name} = {made.get(name)}" for name in other)
        what = f"{path} was made with other options: {told}"
        raise ConfigError([what], "name another file for --numbers, or those options")


def chosen(names: Sequence[str], known: Sequence[str], slow: str = "") -> list[str]:
    """Returns the names of the estimators to ask; where none is named, all but the slow one.

    Raises:
        ConfigError: there is no such estimator in the study.
    """
    for name in names:
        if name not in known:
            told = f"no estimator {name!r} in this study"
            raise ConfigError([told], f"name one of: {', '.join(known)}")
    usual = [name for name in known if name != slow]
    return list(names) or usual


def usual_recipe(model: str) -> "Recipe":
    """Returns the recipe of studies on a few hundred rows."""
    from poisonbench.training import Recipe

    return Recipe(
        model,
        epochs=20,
        batch_size=64,
        lr=0.05,
        checkpoints=6,
    )


def finished(
    path: Path,
    folder: Path,
    workers: int,
    data_root: Path | None,
) -> "Grid":
    """Runs the grid of a file into a folder, tells what failed, and returns the grid.

    Args:
        path: of the grid.
        folder: of the logs; what is there is not done again.
        workers: processes; 0 works in this one.
        data_root: folder of downloaded data, None for the default.
    """
    from experiments.plan.gridfile import read
    from experiments.plan.parse import parse
    from experiments.plan.paths import Place
    from experiments.runner.run import Options, run

    grid = parse(read(path))
    place = Place(folder, root=data_root)
    summary = run(grid, place, Options(workers=workers))
    for failure in summary.failed:
        click.echo(f"failed: {failure}", err=True)
    return grid
