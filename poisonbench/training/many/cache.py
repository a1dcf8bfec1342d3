"""Blocks of finished models in a folder, for a killed job to go on.

Files are whole or absent, and named by a digest of all that their models depend on.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poisonbench import log
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.training.many.stacked import States
from poisonbench.training.recipe import Recipe
from poisonbench.training.start import bytes_of

KIND = "models"
LAYOUT = 2  # of what is kept: goes up when older files would be read otherwise than they were meant

Reader = Callable[[], States]


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
