"""The tables of the study of random labels."""

from collections.abc import Sequence

from experiments.study.markdown import table
from experiments.study.means import Mean
from experiments.study.random_labels.series import (
    MODEL,
    TEST,
    TRAINED,
    Value,
    models,
    series,
    sources,
)

# columns: heading, points, name of the statistic
COLUMNS = (
    ("own share", TRAINED, "own share"),
    ("own first", TRAINED, "own first"),
    ("next by own", TRAINED, "next by own"),
    ("tail heaviness", TEST, "tail heaviness"),
    ("proponents", TEST, "proponents"),
    ("positive share", TEST, "positive share"),
)


def page(values: Sequence[Value]) -> str:
    """Returns the tables of each model."""
    parts = []
    for model in models(values):
        parts += [f"### {model}", _errors(values, model)]
        parts += [_influence(values, model), _agreement(values, model)]
    return "\n\n".join(parts)


def _errors(
    values: Sequence[Value],
    model: str,
) -> str:
    of_training = series(
        values,
        model,
        MODEL,
        TRAINED,
        "error",
    )
    of_test = series(
        values,
        model,
        MODEL,
        TEST,
        "error",
    )
    body = [
        [f"{share:.0%}", str(of_training[share]), str(of_test[share])]
        for share in of_training
    ]
    return table(["random labels", "training error", "test error"], body)


def _influence(
    values: Sequence[Value],
    model: str,
) -> str:
    """A line for each estimator and some shares.

    How the largest other influence compares is told where all points' own rows come first.
    """
    body = []
    for source in sources(values, "own share"):
        columns = {}
        for _, points, name in COLUMNS:
            columns[name] = series(values, model, source, points, name)
        for share in shown(columns["own share"]):
            cells = {name: str(column[share]) for name, column in columns.items()}
            if columns["own first"][share].value < 1:
                cells["next by own"] = "-"
            body.append([source, f"{share:.0%}", *cells.values()])
    headings = [heading for heading, _, _ in COLUMNS]
    return table(["estimator", "random labels", *headings], body)


def _agreement(
    values: Sequence[Value],
    model: str,
) -> str:
    body = []
    heads: list[str] = []
    for pair in sources(values, "agreement"):
        known = series(
            values,
            model,
            pair,
            TEST,
            "agreement",
        )
        chosen = shown(known)
        heads = [f"{share:.0%}" for share in chosen]
        body.append([pair, *[str(known[share]) for share in chosen]])
    return table(["agreement of", *heads], body)


def shown(known: dict[float, Mean]) -> list[float]:
    """Returns the first, the middle and the last share."""
    shares = list(known)
    places = sorted({0, len(shares) // 2, len(shares) - 1})
    return [shares[place] for place in places]
