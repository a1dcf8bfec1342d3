"""Points that are no instances of a run, labels that are no classes: told before any work."""

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.nn import functional as F

import poisonbench as pb
from poisonbench.data import Dataset
from poisonbench.errors import CalibrationWarning, ConfigError, DataError
from poisonbench.training.trace import Trace

WORDS = tuple(f"word{i}" for i in range(9))


class Reader(nn.Module):
    """The mean of the words of a sentence."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 4)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.words(x).mean(1))


def sentences(rows: int = 60, first: int = 2) -> Dataset:
    """Sentences that begin with a word of their own."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(2, len(WORDS), (rows, 5), generator=g)
    x[:, 0] = first
    x[:, 4] = 0
    return Dataset(x, torch.arange(rows) % 3, 3, vocabulary=WORDS)


def run_of_sentences() -> Trace:
    model = Reader()
    return Trace.of(model, sentences(), [(model.state_dict(), 0.1)])


def vectors() -> Dataset:
    return random_data(40, (6,), 3, dtype=torch.float32)


def run_of_vectors(outputs: int = 3, loss: object = "cross-entropy") -> Trace:
    model = nn.Linear(6, outputs)
    return Trace.of(model, vectors(), [(model.state_dict(), 0.1)], loss=loss)


BAD_SENTENCES = {
    "beyond the vocabulary": (lambda x: x + 9, "token ids from"),
    "below 0": (lambda x: x - 20, "token ids from -"),
    "padded in front": (lambda x: x.flip(1), "padding"),
    "all padding": (lambda x: x * 0, "padding"),
    "cut shorter": (lambda x: x[:, :4], "must be instances as the training set"),
}


@pytest.mark.parametrize("fault", BAD_SENTENCES)
def test_sentences_that_are_none_are_refused_wherever_they_are_given(fault: str):
    change, told = BAD_SENTENCES[fault]
    run = run_of_sentences()
    good = sentences(50, first=3).x
    bad = change(good)
    with pytest.raises(DataError, match=told):
        pb.influence(run, bad)
    with pytest.raises(DataError, match=f"the trusted points .*{told}"):
        pb.Guard(run, bad, "confidence")
    guard = pb.Guard(run, good, "confidence")
    with pytest.raises(DataError, match=told):
        guard(bad)
    assert guard(good[0]).label.shape == ()


@pytest.mark.parametrize("label", [-100, -1, 3, 300])
def test_labels_to_be_explained_are_classes(label: int):
    data = vectors()
    y = data.y[:4].clone()
    y[2] = label
    with pytest.raises(DataError, match=f"the test points have label {label} in row 2"):
        pb.influence(run_of_vectors(), (data.x[:4], y), labels="given")
    # which are not read otherwise
    assert pb.influence(run_of_vectors(), (data.x[:4], y)).shape == (4, 40)


def test_labels_of_a_model_of_one_number_are_numbers():
    data = vectors()
    run = run_of_vectors(1, "mean-squared-error")
    y = torch.tensor([-7, 1, 2, 99])
    found = pb.influence(run, (data.x[:4], y), "tracin", labels="given")
    assert found.isfinite().all()


@pytest.mark.parametrize(
    "loss",
    [
        "cross-entropy",
        "mean-squared-error",
        "label-smoothing",
        lambda out, y: F.nll_loss(F.log_softmax(out, 1), y, reduction="none"),
    ],
)
@pytest.mark.parametrize("row", [0, 1, 30])
@pytest.mark.parametrize("label", [-100, 3])
def test_labels_of_the_training_set_are_classes_whatever_row_and_loss(
    loss: object, row: int, label: int
):
    data = vectors()
    y = data.y.clone()
    y[row] = label
    told = f"the training set has label {label} in row {row}"
    with pytest.raises(DataError, match=told):
        Trace.of(nn.Linear(6, 3), (data.x, y), loss=loss)


def test_labels_of_one_logit_are_two_classes():
    data = vectors()
    y = data.y.clone()
    y[0] = 2
    with pytest.raises(DataError, match="label 2 in row 0"):
        Trace.of(nn.Linear(6, 1), (data.x, y), loss="binary-cross-entropy")


@pytest.mark.parametrize("in_double", [False, True])
@pytest.mark.parametrize("seen", [5, 20, 40])
def test_trusted_points_that_were_trained_on_are_refused(seen: int, in_double: bool):
    run = run_of_vectors()
    new = random_data(40, (6,), 3, dtype=torch.float32, seed=9).x
    trusted = torch.cat([vectors().x[:seen], new[seen:]])
    if in_double:
        trusted = trusted.double()
    with pytest.raises(ConfigError, match=f"{seen} of 40 trusted points are rows"):
        pb.Guard(run, trusted, "confidence")


def test_trusted_points_that_repeat_some_rows_by_chance_are_told_of():
    run = run_of_vectors()
    new = random_data(40, (6,), 3, dtype=torch.float32, seed=9).x
    with pytest.warns(CalibrationWarning, match="2 of 42 trusted points are rows"):
        pb.Guard(run, torch.cat([new, vectors().x[:2]]), "confidence")
