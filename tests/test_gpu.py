"""Training on a CUDA device: bit-equal, alone and among many; going on when memory runs out."""

from dataclasses import replace

import pytest
import torch
from conftest import random_data
from on_device import agree, gpu, real

from poisonbench.data import Dataset, Layout
from poisonbench.gradients import Form, dot_products
from poisonbench.memory import Budget
from poisonbench.models import build
from poisonbench.training import Recipe, replay, train, train_many

pytestmark = gpu

RECIPE = Recipe(
    model="cnn", epochs=3, batch_size=16, lr=0.02, momentum=0.5, checkpoints=3
)
LARGE = pytest.param("resnet9", marks=real)  # slow on a CPU


def digits_like(n: int, seed: int) -> Dataset:
    return random_data(n, seed=seed, dtype=torch.float32)


LIKE_THE_PAPERS = {
    "optimizer": "adamw",
    "lr": 0.002,
    "warmup": 0.2,
    "label_smoothing": 0.1,
    "augment": "crop-flip",
}


@pytest.mark.parametrize("model", ["mlp", "cnn", LARGE])
def test_a_recipe_of_the_papers_gives_the_same_run_on_the_device_alone_and_among_many(
    model: str,
):
    data = random_data(40)
    recipe = replace(RECIPE, model=model, **LIKE_THE_PAPERS)
    want = train(data, recipe, 3).model()
    there = data.to("cuda")
    trace = train(there, recipe, 3)
    for _ in replay(trace):
        pass
    many = train_many(there, torch.ones(2, 40).bool(), recipe, [3, 3])
    for name, value in want.state_dict().items():
        for state in (trace.checkpoints[-1].state, many.state(0), many.state(1)):
            torch.testing.assert_close(state[name].cpu(), value, rtol=1e-6, atol=1e-8)


@real
@pytest.mark.parametrize("model", ["mlp", "cnn", "cnn7", "resnet9"])
def test_mixed_precision_is_repeated_bit_for_bit_and_is_near_the_full_one(model: str):
    data = digits_like(40, 0).to("cuda")
    recipe = replace(RECIPE, model=model, mixed_precision=True, **LIKE_THE_PAPERS)
    trace = train(data, recipe, 3)
    for _ in replay(trace):
        pass
    full = train(data, replace(recipe, mixed_precision=False), 3)
    state = trace.checkpoints[-1].state
    assert all(value.dtype != torch.bfloat16 for value in state.values())
    assert not torch.equal(state["head.weight"], full.model().head.weight)
    torch.testing.assert_close(trace.losses[0], full.losses[0], rtol=0.1, atol=0.05)
    many = train_many(data, torch.ones(1, 40).bool(), recipe, [3])
    for name, value in state.items():
        assert torch.equal(many.state(0)[name], value.cpu())


@pytest.mark.parametrize("model", ["mlp", "cnn", LARGE])
def test_models_trained_together_on_the_device_are_those_trained_one_by_one(model: str):
    """In float64: products with patches, and grouped convolutions by `vmap`.

    Both against one convolution after another.
    """
    data = random_data(24).to("cuda")
    masks = (
        torch.rand((3, 24), generator=torch.Generator().manual_seed(0)).argsort(1) < 16
    )
    recipe = Recipe(model=model, epochs=2, batch_size=8, lr=0.02, checkpoints=1)
    ensemble = train_many(data, masks, recipe, [1, 2, 3])
    for k, mask in enumerate(masks):
        for name, value in (
            train(data.take(mask), recipe, k + 1).checkpoints[-1].state.items()
        ):
            torch.testing.assert_close(
                ensemble.state(k)[name], value.cpu(), rtol=1e-8, atol=1e-9
            )
    assert ensemble.logits(data).is_cuda


@pytest.mark.parametrize("model", ["mlp", "cnn", "cnn7", "resnet9"])
def test_training_is_bit_equal_and_replays_on_the_device(model: str):
    recipe = Recipe(model=model, epochs=2, batch_size=16, lr=0.02, checkpoints=2)
    data = digits_like(60, 0).to("cuda")
    a, b = train(data, recipe, 3), train(data, recipe, 3)
    *_, step = replay(a)
    for name, value in a.checkpoints[-1].state.items():
        assert torch.equal(value, b.checkpoints[-1].state[name])
        assert torch.equal(value, step.model.state_dict()[name])


@real
def test_when_memory_runs_out_blocks_are_halved_and_the_result_is_the_same():
    """In float64: in float32 rounding decides which of a pool's pixels is the largest."""
    layout = Layout((3, 32, 32), 10, "image")
    model = build("resnet9", layout, 0).double().cuda()
    train_set, test = (random_data(n, (3, 32, 32)).to("cuda") for n in (512, 64))
    want = dot_products(
        model, train_set, test, Form("margin", "all"), Budget(1 << 28, 8)
    )
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_reserved() + (6 << 30)) / total
    )
    try:
        got = dot_products(
            model, train_set, test, Form("margin", "all"), Budget(1 << 40, 4096)
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    agree(got, want.cpu())
