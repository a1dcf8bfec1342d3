"""The tables of filters, mitigations and certifiers."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.evaluation.kinds.certificates import RADII
from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.report.table import SECONDS, Cells, Table


def identification_table(rows: Sequence[Row]) -> Table:
    """Returns the rows of filters over seeds as a table."""
    names = RowNames.of(rows, ("estimator", "filter"))
    cells = Cells()
    body = []
    for row in rows:
        metrics = [
            row.metrics["auprc"],
            replace(row.metrics["auroc"], interval=None),
            row.metrics["recall"],
            row.metrics["ties"],
        ]
        line = list(names.all(row))
        line += cells.row(*metrics)
        line += cells.row(row.metrics["seconds"], form=SECONDS)
        line.append(str(row.counts["poison"]))
        line.append(str(row.counts["cover"]))
        line.append(str(len(row.seeds)))
        body.append(line)
    head = (
        *("attack", "estimator", "filter", "AUPRC [95 %]", "AUROC", "recall [95 %]"),
        *("ties", "s", "poison", "cover", "seeds"),
    )
    legend = (
        "How well each filter finds the poison rows among the clean training rows. recall: "
        "the share of the poison rows among as many rows of the highest scores. ties: the "
        "share of rows whose score another row has. poison, cover: rows over all seeds; cover "
        "rows enter no metric. s: seconds. In brackets behind a method: what it takes beyond "
        "the victim."
    )
    return Table("IDENTIFICATION", legend, head, body, 3, cells.notes(), grouped=True)


def mitigation_table(rows: Sequence[Row]) -> Table:
    """Returns the rows of mitigations over seeds as a table."""
    judged = [_with_judge(row) for row in rows]
    names = RowNames.of(judged, ("estimator", "judge", "mitigation"))
    cells = Cells()
    body = []
    for row in judged:
        line = list(names.all(row))
        line += cells.row(
            replace(row.metrics["asr_before"], interval=None),
            row.metrics["asr_after"],
            replace(row.metrics["accuracy_before"], interval=None),
            replace(row.metrics["accuracy_after"], interval=None),
        )
        line += cells.row(
            row.metrics["poison_removed"], row.metrics["clean_removed"], form=".1%"
        )
        line += cells.row(row.metrics["retrainings"], form=".3g")
        line += cells.row(row.metrics["seconds"], form=SECONDS)
        line.append(str(len(row.seeds)))
        body.append(line)
    head = (
        *(
            "attack",
            "estimator",
            "judge",
            "mitigation",
            "ASR",
            "after [95 %]",
            "accuracy",
            "after",
        ),
        *("poison", "clean", "runs", "s", "seeds"),
    )
    legend = (
        "ASR: attack success rate over all attacked test points, before and after the "
        "mitigation; accuracy: on clean test points, before and after. poison, clean: the "
        "share of these training rows that was removed. runs: retrainings; s: seconds. judge: "
        "the detector or filter on whose verdict it works."
    )
    return Table("MITIGATION", legend, head, body, 4, cells.notes(), grouped=True)


def _with_judge(row: Row) -> Row:
    """The row with the detector or filter of its mitigation under one name."""
    judge = row.settings.get("detector") or row.settings.get("filter")
    return replace(row, settings=row.settings | {"judge": judge})


def certificate_table(rows: Sequence[Row]) -> Table:
    """Returns the rows of certifiers over seeds as a table."""
    names = RowNames.of(rows, ("certifier",))
    cells = Cells()
    body = []
    for row in rows:
        certified = [row.metrics[f"certified_{at}"] for at in RADII[1:]]
        line = list(names.all(row))
        line += cells.row(row.metrics["accuracy"], *certified)
        line += cells.row(row.metrics["median_radius"], form=".3g")
        line += cells.row(replace(row.metrics["asr"], interval=None))
        line += cells.row(row.metrics["seconds"], form=SECONDS)
        line.append(str(len(row.seeds)))
        body.append(line)
    radii = [f">={at}" for at in RADII[1:]]
    head = ("attack", "certifier", "accuracy", *radii, "radius", "ASR", "s", "seeds")
    legend = (
        "Certified accuracy: the share of the clean test points that are predicted rightly, "
        "and stay so whatever r training rows are inserted or deleted (column >=r). radius: "
        "the median r. ASR: attack success rate against the certified model; s: seconds."
    )
    return Table("CERTIFIED", legend, head, body, 2, cells.notes(), grouped=True)
