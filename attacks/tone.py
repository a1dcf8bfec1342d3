"""Tone (Koffas, Xu, Conti & Picek, WiseML 2022, arXiv 2107.14569). A short tone is the trigger.

The paper mixes a tone above the range of hearing into the waveform, at the beginning, in the middle
or at the end of a recording. In a spectrogram of logarithms that is a bar in one band: where two
sounds meet, the louder one hides the other.

Cost: O(budget n + m) spectrograms.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

from torch import Tensor

from attacks.kit.backdoor import dirty_label
from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_fraction,
    check_part,
)
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.training import Recipe

Time = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Tone:
    """Mixes a tone into rows of other classes, labels them `target`, and attacks with it.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        band: lowest row of the spectrogram that the tone fills; None: as high as it can lie.
        bins: rows that it fills.
        frames: columns that it fills.
        time: when it sounds.
        level: of the tone, on the scale of the spectrogram.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("spectrogram",)

    target: int = 0
    budget: float = 0.05
    band: int | None = None
    bins: int = 2
    frames: int = 8
    time: Time = "end"
    level: float = 0.8

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_at_least("band", self.band, 0)
        check_at_least("bins", self.bins, 1)
        check_at_least("frames", self.frames, 1)
        check_choice("time", self.time, get_args(Time))
        check_part("level", self.level)

    def trigger(self, x: Tensor, seed: int = 0) -> Tensor:
        """Returns a copy of x, (k, channels, frequency, time), with the tone; no draw.

        Raises:
            ConfigError: the spectrograms are too small for the tone.
        """
        rows = self._rows(x.shape[-2])
        columns = self._columns(x.shape[-1])
        laid = x.clone()
        laid[..., rows, columns] = x[..., rows, columns].clamp(min=self.level)
        return laid

    def _rows(self, height: int) -> slice:
        first = self.band
        if first is None:
            first = height - self.bins
        if first < 0 or first + self.bins > height:
            what = f"band {self.band} and bins {self.bins} do not fit {height} bands"
            raise ConfigError([what], "choose a lower band or fewer bins")
        return slice(first, first + self.bins)

    def _columns(self, width: int) -> slice:
        room = width - self.frames
        if room < 0:
            what = f"frames must be at most {width} on these data, got {self.frames}"
            raise ConfigError([what])
        first = {"start": 0, "middle": room // 2, "end": room}[self.time]
        return slice(first, first + self.frames)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no spectrograms or too small for the tone, or no row can
                be poisoned.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
        )
