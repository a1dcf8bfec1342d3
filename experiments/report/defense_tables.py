"""The tables of the defenses that judge training rows, certify, or undo."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiments.evaluation.certificates import RADII
from experiments.evaluation.names import naming
from experiments.evaluation.rows import Row
from experiments.report.table import Cells, Table


def defense_tables(rows: Mapping[str, Sequence[Row]]) -> list[Table]:
    """Returns a table for each kind of rows over seeds that there is."""
    made = {"filters": _identification, "mitigations": _mitigation, "certificates": _certificates}
    return [table(rows[name]) for name, table in made.items() if rows.get(name)]


def _identification(rows: Sequence[Row]) -> Table:
    names, cell, body = naming(rows, ("estimator", "filter")), Cells(), list[tuple[str, ...]]()
    for row in rows:
        plain = {"auroc": replace(row.metrics["auroc"], interval=None)}
        metrics = cell(
            *(plain.get(key, row.metrics[key]) for key in ("auprc", "auroc", "recall", "ties"))
        )
        seconds = cell(row.metrics["seconds"], form=".3g")
        body.append(
            (
                *names(row),
                *metrics,
                *seconds,
                str(row.counts["poison"]),
                str(row.counts["cover"]),
                str(len(row.seeds)),
            )
        )
    head = (
        "attack",
        "estimator",
        "filter",
        "AUPRC [95 %]",
        "AUROC",
        "recall [95 %]",
        "ties",
        "s",
        "poison",
        "cover",
        "seeds",
    )
    legend = (
        "Poison rows among the clean training rows. recall: the share of the poison in as many of the top rows; ties: share of "
        "rows whose score another has. Cover rows enter no metric. [...]: what a method takes beyond the victim."
    )
    return Table("IDENTIFICATION", legend, head, body, 3, cell.notes(), grouped=True)


def _mitigation(rows: Sequence[Row]) -> Table:
    judged = [
        replace(
            r,
            settings=r.settings | {"judge": r.settings.get("detector") or r.settings.get("filter")},
        )
        for r in rows
    ]
    names, cell, body = (
        naming(judged, ("estimator", "judge", "mitigation")),
        Cells(),
        list[tuple[str, ...]](),
    )
    for row in judged:
        shown = {"asr_after": row.metrics["asr_after"].interval}
        keys = ("asr_before", "asr_after", "accuracy_before", "accuracy_after")
        rates = cell(*(replace(row.metrics[key], interval=shown.get(key)) for key in keys))
        gone = cell(row.metrics["poison_removed"], row.metrics["clean_removed"], form=".1%")
        effort = cell(row.metrics["retrainings"], row.metrics["seconds"], form=".3g")
        body.append((*names(row), *rates, *gone, *effort, str(len(row.seeds))))
    head = (
        "attack",
        "estimator",
        "judge",
        "mitigation",
        "ASR",
        "after [95 %]",
        "accuracy",
        "after",
    )
    legend = (
        "ASR: attack success rate over all attacked test points, and clean accuracy, before and after. poison, clean: the share "
        "of these rows that was removed; runs: retrainings; judge: the detector or filter on whose verdict it works."
    )
    return Table(
        "MITIGATION",
        legend,
        (*head, "poison", "clean", "runs", "s", "seeds"),
        body,
        4,
        cell.notes(),
        grouped=True,
    )


def _certificates(rows: Sequence[Row]) -> Table:
    names, cell, body = naming(rows, ("certifier",)), Cells(), list[tuple[str, ...]]()
    for row in rows:
        rates = cell(row.metrics["accuracy"], *(row.metrics[f"certified_{at}"] for at in RADII[1:]))
        others = cell(row.metrics["median_radius"], form=".3g") + cell(
            replace(row.metrics["asr"], interval=None)
        )
        seconds = cell(row.metrics["seconds"], form=".3g")
        body.append((*names(row), *rates, *others, *seconds, str(len(row.seeds))))
    head = (
        "attack",
        "certifier",
        "accuracy",
        *(f">={at}" for at in RADII[1:]),
        "radius",
        "ASR",
        "s",
        "seeds",
    )
    legend = (
        "Certified accuracy: share of the clean test points that are right, and stay so whatever r training rows are inserted or "
        "deleted; radius: its median; ASR: attack success rate against the certified model."
    )
    return Table("CERTIFIED", legend, head, body, 2, cell.notes(), grouped=True)
