"""Bulk training against one model after another."""

from dataclasses import replace

import torch

from experiments.gpu.influence.scores import cost
from experiments.gpu.record import Found
from experiments.gpu.setting import Setting
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train, train_many

ALONE = 2  # models trained one by one; their seconds are taken for all
RECIPE = Recipe(model="cnn", epochs=5, batch_size=128, lr=0.01, checkpoints=1)


def bulk(model: str, rows: int, models: int, setting: Setting, found: Found) -> None:
    """Models a second, together and one by one, each on a random half of the rows."""
    data = setting.rows(rows)
    recipe = replace(RECIPE, model=setting.model(model))
    if setting.small:
        models = 4
        recipe = replace(recipe, batch_size=8, epochs=1)
    order = torch.rand((models, len(data)), generator=generator(0, "halves"))
    masks = order.argsort(1) < len(data) // 2
    found["n"] = len(data)
    found["models"] = models
    _together(masks[:ALONE], recipe, setting, found)
    alone = cost(
        setting,
        found,
        f"{ALONE} one by one",
        lambda: [train(data.take(mask), recipe, 0) for mask in masks[:ALONE]],
    )
    together = _together(masks, recipe, setting, found)
    found["times as fast"] = round(alone / ALONE / (together / models), 2)


def _together(
    masks: torch.Tensor, recipe: Recipe, setting: Setting, found: Found
) -> float:
    """Trains all models at once; returns the seconds."""
    data = setting.rows(masks.shape[1])
    seeds = range(len(masks))
    name = f"{len(masks)} together"
    return cost(setting, found, name, lambda: train_many(data, masks, recipe, seeds))
