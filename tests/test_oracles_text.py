"""Gradients of sentences, a table of words among the parameters, against plain autograd."""

import pytest
import torch
from test_engine_models import assert_equal, autograd, products
from test_oracles_hydra import Largest
from test_text import LENGTH, lengths, model_of, names, sentences
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset, join
from poisonbench.gradients import (
    Form,
    dot_products,
    gradient_norms,
    gradient_vectors,
    plan,
    project,
)
from poisonbench.gradients.embedding import Sparse, embedding_gradient
from poisonbench.gradients.forms import Dense
from poisonbench.memory import Budget
from poisonbench.notes import collecting
from poisonbench.seeding import generator

# the table of words is large beside a sentence, and small beside it
VOCABULARIES = (400, 20)
vocabularies = pytest.mark.parametrize("vocabulary", VOCABULARIES)
FORMS = [
    Form(),
    Form("margin", "all"),
    Form("margin", "layer"),
    Form(layers="last"),
    Form("margin", "all", "last"),
]


def layers_of(model: nn.Module, rows: Tensor) -> list[Tensor]:
    """The gradients (B, p) cut into those of each layer, weight and bias together."""
    owners = {}
    for name, p in model.named_parameters():
        layer = name.rpartition(".")[0]
        owners[layer] = owners.get(layer, 0) + p.numel()
    return list(rows.split(list(owners.values()), 1))


def wanted_products(
    model: nn.Module, train: Dataset, test: Dataset, form: Form
) -> Tensor:
    """By one ordinary backward pass an instance."""
    if form.renormalize != "layer":
        return products(model, train, test, form)
    rows = layers_of(model, autograd(model, train, form))
    columns = layers_of(model, autograd(model, test, form))
    pairs = zip(columns, rows, strict=True)
    return sum(F.normalize(column) @ F.normalize(row).T for column, row in pairs)


@pytest.mark.parametrize("form", FORMS, ids=repr)
@vocabularies
@names
def test_products_of_gradients_are_those_of_autograd(
    name: str, vocabulary: int, form: Form
):
    train = sentences(11, 1, vocabulary=vocabulary)
    test = sentences(9, 2, vocabulary=vocabulary)
    model = model_of(name, train)
    wanted = wanted_products(model, train, test, form)
    assert_equal(dot_products(model, train, test, form), wanted, 1e-10)
    few = Budget(1 << 20, 4)
    assert_equal(dot_products(model, train, test, form, few), wanted, 1e-10)


@vocabularies
@names
def test_projections_and_norms_are_those_of_autograd(name: str, vocabulary: int):
    train = sentences(11, 1, vocabulary=vocabulary)
    test = sentences(9, 2, vocabulary=vocabulary)
    model = model_of(name, train)
    rows = autograd(model, train, Form())
    columns = gradient_vectors(model, test, "loss")
    flat = torch.cat([columns[key].flatten(1) for key in columns], 1)
    assert_equal(flat, autograd(model, test, Form()), 1e-10)
    assert_equal(project(model, train, columns), flat @ rows.T, 1e-10)
    assert_equal(gradient_norms(model, train), rows.norm(dim=1), 1e-10)


@names
def test_gradients_of_a_padded_sentence_are_those_of_the_sentence_alone(name: str):
    data = sentences(9, vocabulary=400)
    test = sentences(4, 2, vocabulary=400)
    model = model_of(name, data)
    together = dot_products(model, data, test)
    for row, length in enumerate(lengths(data.x).tolist()):
        one = data.rows(data.x[row : row + 1, :length], data.y[row : row + 1])
        alone = products(model, one, test, Form())
        assert_equal(together[:, row : row + 1], alone, 1e-10)


@names
def test_every_layer_is_differentiated_by_a_rule(name: str):
    data = sentences(4, vocabulary=400)
    model = model_of(name, data)
    with collecting() as told:
        how = plan(model, "all", data.x)
    assert not how.rest
    assert not told.figures
    assert how.size == sum(p.numel() for p in model.parameters())
    unseen = 400 - LENGTH  # rows of the table that no sentence of this length looks up
    assert how.size - how.held == unseen * 64


@names
def test_no_pass_holds_as_many_numbers_as_the_vocabulary_has_for_each_instance(
    name: str,
):
    """The table has 30,000 rows, a batch 40 sentences, and nothing more than the table's size."""
    vocabulary = 30_000
    train = sentences(40, 1, vocabulary=vocabulary)
    test = sentences(8, 2, vocabulary=vocabulary)
    model = model_of(name, train)
    dot_products(model, train, test)  # the test of the rules, which is paid once
    for form in (Form(), Form("margin", "all")):
        with Largest() as seen:
            dot_products(model, train, test, form)
        assert max(seen.sizes) <= vocabulary * 64


@names
def test_nothing_but_the_scores_grows_with_the_training_set(name: str):
    test = sentences(8, 2, vocabulary=400)
    model = model_of(name, test)
    found = []
    results = set()
    for n in (32, 128):
        train = sentences(32, 1, vocabulary=400)
        train = join([train] * (n // 32))
        dot_products(model, train, test)  # the test of the rules
        with Largest() as seen:
            scores = dot_products(model, train, test, budget=Budget(1 << 28, 16))
        found.append(set(seen.sizes))
        results.add(scores.numel())
    assert found[0] ^ found[1] <= results


def table_gradient(ids: Tensor, d: Tensor, rows: int) -> Tensor:
    """By autograd through the look-up, an example at a time."""
    table = nn.Embedding(rows, d.shape[-1]).double()
    found = []
    for one, own in zip(ids, d, strict=True):
        out = table(one)
        (gradient,) = torch.autograd.grad(out, table.weight, own)
        found.append(gradient.flatten())
    return torch.stack(found)


def test_a_word_that_stands_twice_has_the_sum_in_one_place():
    ids = torch.tensor([[3, 5, 3, 0], [5, 5, 5, 5], [1, 2, 3, 4]])
    d = torch.randn(3, 4, 2, generator=generator(0, "d"), dtype=torch.float64)
    module = nn.Embedding(50, 2).double()
    found = embedding_gradient(module, ids, d)
    wanted = table_gradient(ids, d, 50)
    torch.testing.assert_close(found.whole().g, wanted)
    torch.testing.assert_close(found.norm(), wanted.norm(dim=1))
    torch.testing.assert_close(found.squared().whole().g, wanted.square())
    torch.testing.assert_close(found.dot(found), wanted @ wanted.T)
    weights = torch.rand(3, 2, generator=generator(0, "w"), dtype=torch.float64)
    sums = torch.zeros(50, 2, 2, dtype=torch.float64)
    found.add_to(sums, weights)
    torch.testing.assert_close(sums.flatten(0, 1), wanted.T @ weights)
    both = found.join([found])
    torch.testing.assert_close(both.whole().g, torch.cat([wanted, wanted]))
    vectors = torch.rand(6, 100, generator=generator(0, "v"), dtype=torch.float64)
    torch.testing.assert_close(found.dot(Dense(vectors)), wanted @ vectors.T)


def test_sides_that_share_no_word_have_the_product_zero():
    d = torch.ones(2, 3, 4, dtype=torch.float64)
    one = Sparse(torch.tensor([[1, 2, 3], [4, 5, 6]]), d, 20)
    other = Sparse(torch.tensor([[7, 8, 9], [10, 6, 12]]), d, 20)
    nothing = Sparse(other.ids, torch.zeros_like(d), 20)
    assert one.dot(other).tolist() == [[0.0, 0.0], [0.0, 4.0]]
    assert one.dot(nothing).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert nothing.dot(one).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert one.dot(Sparse(other.ids - 6, d, 20)).tolist() == [[12.0, 0.0], [0.0, 8.0]]
