"""A cleaning as a file: every default written out."""

from typing import Any

import tomli_w

from experiments.plan.cleaning.parse import DEFAULTS
from experiments.plan.cleaning.spec import Cleaning, Criterion
from experiments.plan.fields import plain
from experiments.plan.spec import Method

Table = dict[str, Any]


def resolved_cleaning(cleaning: Cleaning) -> str:
    """Returns the cleaning as TOML with every default written out; it parses to the same again."""
    source = cleaning.source
    document: Table = {"name": cleaning.name}
    if source.dataset is None:
        document |= {"train": source.train, "test": source.test}
    else:
        document["dataset"] = plain(source.dataset)
    document["held_out"] = source.held_out
    document["remove"] = list(cleaning.remove)
    document["seeds"] = list(cleaning.seeds)
    document["trainings"] = cleaning.trainings
    document["recipe"] = plain(cleaning.recipe)
    document["noise"] = [plain(noise) for noise in cleaning.noise]
    document |= _methods(cleaning.criteria)
    return tomli_w.dumps(document)


def _methods(criteria: tuple[Criterion, ...]) -> dict[str, list[Table]]:
    """The tables of all methods, those of criteria with the estimators that serve them."""
    found: dict[str, dict[Method, Table]] = {part: {} for part in DEFAULTS}
    for criterion in criteria:
        own = _table(found[criterion.part], criterion.method)
        if criterion.estimator is not None:
            _table(found["estimator"], criterion.estimator)
            served = own.setdefault("estimator", [])
            if criterion.estimator.name not in served:
                served.append(criterion.estimator.name)
    return {part: list(of_part.values()) for part, of_part in found.items()}


def _table(tables: dict[Method, Table], method: Method) -> Table:
    """The table of a method, made where it is not there."""
    made = {"name": method.name, **plain(method.value)}
    return tables.setdefault(method, made)
