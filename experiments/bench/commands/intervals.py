"""How often the 95 % intervals of evaluation cover the truth."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.cli.options import COUNT

if TYPE_CHECKING:
    from experiments.bench.coverage import Covered, Setting


@click.command()
@click.option(
    "--runs", type=COUNT, default=1000, show_default=True, help="Of each setting."
)
@click.option("--metric", help="Only this one.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def intervals(runs: int, metric: str | None, output: Path | None) -> None:
    """Simulate scores whose truth is known, and count how often intervals cover it."""
    from experiments.bench.coverage import coverage, settings
    from experiments.bench.gradients import save
    from experiments.bench.timing import table

    head = (
        "metric",
        "mean",
        "spread over victims",
        "attacks",
        "seeds",
        "covered",
        "width",
    )
    lines = []
    for setting in settings():
        if metric in (None, setting.metric):
            lines.append(_line(setting, coverage(setting, runs)))
            click.echo(" | ".join(lines[-1]), err=True)
    save(table(head, lines), output)


def _line(setting: "Setting", found: "Covered") -> tuple[str, ...]:
    attacks = str(setting.attacks)
    if setting.shared:
        attacks += f", {setting.shared:.0%} shared"
    return (
        setting.metric,
        f"{setting.level:g}",
        f"{setting.spread:g}",
        attacks,
        str(setting.seeds),
        f"{found.share:.3f}",
        f"{found.width:.3f}",
    )
