"""The points of a rehearsal, and what the questions say of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.questions.question import Answers, surprises
from defenses.rehearsal.poison import Plant
from poisonbench.data import Dataset, join
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace

SHOWN = 20  # trusted points that get the trigger of a poison
AT_A_TIME = (
    3  # of these, that a question sees beside each other which looks at other points
)


@dataclass(frozen=True, eq=False)
class Stage:
    """The points of a rehearsal.

    Attributes:
        points: the r trusted points as they are, then those with triggers, labelled as the
            rehearsal's victim predicts.
        origin: (k,) int64, the trusted point behind each.
        family: (k,) int64, -1 for those without a trigger, else which plant's.
        taken: (k,) bool, those with a trigger that get the label wanted.
        counts: (k,) bool, those with a trigger that would not get that label without it.
    """

    points: Dataset
    origin: Tensor
    family: Tensor
    taken: Tensor
    counts: Tensor

    @property
    def clean(self) -> Tensor:
        """The points without a trigger, (k,) bool."""
        return self.family < 0

    def success(self, place: int) -> float:
        """Returns the share of the points of a plant that are taken in; 0 without points."""
        taken = self.taken[(self.family == place) & self.counts]
        return float(taken.double().mean()) if len(taken) else 0.0


def set_up(
    trace: Trace, trusted: Dataset, plants: tuple[Plant, ...], seed: int
) -> Stage:
    """Returns the trusted points without and with the triggers, as the victim predicts them.

    Args:
        trace: of the rehearsal's victim.
        trusted: r points with the labels that the victim under attack predicts.
        plants: what was planted.
        seed: of the draw of the points that get a trigger.
    """
    count = len(trusted)
    place = trusted.y.device
    model = trace.model()
    before = predict(model, trusted.x).argmax(1)
    nobody = torch.zeros_like(before, dtype=torch.bool)
    parts = [trusted.relabel(before)]
    origins = [torch.arange(count, device=place)]
    families = [torch.full_like(before, -1)]
    taken = [nobody]
    counts = [nobody]
    for family, its in enumerate(plants):
        order = torch.randperm(count, generator=generator(seed, its.family, "shown"))
        order = order.to(place)
        rows = order[its.attacks(trusted.y)[order]][:SHOWN]
        shown = its.trigger.shown(trusted.x[rows])
        after = predict(model, shown).argmax(1)
        parts.append(trusted.rows(shown, after))
        origins.append(rows)
        families.append(torch.full_like(rows, family))
        taken.append(after == its.target)
        counts.append(before[rows] != its.target)
    return Stage(
        points=join(parts),
        origin=torch.cat(origins),
        family=torch.cat(families),
        taken=torch.cat(taken),
        counts=torch.cat(counts),
    )


def held_against_others(said: Answers, stage: Stage) -> Tensor:
    """Returns what the questions say of all points, (f, k), each held against others.

    The points that come from one half of the trusted ones are held against the other half as it is.
    """
    even = stage.origin % 2 == 0
    of_odd = surprises(said, stage.clean & even)
    of_even = surprises(said, stage.clean & ~even)
    return torch.where(even, of_even, of_odd)
