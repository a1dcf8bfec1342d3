"""Metrics of many scenes put together: mean, interval and number of scenes of each cell."""

import json
from dataclasses import dataclass, field

from experiments.evaluation.detection import defense_rows, scene_rows
from experiments.evaluation.load import Results
from experiments.evaluation.names import in_order
from experiments.evaluation.paired import differences
from experiments.evaluation.rows import Row, aggregate, mean_over


@dataclass(frozen=True, eq=False)
class Summary:
    """The results as rows over seeds, with the failures and damaged files as (path, reason)."""

    victims: list[Row]
    detections: list[Row]
    means: list[Row]
    costs: list[Row]
    defenses: dict[str, list[Row]]
    scenes: dict[str, list[Row]]
    failures: list[tuple[str, str]]
    damaged: list[tuple[str, str]]
    differences: list[Row] = field(default_factory=list)
    against: str = ""

    def rows(self) -> dict[str, list[Row]]:
        """All rows by table: over seeds, over attacks, and of single scenes."""
        merged = {
            "victims": self.victims,
            "detections": self.detections,
            "means": self.means,
            "costs": self.costs,
        }
        merged |= {"differences": self.differences} if self.against else {}
        return (
            merged | self.defenses | {f"scene-{name}": rows for name, rows in self.scenes.items()}
        )


def summarise(results: Results, against: str | None = None) -> Summary:
    """Returns all rows of the results, those over seeds sorted by name; the means are over the attacks with a defined AUROC.

    Raises:
        ConfigError: `against` names no detector of the results, or several.
    """
    victims, detections, costs = scene_rows(results)
    merged = in_order(aggregate(detections))
    able = [
        json.dumps(row.settings["attack"])
        for row in merged
        if row.metrics["auroc"].value is not None
    ]
    several = len(set(able)) > 1
    means = (
        mean_over([row for row in merged if json.dumps(row.settings["attack"]) in able])
        if several
        else []
    )
    root = results.folder
    failures = [(str(r.path.relative_to(root)), r.text("reason")) for r in results.of("failure")]
    damaged = [(str(e.path.relative_to(root)), e.reason) for e in results.damaged]
    defenses = {name: rows for name, rows in defense_rows(results).items() if rows}
    scenes = {"victims": victims, "detections": detections, "costs": costs, **defenses}
    over_all = in_order(aggregate(costs, drop=("attack",)))
    over_seeds = {name: in_order(aggregate(rows)) for name, rows in defenses.items()}
    held = differences(detections, against) if against else []
    return Summary(
        in_order(aggregate(victims)),
        merged,
        means,
        over_all,
        over_seeds,
        scenes,
        failures,
        damaged,
        held,
        against or "",
    )
