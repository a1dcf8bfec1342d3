"""What a training step of a model takes: our loop against a plain one in PyTorch."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn import functional as F

from experiments.gpu.record import Found
from experiments.gpu.setting import Setting
from experiments.scene.cost import measured
from poisonbench.models import build
from poisonbench.training import Recipe, train

FEW = 5  # steps of the shorter run; the difference to the longer one is free of set-up
MORE = 20
RECIPE = Recipe(model="resnet9", epochs=1, batch_size=512, lr=0.01, checkpoints=1)


@dataclass(frozen=True)
class Plain:
    """A loop of five lines, without bit-equal repetition.

    Attributes:
        tf32: convolutions and products in TF32.
        mixed: the forward pass in bfloat16.
        channels_last: the order of the entries in memory.
        tuned: cuDNN tries its algorithms, also those that are not deterministic.
    """

    tf32: bool = False
    mixed: bool = False
    channels_last: bool = False
    tuned: bool = False


OURS = {
    "ours, float32, batch 128": replace(RECIPE, batch_size=128),
    "ours, float32": RECIPE,
    "ours, mixed, batch 128": replace(RECIPE, batch_size=128, mixed_precision=True),
    "ours, mixed": replace(RECIPE, mixed_precision=True),
    "ours, mixed, crop-flip": replace(
        RECIPE, mixed_precision=True, augment="crop-flip"
    ),
    "ours, cnn7, mixed, shift-flip": replace(
        RECIPE, model="cnn7", mixed_precision=True, augment="shift-flip"
    ),
    "ours, cnn, float32, batch 128": replace(RECIPE, model="cnn", batch_size=128),
}
PLAIN = {
    "plain, float32": Plain(),
    "plain, tf32": Plain(tf32=True),
    "plain, mixed": Plain(mixed=True),
    "plain, mixed, channels last": Plain(mixed=True, channels_last=True),
    "plain, mixed, channels last, tuned": Plain(
        mixed=True, channels_last=True, tuned=True
    ),
}


def step_times(setting: Setting, found: Found) -> None:
    """Milliseconds a step, by contestant."""
    for name, recipe in OURS.items():
        found[name] = _per_step(setting, recipe.batch_size, partial(_ours, recipe))
    for name, how in PLAIN.items():
        found[name] = _per_step(setting, RECIPE.batch_size, partial(_plain, how))


def _per_step(
    setting: Setting, batch: int, run: Callable[[Setting, int, int], None]
) -> float:
    """Returns the milliseconds of a step."""
    few = FEW
    more = MORE
    if setting.small:
        few = 1
        more = 2
        batch = 8
    run(setting, few, batch)
    seconds = []
    for steps in (few, more):
        with measured(setting.device) as cost:
            run(setting, steps, batch)
        seconds.append(cost.seconds)
    took = seconds[1] - seconds[0]
    return round(1000 * took / (more - few), 3)


def _ours(recipe: Recipe, setting: Setting, steps: int, batch: int) -> None:
    model = setting.model(recipe.model)
    adapted = replace(recipe, model=model, batch_size=batch)
    train(setting.rows(steps * batch), adapted, 0)


def _plain(how: Plain, setting: Setting, steps: int, batch: int) -> None:
    data = setting.rows(steps * batch)
    name = setting.model(RECIPE.model)
    model = build(name, data.layout, 0).to(setting.device).train()
    x = data.x
    if how.channels_last:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with _cudnn(how):
        for rows in torch.randperm(len(data), device=setting.device).split(batch):
            precision: contextlib.AbstractContextManager[object]
            precision = contextlib.nullcontext()
            if how.mixed:
                precision = torch.autocast(setting.device.type, torch.bfloat16)
            with precision:
                logits = model(x[rows])
            loss = F.cross_entropy(logits.float(), data.y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _cudnn(how: Plain) -> contextlib.AbstractContextManager[object]:
    return torch.backends.cudnn.flags(
        enabled=True,
        benchmark=how.tuned,
        deterministic=False,
        allow_tf32=how.tf32,
    )


def profile(setting: Setting, found: Found) -> None:
    """Milliseconds a step on the device of the dearest operations of our loop, mixed precision."""
    recipe = replace(RECIPE, mixed_precision=True, augment="crop-flip")
    steps = FEW
    batch = recipe.batch_size
    if setting.small:
        steps = 1
        batch = 8
    with torch.profiler.profile() as watched:
        _ours(recipe, setting, steps, batch)
    events = watched.key_averages()
    dearest = sorted(events, key=lambda event: -event.self_device_time_total)
    for event in dearest[:25]:
        each = event.self_device_time_total / steps / 1000
        found[event.key[:80]] = [round(each, 3), event.count // steps]
