"""The tables of the study of certified influence."""

from collections.abc import Callable, Sequence

from experiments.study.certified.records import (
    Assault,
    Found,
    Removal,
    counts,
    sources,
)
from experiments.study.markdown import table
from experiments.study.means import Mean, mean_rate

Changed = Callable[[Removal], bool]


def of_model(removal: Removal) -> bool:
    """Whether most trainings without the rows change the model's prediction."""
    return removal.model > 0.5


def of_vote(removal: Removal) -> bool:
    """Whether the label of the vote changes."""
    return removal.vote


def said(removal: Removal) -> bool:
    """Whether the estimator says that the model's prediction changes."""
    return bool(removal.estimated)


def standing(
    removals: Sequence[Removal],
    source: str,
    changed: Changed,
) -> dict[int, Mean]:
    """Returns for each k the share of points that up to k removed rows leave as they were.

    Means over the seeds of the shares of points.
    """
    own = [removal for removal in removals if removal.source == source]
    least: dict[tuple[int, int], float] = {}
    for removal in own:
        place = (removal.seed, removal.point)
        number = removal.count if changed(removal) else float("inf")
        least[place] = min(least.get(place, float("inf")), number)
    return {count: _by_seed(least, count) for count in counts(own)}


def certified(removals: Sequence[Removal]) -> dict[int, Mean]:
    """Returns for each k the share of points that no k rows can change, by the vote."""
    least = {(own.seed, own.point): own.radius + 1.0 for own in removals}
    return {count: _by_seed(least, count) for count in counts(removals)}


def _by_seed(
    least: dict[tuple[int, int], float],
    count: int,
) -> Mean:
    """Returns the mean over seeds of the share of points that need more than `count` rows."""
    stands: dict[int, list[bool]] = {}
    for (seed, _), number in least.items():
        stands.setdefault(seed, []).append(number > count)
    rates = [sum(flags) / len(flags) for flags in stands.values()]
    return mean_rate(rates, len(least))


def page(found: Found) -> str:
    """Returns both tables."""
    return "\n\n".join([_removals(found.removals), _assaults(found.assaults)])


def _removals(removals: Sequence[Removal]) -> str:
    body = [_line("certified", "vote", certified(removals))]
    for source in sources(removals):
        body.append(_line(source, "vote", standing(removals, source, of_vote)))
        body.append(_line(source, "model", standing(removals, source, of_model)))
        first = next(one for one in removals if one.source == source)
        if first.estimated is not None:
            estimate = standing(removals, source, said)
            body.append(_line(source, "model, estimated", estimate))
    head = [str(count) for count in counts(removals)]
    return table(["rows chosen by", "of", *head], body)


def _line(
    source: str,
    whose: str,
    shares: dict[int, Mean],
) -> list[str]:
    return [source, whose, *[str(share) for share in shares.values()]]


def _assaults(assaults: Sequence[Assault]) -> str:
    """A line for each attack, number of rows and vote."""
    groups: dict[tuple[str, str, int], list[Assault]] = {}
    for assault in assaults:
        place = (assault.attack, assault.certifier, assault.rows)
        groups.setdefault(place, []).append(assault)
    body = []
    for (attack, certifier, rows), own in sorted(groups.items()):
        points = sum(assault.targets for assault in own)
        shares = (
            [assault.model for assault in own],
            [assault.vote for assault in own],
            [assault.changed for assault in own],
            [assault.open for assault in own],
        )
        cells = [str(mean_rate(each, points)) for each in shares]
        done = ", ".join(sorted({str(assault.changes) for assault in own}))
        body.append(
            [
                attack,
                str(rows),
                done,
                certifier,
                *[str(one) for one in cells],
            ]
        )
    head = [
        "attack",
        "rows",
        "changes",
        "vote",
        "success, model",
        "success, vote",
    ]
    return table([*head, "labels changed", "labels that may change"], body)
