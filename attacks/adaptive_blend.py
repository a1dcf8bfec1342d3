"""Adaptive-Blend (Qi, Xie, Li, Mahloujifar & Mittal, ICLR 2023). Poison shows part of the trigger.

It shows pieces of a noise image, the test point all of it. Cover rows, with pieces too but their
true labels, keep poison and clean rows of the target class together in feature space, which breaks
the defenses that part them there. Poison that never holds the whole trigger carries less of it: the
victim learns to add up pieces, and gives in to the sum. The paper's weights are .15 in training and
.2 at test time (fade=.75), its shares .3 % of poison and of cover.

Cost: O((budget + cover) n + m) images.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from attacks.kit.backdoor import Cover, dirty_label, mix, noise_image
from poisonbench.checks import check_at_least, check_fraction, check_part, check_share
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class AdaptiveBlend:
    """Mixes pieces of a noise image into rows of other classes.

    Poison is labelled `target`, cover rows keep their labels. The trigger is one function with a
    mask of its pieces: drawn for each row in training, none at test time. Chance draws which pieces
    a row shows, so poison and test points hold different parts of one and the same image.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        cover: cover rows as a fraction of the training set.
        alpha: a, the weight of the noise image.
        pieces: P, the image is cut into P x P pieces.
        keep: share of the pieces that a training row shows.
        fade: weight of the noise image in training rows as a share of a; below 1, the test points
            show it more clearly.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    trigger_differs = True

    target: int = 0
    budget: float = 0.01
    cover: float = 0.01
    alpha: float = 0.2
    pieces: int = 4
    keep: float = 0.5
    fade: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_share("cover", self.cover)
        check_fraction("alpha", self.alpha)
        check_at_least("pieces", self.pieces, 1)
        check_part("keep", self.keep)
        check_part("fade", self.fade)

    def trigger(self, x: Tensor, seed: int, mask: Tensor | None = None) -> Tensor:
        """Returns (1 - a m) x + a m R for x, (k, *shape), in [0, 1].

        Args:
            x: images.
            seed: of the noise image R.
            mask: m, (k, 1, height, width) in [0, 1], how much of the trigger each pixel shows;
                None: all of it.
        """
        image = noise_image(x, seed)
        if mask is None:
            return mix(x, image, self.alpha)
        return mix(x, image, self.alpha * mask)

    def masks(self, k: int, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
        """Returns k masks, (k, 1, height, width): `fade` on the kept pieces of each, 0 elsewhere.

        Raises:
            ConfigError: an image has fewer pixels along a side than pieces.
        """
        height, width = shape[-2:]
        most = min(height, width)
        if self.pieces > most:
            what = f"pieces must be at most {most} on images of {height}x{width}"
            raise ConfigError([f"{what}, got {self.pieces}"])
        total = self.pieces**2
        drawn = torch.rand((k, total), generator=g)
        rank = drawn.argsort(1).argsort(1)
        number = max(1, round(self.keep * total))
        kept = rank < number
        coarse = kept.view(k, 1, self.pieces, self.pieces) * self.fade
        row = torch.arange(height) * self.pieces // height
        column = torch.arange(width) * self.pieces // width
        mask: Tensor = coarse[:, :, row][..., column]
        return mask

    def _shown(self, x: Tensor, seed: int, stream: str) -> Tensor:
        """Returns the rows x, (k, *shape), with pieces that the stream of the seed draws."""
        shape = tuple(x.shape[1:])
        masks = self.masks(len(x), shape, generator(seed, stream))
        return self.trigger(x, seed, masks.to(x))

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind, or fewer pixels than pieces along a side, or no rows
                to poison or for cover.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        cover = Cover(
            share=self.cover,
            eligible=train.y != self.target,
            trigger=partial(self._shown, seed=seed, stream="cover pieces"),
        )
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
            poison=partial(self._shown, seed=seed, stream="poison pieces"),
            cover=cover,
        )
