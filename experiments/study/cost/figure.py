"""How the seconds of every estimator grow with each size, against those at the smallest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.pictures.look import save
from experiments.study.cost.measured import Growth
from experiments.study.cost.sizes import AXES
from experiments.study.looks import styles

PANEL = 2.7  # inches


def draw(found: Sequence[Growth], path: Path) -> None:
    """Saves the figure without a display, a panel for each size."""
    looks = styles((growth.name for growth in found), 4.0)
    with mpl.rc_context({"font.size": 8}):
        size = (PANEL * len(AXES) + 2.0, PANEL + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(AXES), sharey=True, squeeze=False)[0]
        for panel, axis in zip(panels, AXES, strict=True):
            shown = [growth for growth in found if growth.axis == axis]
            _panel(panel, axis, shown, looks)
        panels[0].set_ylabel("seconds over those at the smallest size")
        lines, labels = panels[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside right center", frameon=False)
        save(figure, path)


def _panel(
    panel: Axes,
    axis: str,
    shown: Sequence[Growth],
    looks: Mapping[str, Mapping[str, Any]],
) -> None:
    factors = np.array([1.0, 8.0])
    for power in (0, 1):
        panel.plot(factors, factors**power, color="0.85", linewidth=3, zorder=0)
    for growth in shown:
        middle = [float(np.median(row)) for row in growth.of("full")]
        grown = np.array(growth.sizes) / growth.sizes[0]
        panel.plot(
            grown,
            np.array(middle) / middle[0],
            label=growth.name,
            linewidth=1,
            **looks[growth.name],
        )
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    panel.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    panel.set_xlabel("times the smallest size")
    panel.set_title(f"{axis} doubled")
