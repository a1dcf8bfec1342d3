"""The measured exponents beside those of the table of the field, as Markdown."""

from collections.abc import Sequence

from experiments.study.cost.contestants import Claim, Contestant, Powers
from experiments.study.cost.exponents import Exponent, exponent
from experiments.study.cost.measured import Growth
from experiments.study.cost.sizes import AXES
from experiments.study.markdown import table

TITLES = {
    "full": "Seconds of the processor to prepare and to score m points",
    "more": "Seconds of the processor to score m further points",
    "held": "Bytes kept between the two, beyond the run",
}
FAR = 0.25  # from what is claimed: marked
MIB = 2**20


def page(contestants: Sequence[Contestant], found: Sequence[Growth]) -> str:
    """Returns all tables."""
    parts = []
    for what, title in TITLES.items():
        rows = [_row(one, found, what) for one in contestants]
        head = ["estimator", *AXES, "at the smallest sizes"]
        parts.append(f"## {title}\n\n{table(head, rows)}")
    parts.append(_memory(contestants, found))
    return "\n\n".join(parts) + "\n"


def _row(one: Contestant, found: Sequence[Growth], what: str) -> list[str]:
    cells = [_cell(one, _of(found, one.name, axis), what) for axis in AXES]
    first = _of(found, one.name, one.axes[0])
    assert first is not None
    least = sorted(first.of(what)[0])
    middle = least[len(least) // 2]
    return [one.name, *cells, f"{middle:.3g}"]


def _of(found: Sequence[Growth], name: str, axis: str) -> Growth | None:
    for growth in found:
        if growth.name == name and growth.axis == axis:
            return growth
    return None


def _cell(one: Contestant, growth: Growth | None, what: str) -> str:
    """Returns an exponent and, in brackets, what is claimed; in bold where they are apart."""
    if growth is None:
        return ""
    costs = growth.of(what)
    if not costs[0][0]:
        return "none"
    fitted = exponent(growth.sizes, costs)
    claimed = _claimed(one.claim, what, growth.axis)
    if claimed is None:
        return str(fitted)
    text = f"{fitted} ({claimed:g})"
    return f"**{text}**" if is_apart(fitted, claimed) else text


def is_apart(fitted: Exponent, claimed: float) -> bool:
    """Tells whether the last doubling deviates from what is claimed by more than `FAR`."""
    return abs(fitted.last - claimed) > FAR


def _claimed(claim: Claim | None, what: str, axis: str) -> float | None:
    if claim is None or axis == "m":
        return None
    powers: Powers = getattr(claim, what)
    return powers.get(axis, 0.0)


def _memory(contestants: Sequence[Contestant], found: Sequence[Growth]) -> str:
    rows = []
    for one in contestants:
        cells = [one.name]
        for axis in AXES:
            growth = _of(found, one.name, axis)
            cells.append("" if growth is None else _peaks(growth))
        rows.append(cells)
    body = table(["estimator", *AXES], rows)
    return f"## MiB at most, at the smallest size of an axis and at eight times that\n\n{body}"


def _peaks(growth: Growth) -> str:
    peaks = growth.of("peak")
    first = min(peaks[0]) / MIB
    last = min(peaks[-1]) / MIB
    return f"{first:.1f}, {last:.1f}"
