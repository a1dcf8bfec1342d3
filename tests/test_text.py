"""Models of sentences: every word seen, padding without a part, gradients as by autograd."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from poisonbench.data import PAD, Dataset, Layout, load
from poisonbench.errors import ConfigError
from poisonbench.models import build, predict
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train

NAMES = ("text-cnn", "transformer")
names = pytest.mark.parametrize("name", NAMES)
LENGTH = 9
VOCABULARY = 40
CLASSES = 3


def sentences(
    n: int,
    seed: int = 0,
    length: int = LENGTH,
    vocabulary: int = VOCABULARY,
) -> Dataset:
    """Random sentences of all lengths from 1 to `length`, in float64; words come twice in some."""
    layout = Layout((length,), CLASSES, "tokens", vocabulary)
    words = tuple(f"word{k}" for k in range(vocabulary))
    y = torch.randint(CLASSES, (n,), generator=generator(seed, "labels"))
    x = layout.sample(n, seed)
    return Dataset(x, y, CLASSES, vocabulary=words, precision=torch.float64)


def model_of(name: str, data: Dataset, seed: int = 0) -> nn.Module:
    return build(name, data.layout, seed).double()


def lengths(x: Tensor) -> Tensor:
    return (x != PAD).sum(1)


@names
def test_every_place_of_a_sentence_reaches_the_logits(name: str):
    data = sentences(1)
    model = model_of(name, data)
    whole = torch.arange(2, 2 + LENGTH)
    logits = model(whole[None])
    for place in range(LENGTH):
        other = whole.clone()
        other[place] = VOCABULARY - 1
        assert not torch.allclose(model(other[None]), logits)
        shorter = whole.clone()
        shorter[place] = PAD
        assert not torch.allclose(model(shorter[None]), logits)


@names
def test_a_padded_batch_scores_as_its_rows_alone(name: str):
    data = sentences(12)
    model = model_of(name, data)
    assert lengths(data.x).unique().tolist() == list(range(1, LENGTH + 1))
    logits = model(data.x)
    for row, length, found in zip(data.x, lengths(data.x), logits, strict=True):
        alone = model(row[None, :length])
        torch.testing.assert_close(found[None], alone, rtol=0, atol=1e-14)


@names
def test_the_vector_of_padding_has_no_part(name: str):
    data = sentences(12)
    model = model_of(name, data)
    before = model(data.x)
    before.sum().backward()
    vectors = model.features.words.weight
    assert bool((vectors.grad[PAD] == 0).all())
    with torch.no_grad():
        vectors[PAD] = 7.0
    assert torch.equal(model(data.x), before)


@names
def test_a_sentence_without_words_has_finite_logits_and_gradients(name: str):
    data = sentences(3)
    model = model_of(name, data)
    logits = model(torch.full((2, LENGTH), PAD))
    logits.sum().backward()
    assert bool(logits.isfinite().all())
    for p in model.parameters():
        assert bool(p.grad.isfinite().all())


def test_a_filter_that_finds_nothing_gives_zero_and_else_the_best_window():
    """text-cnn against the maximum over windows that are cut out one by one."""
    data = sentences(6)
    model = model_of("text-cnn", data).features
    found = model(data.x)
    wanted = []
    for row, length in zip(data.x, lengths(data.x), strict=True):
        words = model.words(row[:length])
        features = []
        for layer in model.windows:
            before = (layer.size - 1) // 2
            size = (length + layer.size - 1, words.shape[1])
            padded = torch.zeros(size, dtype=words.dtype)
            padded[before : before + length] = words
            windows = [padded[k : k + layer.size].flatten() for k in range(length)]
            features.append(layer.filters(torch.stack(windows)).relu().max(0).values)
        wanted.append(torch.cat(features))
    torch.testing.assert_close(found, torch.stack(wanted), rtol=0, atol=1e-14)


def test_attention_is_that_of_pytorch():
    data = sentences(6)
    block = model_of("transformer", data).features.blocks[0].attention
    peer = nn.MultiheadAttention(64, 4, batch_first=True).double()
    peer.load_state_dict(
        {
            "in_proj_weight": block.enter.weight,
            "in_proj_bias": block.enter.bias,
            "out_proj.weight": block.leave.weight,
            "out_proj.bias": block.leave.bias,
        }
    )
    words = torch.randn(6, LENGTH, 64, generator=generator(0, "words")).double()
    absent = data.x == PAD
    wanted, _ = peer(words, words, words, key_padding_mask=absent, need_weights=False)
    found = block(words, (~absent)[:, :, None].double())
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


@names
def test_the_order_of_words_matters(name: str):
    model = model_of(name, sentences(1))
    there = torch.arange(2, 2 + LENGTH)
    assert not torch.allclose(model(there[None]), model(there.flip(0)[None]))


@names
def test_models_of_sentences_refuse_other_kinds(name: str):
    for layout in (Layout((1, 8, 8), 2, "image"), Layout((12,), 2, "vector")):
        with pytest.raises(ConfigError, match="works on sentences of token ids"):
            build(name, layout, 0)


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "cnn7", "resnet9"])
def test_models_of_pictures_and_vectors_refuse_sentences(name: str):
    with pytest.raises(ConfigError):
        build(name, sentences(1).layout, 0)


@names
def test_equal_seeds_give_equal_parameters(name: str):
    layout = sentences(1).layout
    one, again, other = (build(name, layout, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


@pytest.mark.slow
def test_film_reviews_are_read_as_a_practitioner_would_accept(data_root: Path):
    """The recipe was found on a split of the training sentences; 20 s on one core."""
    train_set, test = load("sst2", data_root)
    recipe = Recipe(
        model="text-cnn",
        epochs=6,
        batch_size=32,
        lr=0.2,
        weight_decay=0.001,
        checkpoints=1,
    )
    model = train(train_set, recipe, 0).model()
    right = predict(model, test.x).argmax(1) == test.y
    assert float(right.double().mean()) >= 0.78
