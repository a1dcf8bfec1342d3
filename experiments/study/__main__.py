"""python -m experiments.study NAME: what the pages on detectors and estimators rest on."""

import click

from experiments.study.pairs import pairs
from experiments.study.planted import planted
from experiments.study.prior import prior
from experiments.study.questions import questions
from experiments.study.told import told
from experiments.study.truth import truth


@click.group()
def main() -> None:
    """Studies of detectors and estimators over runs of grids."""


for command in (pairs, planted, prior, questions, told, truth):
    main.add_command(command)

if __name__ == "__main__":
    main()
