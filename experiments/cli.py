"""The command line. Only click is imported before a command runs, so that `--help` answers at once."""

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = ["table", "csv", "json", "markdown", "latex"]
KINDS = [
    "attacks",
    "estimators",
    "detectors",
    "filters",
    "certifiers",
    "mitigations",
    "models",
    "datasets",
]
FOLDER = click.Path(path_type=Path, file_okay=False)


class Commands(click.Group):
    """Turns every error that is a person's to mend into `Error: ...` and a hint, with the exit code of its kind."""

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


def _explain(error: BaseException) -> tuple[int | None, list[str]]:
    """Returns the exit code and what to print; the code is None for a bug."""
    from experiments.runner.lock import BusyError, Interrupted
    from poisonbench.errors import ConfigError, DataError, LogError, PoisonbenchError

    if isinstance(error, Interrupted | KeyboardInterrupt):
        code = error.code if isinstance(error, Interrupted) else 130
        return code, ["Interrupted. What is done stays done; the same command goes on from there."]
    if isinstance(error, BrokenPipeError):  # the reader of a pipe, such as head, has had enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - or Python tries again to write at exit
        return 1, []
    if isinstance(error, MemoryError):
        return 1, ["Error: out of memory", "Hint: fewer --workers, or a smaller probe"]
    if not isinstance(error, PoisonbenchError):
        return None, []
    codes: dict[type[PoisonbenchError], int] = {
        ConfigError: 2,
        DataError: 2,
        LogError: 3,
        BusyError: 4,
    }
    code = next((code for kind, code in codes.items() if isinstance(error, kind)), 1)
    faults = error.errors if isinstance(error, ConfigError) else [error.message]
    return code, [
        *(f"Error: {fault}" for fault in faults),
        *([f"Hint: {error.hint}"] if error.hint else []),
    ]


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--debug", is_flag=True, help="Show the traceback of every error.")
@click.version_option(package_name="poisonbench")
def main(debug: bool) -> None:
    """Data-poisoning attacks and defenses, judged by the influence of every training instance.

    Start with `poisonbench demo`: a whole grid on embedded data in a minute or so.
    """
    del debug  # read by the group when a command fails
    warnings.showwarning = _warn
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # so that `module:Class` finds a file beside the grid


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows what a person is to know in one line, and other warnings as Python does."""
    from poisonbench.errors import BudgetWarning, PluginWarning

    told = issubclass(category, BudgetWarning | PluginWarning)
    text = (
        f"Warning: {message}\n"
        if told
        else warnings.formatwarning(message, category, filename, lineno, line)
    )
    click.echo(text, nl=False, file=file, err=True)


def _computing(command: F) -> F:
    """The options of every command that reads data and computes."""
    options = [
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
        ),
        click.option(
            "--data-root",
            type=FOLDER,
            help="Downloaded data. [default: $POISONBENCH_DATA or ~/.cache/poisonbench]",
        ),
        click.option("--download", is_flag=True, help="Fetch a data set that is not on disk."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _running(command: F) -> F:
    """The options of every command that runs a grid."""
    options = [
        click.option(
            "--workers",
            type=click.IntRange(min=0),
            help="Processes; 0: in this one. [default: cores, or 1 on CUDA]",
        ),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Torch threads of each worker.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            help="Seconds that a scene may take.",
        ),
        _computing,
        click.option("--retry-failed", is_flag=True, help="Do failed cells again."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _run(raw: dict[str, Any], folder: Path, dry_run: bool = False, **how: Any) -> int:
    """Runs the content of a grid file; returns the exit code."""
    import torch

    from experiments.plan.parse import parse
    from experiments.plan.paths import Place
    from experiments.plan.stages import jobs
    from experiments.runner.run import Options, run

    grid = parse(raw)
    device = _device(how["device"])
    place = Place(folder, device, how["data_root"], how["download"])
    if dry_run:
        click.echo(_plan(grid.name, jobs(grid, place, how["threads"])))
        return 0
    workers = how["workers"]
    if workers is None:
        workers = (
            1 if device.startswith("cuda") else max(1, (os.cpu_count() or 1) // how["threads"])
        )
    torch.set_num_threads(how["threads"])
    summary = run(
        grid, place, Options(workers, how["threads"], how["timeout"], how["retry_failed"])
    )
    line = f"{summary.cells} cells in {folder}: {summary.found} were there, {summary.done} done in {summary.seconds:.0f} s"
    missing = summary.cells - summary.found - summary.done
    click.echo(
        line + (f", {missing} failed or waiting for a failed one" if missing else ""), err=True
    )
    for failure in summary.failed:
        click.echo(f"failed: {failure}", err=True)
    for fault in summary.damaged:
        click.echo(f"Error: {fault}", err=True)
    return 3 if summary.damaged else 1 if missing else 0


def _device(name: str) -> str:
    import torch

    from poisonbench.errors import ConfigError

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(
            [f"--device {name}: there is no such device here"],
            "auto, cpu" + (", cuda" if kind != "cuda" else ""),
        )
    return name


def _plan(name: str, work: list[Any]) -> str:
    """Text of --dry-run and `status`: a line a scene."""
    stages = [stage for job in work for stage in job.stages]
    done = sum(stage.path.exists() for stage in stages)
    failed = sum(stage.failure.exists() for stage in stages)
    lines = [f"{name}: {len(work)} scenes, {len(stages)} cells, {done} done, {failed} failed"]
    for job in work:
        have = sum(stage.path.exists() for stage in job.stages)
        broken = [stage.path.stem for stage in job.stages if stage.failure.exists()]
        note = f"  failed: {', '.join(broken)}" if broken else ""
        lines.append(
            f"  {have:3}/{len(job.stages):<3} {_words(job.scene.attack.config)}, seed {job.scene.seed}  {job.scene.id}{note}"
        )
    return "\n".join(lines)


def _words(config: dict[str, Any]) -> str:
    return " ".join([str(config["name"]), *(f"{k}={v}" for k, v in config.items() if k != "name")])


@main.command()
@click.argument("grid", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o",
    "--output",
    "folder",
    type=FOLDER,
    required=True,
    help="Folder of the logs; what is there is not done again.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the grid, e.g. recipe.epochs=5.",
)
@click.option("--dry-run", is_flag=True, help="Check the grid and show its cells; train nothing.")
@_running
def run(grid: Path, folder: Path, overrides: tuple[str, ...], dry_run: bool, **how: Any) -> None:
    """Run a grid of attacks, estimators and detectors. The same command again goes on where it stopped."""
    from experiments.plan.gridfile import read

    sys.exit(_run(read(grid, overrides), folder, dry_run, **how))


@main.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=FOLDER,
    default=Path("poisonbench-demo"),
    show_default=True,
    help="Folder of the logs.",
)
@_running
def demo(folder: Path, **how: Any) -> None:
    """Run the demonstration grid on the embedded digits, print its tables, and save two pictures."""
    from experiments.plan.gridfile import read

    code = _run(read(Path(__file__).parent / "grids" / "demo.toml"), folder, **how)
    _tables(folder, "table")
    _pictures(folder, how["data_root"])
    sys.exit(code)


@main.command()
@click.argument("folder", type=FOLDER)
def status(folder: Path) -> None:
    """Show what is done, missing and failed in a folder of logs."""
    from experiments.plan.gridfile import read
    from experiments.plan.parse import parse
    from experiments.plan.paths import Place
    from experiments.plan.stages import jobs

    grid = parse(read(folder / "grid.toml"))
    click.echo(_plan(grid.name, jobs(grid, Place(folder), 1)))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "markdown", "latex"]),
    default="table",
    show_default=True,
)
@click.option(
    "--against",
    metavar="DETECTOR",
    help="Add paired AUROC differences to this detector, as the tables call it.",
)
def evaluate(folder: Path, form: str, against: str | None) -> None:
    """Print attack success and detection metrics, from the logs alone."""
    sys.exit(3 if _tables(folder, form, against) else 0)


def _tables(folder: Path, form: str, against: str | None = None) -> bool:
    """Prints the tables; returns whether a log was damaged."""
    from experiments.evaluation.load import load_results
    from experiments.report.render import render
    from poisonbench.errors import ConfigError

    if not (folder / "scenes").is_dir():
        raise ConfigError(
            [f"{folder} holds no logs"], "fill it with: poisonbench run GRID.toml -o " + str(folder)
        )
    results = load_results(folder)
    click.echo(render(results, form, against))
    if (
        form != "table"
    ):  # its damaged files stand at its end; the other forms go to a file or a program
        for fault in results.damaged:
            click.echo(f"Error: {fault.message}", err=True)
    for hint in dict.fromkeys(fault.hint for fault in results.damaged if fault.hint):
        click.echo(f"Hint: {hint}", err=True)
    return bool(results.damaged)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help=".png, .pdf or .svg.",
)
@click.option(
    "--axis",
    default="budget",
    show_default=True,
    help="Numeric hyperparameter of the attacks, e.g. budget or alpha.",
)
def curve(folder: Path, path: Path, axis: str) -> None:
    """Plot attack success and clean accuracy against the budget, or another hyperparameter, from the logs alone."""
    from experiments.evaluation.load import load_results
    from experiments.report.pictures.success_curves import success_curve

    click.echo(f"saved {success_curve(load_results(folder, verify=False), path, axis)}")


def _pictures(folder: Path, root: Path | None) -> None:
    from experiments.demo import pictures

    for path in pictures(folder, root):
        click.echo(f"saved {path}")


@main.command()
@click.argument("scene", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write.",
)
@click.option(
    "--targets",
    type=click.Choice(["auto", "all", "probe"]),
    default="auto",
    show_default=True,
    help="Attacked points: all of the scene, those of its probe, or (auto) those that its log keeps.",
)
@_computing
def export(
    scene: Path, path: Path, targets: Any, device: str, data_root: Path | None, download: bool
) -> None:
    """Write the poison of a SCENE (its folder in a run, or its scene.h5) to a file, for the attack `file` of another grid."""
    from experiments.plan.paths import Place
    from experiments.scene.export import export, told

    exported = export(scene, path, Place(Path(), _device(device), data_root, download), targets)
    click.echo(told(exported))
    if exported.problem:
        click.echo(
            f"Warning: {exported.problem}",
            err=True,
        )


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
def show(files: tuple[Path, ...]) -> None:
    """Show what logs hold."""
    from experiments.report.show import describe
    from poisonbench import log

    click.echo("\n\n".join(describe(log.read(file)) for file in files))


@main.command()
@click.argument("kind", type=click.Choice(["attack", "estimator", "detector"]))
@click.argument("name")
@click.option("--folder", type=FOLDER, default=Path(), show_default=True, help="Where to write.")
def new(kind: str, name: str, folder: Path) -> None:
    """Write a new method that runs at once, its test and a grid, and say what to do next."""
    from experiments.new import new

    click.echo(new(kind, name, folder))


@main.command()
@click.argument("kind", type=click.Choice(["attack", "estimator", "detector"]))
@click.argument("target")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A hyperparameter, e.g. budget=0.1.",
)
@click.option(
    "--dataset", default="digits", show_default=True, help="Data on which an attack is checked."
)
@click.option(
    "--data-root",
    "root",
    type=FOLDER,
    help="Downloaded data. [default: $POISONBENCH_DATA or ~/.cache/poisonbench]",
)
@click.option("--model", default="cnn", show_default=True, help="The victim's.")
@click.option("--no-victim", is_flag=True, help="Train no victim: the contract alone.")
@click.option("--json", "as_json", is_flag=True, help="The verdicts for a program.")
def check(
    kind: str, target: str, settings: tuple[str, ...], as_json: bool, no_victim: bool, **how: Any
) -> None:
    """Check a method rule by rule: TARGET is a name of `list` or module:Class. Exit code 1 if a rule is broken."""
    from experiments.check.report import report

    sys.exit(report(kind, target, settings, as_json, victim=not no_victim, **how))


@main.command(name="list")
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.option("--json", "for_program", is_flag=True, help="For a program.")
def list_(kind: str | None, for_program: bool) -> None:
    """List what a grid can name, with hyperparameters and defaults."""
    from experiments.report.catalogue import as_json, catalogue

    click.echo(as_json(kind) if for_program else catalogue(kind))


if __name__ == "__main__":
    main()
