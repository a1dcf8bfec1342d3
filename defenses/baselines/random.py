"""Uniform noise: the floor of every table."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_points
from poisonbench.contracts.values import Evidence
from poisonbench.seeding import generator


@dataclass(frozen=True)
class RandomScores:
    """Scores uniform in [0, 1), drawn anew for every training seed and set of probe points."""

    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,)."""
        check_points(evidence)
        x = evidence.test.x
        # without the probe in the stream, all scenes of a seed would share one draw, and their mean
        # would not average it out
        content = x.cpu().numpy().tobytes()
        points = hashlib.sha256(content).hexdigest()
        g = generator(evidence.trace.seed, "random-scores", points)
        scores = torch.rand(len(x), generator=g, dtype=torch.float64)
        return scores.to(x.device, evidence.test.dtype)
