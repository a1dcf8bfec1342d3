"""What a figure of AUROC cannot show: attacks and methods without one, and why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.report.pictures.legend import first_of
from experiments.report.plots.methods import method_of


@dataclass(frozen=True)
class LeftOut:
    """What has no AUROC, each with the reason.

    Attributes:
        attacks: those that no method has an AUROC against.
        methods: those without an AUROC against any of the other attacks.
        pairs: of the other methods and attacks.
    """

    attacks: Mapping[str, str]
    methods: Mapping[str, str]
    pairs: Mapping[str, str]

    @classmethod
    def of(cls, rows: Sequence[Row], names: RowNames) -> "LeftOut":
        """Looks for them in rows of detections."""
        able = [row for row in rows if row.metrics["auroc"].value is not None]
        attacks = {names.attack(row) for row in able}
        methods = {method_of(row, names) for row in able}
        lost: tuple[dict[str, str], ...] = ({}, {}, {})
        for row in rows:
            metric = row.metrics["auroc"]
            if metric.value is not None:
                continue
            attack = names.attack(row)
            method = method_of(row, names)
            if attack not in attacks:
                lost[0].setdefault(attack, metric.reason)
            elif method not in methods:
                lost[1].setdefault(method.label, metric.reason)
            else:
                lost[2].setdefault(f"{method.label} on {attack}", metric.reason)
        return cls(*lost)

    def notes(self) -> list[str]:
        """Returns a sentence for each of the three, where there are any."""
        heads = ("attacks", "detectors", "")
        found = []
        for head, lost in zip(
            heads, (self.attacks, self.methods, self.pairs), strict=True
        ):
            if lost:
                found.append(f"{head} without an AUROC: {listed(lost)}".strip())
        return found


def listed(lost: Mapping[str, str]) -> str:
    """Returns names with reasons, in a line; of many the first, and how many more there are."""
    told = [f"{name} ({why})" if why else name for name, why in lost.items()]
    return first_of(told)


def seeds_of(rows: Iterable[Row]) -> str:
    """Returns over how many seeds the rows are means: `2 seeds`, `1 to 3 seeds`."""
    counts = sorted({len(row.seeds) for row in rows})
    if not counts:
        return "no seeds"
    told = str(counts[0])
    if len(counts) > 1:
        told += f" to {counts[-1]}"
    return f"{told} seed" if told == "1" else f"{told} seeds"
