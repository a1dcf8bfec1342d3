"""Blocks of finished models in a folder, for a killed job to go on.

Files are whole or absent, and named by a digest of all that their models depend on.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from poisonbench import log
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.training.many.ensemble import Part
from poisonbench.training.many.stacked import States
from poisonbench.training.recipe import Recipe
from poisonbench.training.start import bytes_of

KIND = "models"
LAYOUT = 2  # of what is kept: goes up when older files would be read otherwise than they were meant

# bytes of finished models kept in memory; more are read from the folder at need
RESIDENT = 1 << 30

Reader = Callable[[], States]
# masks (k, n) bool and k seeds -> what is kept of the k models, on the CPU
Maker = Callable[[Tensor, list[int]], States]


@dataclass(frozen=True)
class Shelf:
    """Keeps the result of a block of models under a digest of everything that it depends on.

    Attributes:
        folder: where the blocks lie; None keeps nothing.
        digest: of what all blocks of the job share.
    """

    folder: Path | None
    digest: str = ""

    @classmethod
    def of(
        cls,
        folder: Path | None,
        data: Dataset,
        recipe: Recipe,
        points: Dataset | None,
        how: str,
    ) -> "Shelf":
        """Opens `folder` for the models of one job.

        Args:
            folder: None keeps nothing.
            data: n training instances.
            recipe: hyperparameters.
            points: whose predictions are kept in the place of the models, or None.
            how: names all else that the parameters of the models depend on.
        """
        if folder is None:
            return cls(None)
        log.sweep(folder)
        start = recipe.start and (recipe.start.digest, recipe.start.trained)
        causes = (LAYOUT, recipe, start, how, str(data.x.device), torch.__version__)
        total = hashlib.sha256(repr(causes).encode())
        for part in (data, points):
            if part is not None:
                form = repr((part.dtype, part.layout))
                total.update(form.encode())
                total.update(bytes_of(part.x))
                total.update(bytes_of(part.y))
        return cls(folder, total.hexdigest())

    def find(
        self,
        masks: Tensor,
        seeds: list[int],
        train: Reader,
    ) -> tuple[States, Reader | None]:
        """Returns the block of these models and a reader of its file; trains where it is missing.

        Args:
            masks: (k, n) bool, the instances of the models.
            seeds: k ints.
            train: makes the block.
        """
        if self.folder is None:
            return train(), None
        causes = repr((self.digest, seeds, masks.shape))
        total = hashlib.sha256(causes.encode())
        total.update(bytes_of(masks))
        digest = total.hexdigest()
        name = f"models-{digest[:16]}.h5"
        path = self.folder / name

        def read() -> States:
            record = log.read(path, KIND)
            if record.config != {"digest": digest}:
                raise LogError(path, "holds other models")
            return {name: torch.as_tensor(value) for name, value in record.data.items()}

        with suppress(LogError):  # absent or damaged: made again
            return read(), read
        states = train()
        log.write(path, KIND, config={"digest": digest}, data=states)
        return states, read


def make_blocks(
    shelf: Shelf,
    blocks: Sequence[Tensor],
    masks: Tensor,
    seeds: Sequence[int],
    make: Maker,
    watched: frozenset[str],
    bar: "tqdm[None]",
) -> tuple[tuple[Part, ...], Tensor]:
    """Returns the K models in blocks, and which of them diverged, (K,) bool.

    Args:
        shelf: where finished blocks lie.
        blocks: for each the rows of its models, (k,) int64.
        masks: (K, n) bool, the instances of each model.
        seeds: K ints.
        make: trains the models of a block.
        watched: names of what is finite in a model that did not diverge.
        bar: of the progress, brought to the share of the models that are done.
    """
    parts: list[Part] = []
    diverged = torch.zeros(len(masks), dtype=torch.bool)
    resident = 0
    done = 0
    for rows in blocks:
        chosen = [seeds[k] for k in rows.tolist()]
        train = partial(make, masks[rows], chosen)
        states, read = shelf.find(masks[rows], chosen, train)
        resident += sum(value.nbytes for value in states.values())
        load: Reader = partial(dict, states)
        if read is not None and resident > RESIDENT:
            load = read
        parts.append(Part(rows, load))
        diverged[rows] = ~finite(states, watched)
        done += len(rows)
        bar.update(bar.total * done // len(masks) - bar.n)
    return tuple(parts), diverged


def finite(states: States, watched: frozenset[str]) -> Tensor:
    """Returns (k,) bool: whether every prediction of a model, or all that is watched, is finite."""
    flags = []
    for name, value in states.items():
        if name == "logits" or name in watched:
            known = value.isfinite()
            flags.append(known.reshape(len(value), -1).all(1))
    return torch.stack(flags).all(0)
