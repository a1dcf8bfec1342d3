"""Foreign proponents: do the few rows that a prediction rests on look like another class?

Influence names the rows (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055); class medians of the
features judge them, as in `class-similarity`.

Needs: influence, and features of the training set.

Cost: a forward pass over the training set and O(q n (d + log n)) for q proponents, at most k m;
no gradient and no training.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.baselines.class_similarity import foreignness
from defenses.kit.evidence import sound_influence
from defenses.kit.features import Layer, check_layer, row_features
from defenses.kit.proponents import strongest
from poisonbench.checks import check_at_least
from poisonbench.contracts.scope import Scope
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class ForeignProponents:
    """Mean foreignness of the k most influential rows of the predicted label.

    The foreignness of a row is its median similarity to the best other class minus that to the
    class of its label. Mislabelled rows, triggered or not, have it, and clean predictions seldom
    rest on such rows.

    Attributes:
        k: how many; at most the size of the smallest poison set to be found.
        layer: see `defenses.kit.features.encoder`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "features")
    reads: ClassVar[Scope] = "label"

    k: int = 5
    layer: Layer = "inner"

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-2, 2].

        NaN, with a warning, where an influence is not finite or the label has fewer than k
        training rows.
        """
        influence, sound = sound_influence(evidence, self.reads)
        train = evidence.trace.train
        labels = evidence.test.y
        few = torch.full((len(labels), self.k), -1, device=labels.device)
        for label in labels[sound].unique():
            own = (train.y == label).nonzero().squeeze(1)
            if len(own) < self.k:
                there = f"the {len(own)} training rows of label {int(label)}"
                warnings.warn(
                    f"k {self.k} is more than {there}: no score", stacklevel=2
                )
                continue
            points = (sound & (labels == label)).nonzero().squeeze(1)
            few[points] = strongest(influence, points, own, self.k)
        judged = few[:, 0] >= 0
        scores = torch.full_like(influence[:, 0], torch.nan)
        if bool(judged.any()):
            asked, place = few[judged].unique(return_inverse=True)
            rows = row_features(evidence, self.layer)
            foreign = foreignness(
                points=rows[asked],
                labels=train.y[asked],
                rows=rows,
                train_labels=train.y,
            )
            of_few = foreign.to(influence.dtype)[place]
            scores[judged] = of_few.mean(1)
        return scores
