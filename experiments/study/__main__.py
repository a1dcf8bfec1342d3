"""python -m experiments.study NAME: what the pages on detectors rest on."""

import click

from experiments.study.pairs import pairs
from experiments.study.planted import planted
from experiments.study.told import told


@click.group()
def main() -> None:
    """Studies of detectors over runs of grids."""


for command in (pairs, planted, told):
    main.add_command(command)

if __name__ == "__main__":
    main()
