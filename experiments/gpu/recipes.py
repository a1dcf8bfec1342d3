"""How right victims of a few epochs are, by recipe: chosen on training rows that are held out."""

from dataclasses import replace

import torch

from experiments.gpu.record import Found
from experiments.gpu.setting import ROWS, Setting
from experiments.scene.cost import measured
from poisonbench.models import predict
from poisonbench.training import Recipe, train

HELD_OUT = ROWS // 10
SMALL = Recipe(model="cnn", epochs=1, batch_size=8, lr=0.01, checkpoints=1)
BASE = Recipe(
    epochs=8,
    batch_size=128,
    nesterov=True,
    schedule="one-cycle",
    augment="crop-flip",
    mixed_precision=True,
    checkpoints=1,
)
FEW = Recipe(  # that of grids/reference-cifar10.toml
    model="cnn7",
    epochs=12,
    batch_size=512,
    lr=0.7,
    nesterov=True,
    weight_decay=7e-4,
    warmup=0.2,
    label_smoothing=0.2,
    augment="shift-flip",
    mixed_precision=True,
    checkpoints=1,
)
RECIPES = {
    "cnn7, 512 rows, .7": FEW,
    "resnet18, .1": replace(BASE, model="resnet18", lr=0.1),
    "resnet18, 512 rows, .2": replace(BASE, model="resnet18", lr=0.2, batch_size=512),
    "resnet9, .0125": replace(BASE, model="resnet9", lr=0.0125),
    "resnet9, 512 rows, .01": replace(BASE, model="resnet9", lr=0.01, batch_size=512),
}


def recipes(setting: Setting, found: Found) -> None:
    """The share of held-out rows that are right, seconds, and the mean loss of every epoch."""
    count = len(setting.train)
    apart = min(HELD_OUT, count // 4)
    order = torch.arange(count)
    rows = setting.train.take(order[apart:])
    held_out = setting.train.take(order[:apart])
    for name, recipe in RECIPES.items():
        if setting.small:
            recipe = SMALL
        with measured(setting.device) as spent:
            trace = train(rows, recipe, 0)
        right = predict(trace.model(), held_out.x).argmax(1) == held_out.y
        assert trace.losses is not None
        found[name] = {
            "n": len(rows),
            "held out": apart,
            "epochs": recipe.epochs,
            "right": round(float(right.double().mean()), 4),
            "s": round(spent.seconds, 2),
            "losses": [round(float(loss), 3) for loss in trace.losses],
        }
