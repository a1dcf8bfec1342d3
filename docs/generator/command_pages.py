"""The page of the command line, from the commands themselves."""

from collections.abc import Iterator
from typing import Any

import click

from experiments.cli import main

INTRODUCTION = """# Command line

Results go to the output, progress to the error output. Exit codes: 0 done; 1 some cells failed, a
check found a fault or a point was flagged; 2 a mistake in the call or in the grid; 3 a damaged log;
4 the folder is in use; 130 and 143 interrupted or terminated. A mistake costs one line that says
the rule, the value and the way out; `poisonbench --debug` shows the traceback.
"""


def commands_page() -> str:
    """The page: each command with its arguments and options."""
    parts = [INTRODUCTION]
    with click.Context(main, info_name="poisonbench") as top:
        for name in main.list_commands(top):
            command = main.get_command(top, name)
            assert command is not None
            with click.Context(command, info_name=f"poisonbench {name}") as context:
                parts.append("\n\n".join(described(command, context)))
    return "\n\n".join(parts) + "\n"


def described(command: click.Command, context: click.Context) -> Iterator[str]:
    """The paragraphs on a command."""
    yield f"## {context.info_name}"
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"```text\n{' '.join(usage.split())}\n```"
    yield from paragraphs(command.help or "")
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    rows = [row(option, context) for option in options]
    yield "\n".join(["| option | meaning | default |", "|---|---|---|", *rows])


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text, each in one line."""
    for part in text.partition("\f")[0].split("\n\n"):
        if part.strip():
            yield " ".join(part.split())


def row(option: click.Option, context: click.Context) -> str:
    """An option as a row of the table."""
    told: Any = option.to_info_dict()
    names = ", ".join([*option.opts, *option.secondary_opts])
    if not option.is_flag:
        names += f" {option.make_metavar(context)}"
    extra = option.get_help_extra(context)
    default = extra.get("default", "")
    if extra.get("required"):
        default = "required"
    meaning = " ".join(["", *(told["help"] or "").split()])
    given, _, by_rule = meaning.partition(" [default: ")
    shown = f"`{default}`" if default and default != "required" else default
    names = names.replace("|", "\\|")
    return f"| `{names}` |{given} | {by_rule.rstrip(']') or shown} |"
