"""The table of commands. Only click is imported before one runs: `--help` answers at once."""

import warnings
from pathlib import Path

import click

from experiments.cli.audit import audit
from experiments.cli.clean import clean
from experiments.cli.errors import Commands, show_warning, warn_of_clashes
from experiments.cli.grids import demo, run, status
from experiments.cli.methods import check, explain, export, list_, new
from experiments.cli.results import evaluate, plot, report, show
from experiments.cli.search_path import look_last

STYLE = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Commands, context_settings=STYLE)
@click.option("--debug", is_flag=True, help="Show the traceback of every error.")
@click.version_option(package_name="poisonbench")
def main(debug: bool) -> None:
    """Train models on poisoned data, and test defenses that look at the influence of training rows.

    Start with `poisonbench demo`: a whole grid on embedded data in a minute or so.
    """
    del debug  # read by the group when a command fails
    warnings.showwarning = show_warning
    look_last(Path.cwd())
    warn_of_clashes(Path.cwd())


for command in (
    run,
    demo,
    audit,
    clean,
    status,
    evaluate,
    report,
    plot,
    show,
    explain,
    export,
    list_,
    new,
    check,
):
    main.add_command(command)
