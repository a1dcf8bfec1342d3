"""Defenses, one a file; a new one is a file and a line of this table."""

from defenses.norm_only import NormOnly
from defenses.random import RandomScores
from defenses.support_without_the_few import SupportWithoutTheFew
from defenses.tail_heaviness import TailHeaviness

DETECTORS: dict[str, type] = {
    "norm-only": NormOnly,
    "random": RandomScores,
    "support-without-the-few": SupportWithoutTheFew,
    "tail-heaviness": TailHeaviness,
}
