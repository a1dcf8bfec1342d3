"""The command line: `poisonbench COMMAND`. Only click is imported before a command runs."""

from experiments.cli.commands import main

__all__ = ["main"]
