"""The benchmark of screened influence: runs what races, and writes its tables and its figure."""

from collections.abc import Sequence
from pathlib import Path

from estimators.gas import GAS
from experiments.bench.screening.certainty import excluded
from experiments.bench.screening.figure import draw
from experiments.bench.screening.race import (
    Entry,
    Reference,
    by_cheaper_scores,
    by_projection,
    reference,
)
from experiments.bench.screening.setting import Setting, interval
from experiments.bench.timing import machine, table

WIDTHS = (1.0, 3.0, 5.0)
SIZES = (1, 10)  # of batches, beside all points at once
USUAL = 5.0  # width of the estimator


def bench(
    setting: Setting,
    dimensions: Sequence[int],
    figure: Path | None,
) -> str:
    """Returns the report."""
    m = len(setting.test)
    sizes = [size for size in SIZES if size < m]
    sizes.append(m)
    gas = reference(setting, "gas", sizes)
    entries = []
    for d in dimensions:
        entries += by_projection(setting, gas, d, WIDTHS, sizes)
    entries += by_cheaper_scores(setting, gas, sizes)
    tracin = reference(setting, "tracin", sizes)
    largest = max(dimensions)
    entries += by_projection(setting, tracin, largest, (USUAL,), sizes)
    if figure is not None:
        draw(gas, entries, sizes, figure)
    parts = [
        _head(setting),
        _exact(setting, [gas, tracin], sizes),
        _screened(entries, {"gas": gas, "tracin": tracin}, sizes),
        _certain(setting, gas),
    ]
    return "\n\n".join(parts) + "\n"


def _head(setting: Setting) -> str:
    trace = setting.trace
    parameters = sum(p.numel() for p in trace.model().parameters())
    return (
        f"{len(trace.train)} training images, {len(setting.test)} test points, "
        f"{parameters} parameters, {len(trace.checkpoints)} checkpoints; "
        f"{machine(setting.device)}."
    )


def _exact(setting: Setting, exact: Sequence[Reference], sizes: Sequence[int]) -> str:
    """Returns the seconds of the exact scores, and of those of the label alone."""
    rows = []
    for one in exact:
        seconds = [f"{one.seconds[size]:.2f}" for size in sizes]
        rows.append([one.of, *seconds])
    by_label = GAS(scope="label").fit(setting.trace)
    seconds = [f"{setting.of_batch(by_label, size):.2f}" for size in sizes]
    rows.append(["gas, scope = label", *seconds])
    return table(["exact: seconds", *_batches(sizes)], rows)


def _batches(sizes: Sequence[int]) -> list[str]:
    return [f"batch of {size}" for size in sizes]


def _screened(
    entries: Sequence[Entry],
    exact: dict[str, Reference],
    sizes: Sequence[int],
) -> str:
    rows = []
    for entry in entries:
        against = exact[entry.of].seconds
        speeds = [f"{against[s] / entry.seconds[s]:.1f}" for s in sizes]
        last = sizes[-1]
        once = against[last] / (entry.seconds[last] + entry.fit)
        cells = [
            f"{entry.rows:.0f}",
            interval(entry.recall),
            f"{entry.complete:.2f}",
            f"{entry.fit:.1f}",
            *speeds,
            f"{once:.2f}",
        ]
        rows.append([entry.of, entry.way, *cells])
    head = ["of", "screen", "rows", "recall", "complete", "fit s"]
    speeds = [f"x faster, {size}" for size in sizes]
    return table([*head, *speeds, f"with fit, {sizes[-1]}"], rows)


def _certain(setting: Setting, gas: Reference) -> str:
    out = excluded(setting, gas.scores)
    share = float(out.double().mean())
    return f"Cauchy-Schwarz on all layers but the head excludes {share:.4f} of the rows (GAS)."
