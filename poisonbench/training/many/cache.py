"""Blocks of finished models in a folder, for a killed job to go on: files whole or absent, named by a digest of their causes."""

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
from poisonbench.training.recipe import Recipe

KIND = "models"

States = dict[str, Tensor]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


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
        cls, folder: Path | None, data: Dataset, recipe: Recipe, points: Dataset | None, how: str
    ) -> "Shelf":
        """Opens `folder` for the models of one job; `how` names all else that their parameters depend on."""
        if folder is None:
            return cls(None)
        log.sweep(folder)
        start = recipe.start and (recipe.start.digest, recipe.start.trained)
        total = hashlib.sha256(
            repr((recipe, start, how, str(data.x.device), torch.__version__)).encode()
        )
        for part in (data, points):
            if part is not None:
                total.update(
                    repr((part.x.dtype, part.x.shape, part.classes)).encode()
                    + _bytes(part.x)
                    + _bytes(part.y)
                )
        return cls(folder, total.hexdigest())

    def find(
        self, masks: Tensor, seeds: list[int], train: Callable[[], States]
    ) -> tuple[States, Callable[[], States] | None]:
        """Returns the block of these models, (k, n) masks and k seeds, and a reader of its file; trains where it is missing."""
        if self.folder is None:
            return train(), None
        digest = hashlib.sha256(
            repr((self.digest, seeds, masks.shape)).encode() + _bytes(masks)
        ).hexdigest()
        path = self.folder / f"models-{digest[:16]}.h5"

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
