"""What the study found, in records that a file of JSON keeps."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RANDOM = "random rows"
SPREAD = "KNN-Shapley, a row of each part"


@dataclass(frozen=True)
class Removal:
    """Rows taken away from the training set of a model and of a vote, at one point.

    Attributes:
        seed: of both.
        source: what chose the rows.
        point: of the test set.
        count: k, the rows that were taken away.
        radius: of the vote at the point: so many rows cannot change its label.
        model: share of the trainings in which the model's prediction changed.
        vote: whether the label of the vote changed.
        moved: share of the votes by which the label's votes changed.
        estimated: whether the sum of the scores says that the model's prediction changes; None
            where scores have no unit.
    """

    seed: int
    source: str
    point: int
    count: int
    radius: int
    model: float
    vote: bool
    moved: float
    estimated: bool | None


@dataclass(frozen=True)
class Assault:
    """An attack on a model and on a vote, at all of its targets.

    Attributes:
        seed: of attack, model and vote.
        attack: its name.
        certifier: how the vote is made.
        rows: that the attack poisoned.
        changes: insertions, deletions and changed labels that this amounts to.
        targets: points that it attacks.
        model: share of them that the model labels as the attacker wants.
        vote: share that the vote labels so.
        changed: share whose label by the vote is another than without the attack.
        open: share whose radius is below the changes: no more than these can be changed.
        contradicted: targets that were changed although the radius reaches the changes.
    """

    seed: int
    attack: str
    certifier: str
    rows: int
    changes: int
    targets: int
    model: float
    vote: float
    changed: float
    open: float
    contradicted: int


@dataclass(frozen=True)
class Found:
    """All records.

    Attributes:
        parts: P, models of the vote from which rows were removed.
        removals: of rows that sources chose.
        assaults: of attacks.
    """

    parts: int
    removals: tuple[Removal, ...]
    assaults: tuple[Assault, ...]

    def save(
        self,
        path: Path,
    ) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(
        cls,
        path: Path,
    ) -> "Found":
        """Reads what `save` wrote."""
        kept = json.loads(path.read_text(encoding="utf-8"))
        removals = [Removal(**row) for row in kept["removals"]]
        assaults = [Assault(**row) for row in kept["assaults"]]
        return cls(kept["parts"], tuple(removals), tuple(assaults))


def contradictions(found: Found) -> list[str]:
    """Returns what a certificate excludes and yet happened; there should be nothing.

    A vote's label may not change within its radius, and k rows may move k votes of P at most.
    """
    told = []
    for removal in found.removals:
        where = f"{removal.source}, {removal.count} rows, point {removal.point}"
        if removal.vote and removal.count <= removal.radius:
            told.append(f"{where}: changed within the radius {removal.radius}")
        if removal.moved * found.parts > removal.count + 1e-6:
            told.append(f"{where}: {removal.moved:.3f} of the votes moved")
    for assault in found.assaults:
        if assault.contradicted or assault.changed > assault.open + 1e-9:
            where = f"{assault.attack}, {assault.certifier}, {assault.rows} rows"
            told.append(f"{where}: {assault.contradicted} targets changed")
    return told


def counts(removals: Sequence[Removal]) -> list[int]:
    """Returns the numbers of rows, ascending."""
    return sorted({removal.count for removal in removals})


def sources(removals: Sequence[Removal]) -> list[str]:
    """Returns what chose rows, in order."""
    return list(dict.fromkeys(removal.source for removal in removals))
