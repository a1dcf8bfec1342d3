"""python -m experiments.study NAME: what the pages on detectors and estimators rest on."""

import click

from experiments.cli.errors import Commands
from experiments.study.certified.command import certified
from experiments.study.copies.command import copies
from experiments.study.cost.command import cost
from experiments.study.detectors.pairs import pairs
from experiments.study.detectors.planted import planted
from experiments.study.detectors.prior import prior
from experiments.study.detectors.prior_head import prior_head
from experiments.study.detectors.questions import questions
from experiments.study.detectors.told import told
from experiments.study.long_tail.command import long_tail
from experiments.study.random_labels.command import random_labels
from experiments.study.truth.command import truth, truth_figure
from experiments.study.truth.slopes import slopes


@click.group(cls=Commands)
def main() -> None:
    """Studies of detectors and estimators over runs of grids."""


COMMANDS = (
    certified,
    copies,
    cost,
    long_tail,
    pairs,
    planted,
    prior,
    prior_head,
    questions,
    random_labels,
    slopes,
    told,
    truth,
    truth_figure,
)
for command in COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()
