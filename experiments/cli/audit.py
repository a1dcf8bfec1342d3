"""The command that judges a finished model: `audit`."""

import sys
from pathlib import Path
from typing import Any

import click

from experiments.cli.options import FILE, FOLDER, checked_device
from experiments.cli.results import print_results

DATA = "package.module:callable, or FILE.npz with x and y; of token ids, vocabulary."


@click.command()
@click.argument("file", required=False, type=FILE)
@click.option(
    "-o", "--output", "folder", type=FOLDER, required=True, help="Folder of the logs."
)
@click.option("--model", help="A built-in name, or package.module:callable.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    help="File of a state (.pt, .safetensors); several in the order of training.",
)
@click.option("--lr", type=float, help="Learning rate of the checkpoints.")
@click.option("--train", help=f"The training set: {DATA}")
@click.option("--points", help=f"The points to judge: {DATA}")
@click.option("--trusted", help=f"Points known to be clean: {DATA}")
@click.option("--estimator", help="Of influence.  [default: gas]")
@click.option("--detector", help="Of poisoned predictions.  [default: rehearsed]")
@click.option(
    "--alarm", type=float, help="Share of clean points to be flagged.  [default: 0.05]"
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other key of an audit file, e.g. model_args.num_classes=10.",
)
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Of PyTorch, on a CPU.",
)
@click.option("--retry-failed", is_flag=True, help="Do failed stages again.")
@click.option(
    "--fail-on-flag", is_flag=True, help="Exit with code 1 if a point is flagged."
)
def audit(file: Path | None, folder: Path, fail_on_flag: bool, **how: Any) -> None:
    """Judge the predictions of a finished model, point by point.

    FILE is TOML with model, checkpoints, train, points and trusted; the options do instead, or
    override it. The logs in the folder are like those of a grid: evaluate, status and show read
    them. What is printed, and the exit code, are of this audit alone, whatever else the folder
    holds. Exit code 1 if a stage failed.
    """
    from experiments.audit.run import run_audit
    from experiments.evaluation.kinds.points import judged_points
    from experiments.evaluation.load import load_results
    from experiments.evaluation.views.failures import failure_lines
    from experiments.plan.audit.parse import parse_audit
    from experiments.plan.gridfile import read, with_overrides
    from experiments.plan.paths import Place

    raw: dict[str, Any] = {} if file is None else read(file)
    for key in (
        "model",
        "lr",
        "train",
        "points",
        "trusted",
        "estimator",
        "detector",
        "alarm",
    ):
        if how[key] is not None:
            raw[key] = how[key]
    if how["checkpoints"]:
        raw["checkpoints"] = list(how["checkpoints"])
    wanted = parse_audit(with_overrides(raw, how["overrides"]))
    place = Place(folder, checked_device(how["device"]))
    done = run_audit(wanted, place, how["threads"], how["retry_failed"])
    everything = load_results(folder)
    results = everything.only(done.paths)
    damaged = print_results(results, "table")
    for line in failure_lines(done.failed):
        click.echo(line, err=True)
    if len(everything.of("detect")) > len(results.of("detect")):
        told = f"{folder} holds verdicts of other audits too"
        click.echo(f"{told}: poisonbench evaluate {folder}", err=True)
    if damaged:
        sys.exit(3)
    found = judged_points(results).flagged
    failed = bool(done.failed) or (fail_on_flag and found > 0)
    sys.exit(1 if failed else 0)
