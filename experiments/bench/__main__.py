"""python -m experiments.bench NAME: benchmarks against the floor and peers, as tables."""

import click

from experiments.bench.commands import (
    defended,
    derivatives,
    grids,
    intervals,
    large,
    retrained,
    screening,
    victims,
)
from experiments.cli.errors import Commands


@click.group(cls=Commands)
def main() -> None:
    """Benchmarks against the floor and against peers."""


for command in (
    derivatives.gradients,
    derivatives.influence,
    derivatives.growth,
    retrained.retraining,
    retrained.shapley,
    retrained.group,
    derivatives.own_model,
    victims.clean_victims,
    grids.runner,
    defended.questions,
    defended.defenses,
    intervals.intervals,
    grids.soak,
    large.large,
    screening.screening,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
