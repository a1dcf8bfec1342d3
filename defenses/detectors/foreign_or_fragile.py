"""Foreign or fragile support: suspect is support of another class, or lost at a touch.

Foreign: the point and the rows that it rests on look like another class (`foreign-support`). That
tells only where the victim's features tell the classes apart, which clean points show. Where they
do not, the other question is asked. Fragile: the point's proponents lose hold of it when it is
transformed (`influence-collapse`; an image is blurred, flipped or cropped), as a trigger does that
is finer than what it is put on.

Needs: influence, features, and probe points known to be clean.

Cost: a forward pass over the n + m instances and O(k m n (d + log n)), or about the dot products of
gradients of one model.
"""

import contextlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.baselines.class_similarity import ClassSimilarity, foreignness
from defenses.detectors.foreign_support import TRUSTED, ForeignSupport
from defenses.detectors.influence_collapse import falls
from defenses.kit.evidence import (
    check_points,
    shared,
    sound_influence,
    trusted_points,
)
from defenses.kit.features import Layer, check_layer, features_of, point_features
from defenses.kit.tail_probability import combined, surprise_among
from poisonbench.checks import check_at_least, check_unit
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError, ModelError
from poisonbench.notes import note

SAMPLE = 1000  # rows by which it is guessed which question will be asked
FEWER = 4  # as a sample must be, of all rows


@dataclass(frozen=True)
class ForeignOrFragile:
    """-log p among the trusted points, of foreign support, or of the collapses taken together.

    It knows nothing of the attack: neither its budget nor its target.

    Attributes:
        foreign: share of the trusted points that look like another class than the predicted one,
            from which on the second question is asked.
        k: proponents asked for their class.
        watched: proponents whose influence is watched, by the cosines of the final model, whatever
            the estimator.
        layer: see `defenses.kit.features.encoder`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = (
        "influence",
        "features",
        "gradients",
        "reference",
    )
    least_trusted: ClassVar[int] = TRUSTED

    foreign: float = 0.5
    k: int = 5
    watched: int = 10
    layer: Layer = "inner"

    def __post_init__(self) -> None:
        check_unit("foreign", self.foreign)
        check_at_least("k", self.k, 1)
        check_at_least("watched", self.watched, 1)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) >= 0; NaN where the question has no answer.

        The log tells the share of trusted points that look foreign.

        Raises:
            ValueError: fewer than 10 trusted points.
        """
        check_points(evidence)
        evidence = shared(evidence)
        known = trusted_points(evidence, TRUSTED)
        if self._seems_foreign(evidence, known):
            # which sees the features of all rows on the way
            with contextlib.suppress(ConfigError, ModelError):
                falls(evidence, self.watched)
        similarity = ClassSimilarity(self.layer)(evidence)[known]
        share = float((similarity > 0).double().mean())
        note("foreign_trusted", share)
        if share >= self.foreign:
            return self._fragile(evidence, known)
        return ForeignSupport(self.k, self.layer)(evidence)

    def _seems_foreign(self, evidence: Evidence, known: Tensor) -> bool:
        """Whether the second question is likely to be asked, by some of the rows; few need none.

        It decides what is computed first, and no score.
        """
        train = evidence.trace.train
        step = len(train) // SAMPLE
        if step < FEWER or self.layer != "inner":
            return False
        some = train.take(torch.arange(0, len(train), step))
        foreign = foreignness(
            points=point_features(evidence, self.layer)[known],
            labels=evidence.test.y[known],
            rows=features_of(evidence.trace, self.layer, some),
            train_labels=some.y,
        )
        return float((foreign > 0).double().mean()) >= self.foreign

    def _fragile(self, evidence: Evidence, known: Tensor) -> Tensor:
        """Returns -log p of the collapses under all transformations together, (m,)."""
        influence, sound = sound_influence(evidence)
        lost = falls(evidence, self.watched)
        surprises = [surprise_among(fall, known) for fall in lost]
        fragile = combined(torch.stack(surprises))
        scores = fragile.masked_fill(~sound, torch.nan)
        return scores.to(influence.dtype)
