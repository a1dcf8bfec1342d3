"""What an audit of many points reads: a trained model, its training set and points, as files.

`python -m experiments.bench.large.material FOLDER N M`, in a process of its own.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from experiments.bench.problem import images
from poisonbench.data import Dataset
from poisonbench.training import Recipe, train

RECIPE = Recipe(model="cnn", epochs=1, batch_size=64, lr=0.05, checkpoints=1)
TRUSTED = 10  # one in so many points


def write(folder: Path, n: int, m: int) -> None:
    """Writes model.pt, train.npz, points.npz and trusted.npz.

    Args:
        folder: where.
        n: training rows.
        m: points, a tenth of them trusted.
    """
    data, test, _ = images(n, m)
    model = train(data, RECIPE, 0).model()
    torch.save(model.state_dict(), folder / "model.pt")
    known = torch.arange(m) % TRUSTED == 0
    _save(folder / "train.npz", data)
    _save(folder / "points.npz", test.take(~known))
    _save(folder / "trusted.npz", test.take(known))


def _save(path: Path, data: Dataset) -> None:
    np.savez(path, x=data.x.numpy(), y=data.y.numpy())


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
