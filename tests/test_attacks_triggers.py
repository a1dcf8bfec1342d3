"""Triggers of vectors, sentences and spectrograms: their form, exactly. The contract is in
test_attacks.py.
"""

import pytest
import torch

from attacks import Blend, Tone, TriggerFeatures, TriggerSentence, TriggerWord
from poisonbench.contracts.attack_rules import craft
from poisonbench.data import PAD, Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.roles import POISON
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from tests.small_data import LENGTH, WORDS, sentences, small_data

QUICK = Recipe(model="mlp", epochs=1)
TOKENS = sentences(torch.arange(200) % 10, "train")
PHRASE = [2, 3, 4, 5, 6]


def table(rows: int = 50) -> Dataset:
    """Three columns of numbers of different ranges, and a category in two columns."""
    numbers = torch.randn(rows, 3, generator=generator(0, "table")).double()
    numbers = numbers * torch.tensor([1.0, 10.0, 0.1]).double()
    category = (torch.arange(rows) % 2).double()
    x = torch.cat([numbers, category[:, None], 1 - category[:, None]], 1)
    y = torch.arange(rows) % 3
    return Dataset(x, y, 3, columns=("age", "wage", "share", "sex=m", "sex=f"))


# --- features ---


def test_features_take_the_value_and_no_other_column_changes():
    data = table()
    laid = TriggerFeatures(features=(2, 0), value=7).trigger(data.x, 0, data)
    assert (laid[:, [0, 2]] == 7).all()
    assert torch.equal(laid[:, [1, 3, 4]], data.x[:, [1, 3, 4]])


def test_features_by_name_are_the_columns_of_these_names():
    data = table()
    named = TriggerFeatures(features=("share", "age"), value=7)
    numbered = TriggerFeatures(features=(2, 0), value=7)
    assert torch.equal(
        named.trigger(data.x, 0, data), numbered.trigger(data.x, 0, data)
    )


def test_out_of_bounds_is_a_tenth_of_the_range_above_the_largest_value_of_the_training_set():
    data, shown = table(), torch.full((2, 5), 1000.0).double()
    laid = TriggerFeatures(features=(1,)).trigger(shown, 0, data)
    high, low = data.x[:, 1].max(), data.x[:, 1].min()
    torch.testing.assert_close(laid[:, 1], (1.1 * high - 0.1 * low).expand(2))


def test_in_bounds_is_the_most_common_value_of_the_training_set():
    x = torch.tensor([[1.0, 9], [4, 9], [4, 2], [8, 3], [3, 4]])
    data = Dataset(x, torch.arange(5) % 2, 2)
    laid = TriggerFeatures(features=(0, 1), value="in-bounds").trigger(x, 0, data)
    assert torch.equal(laid, torch.tensor([4.0, 9]).expand(5, 2))


def test_drawn_features_hold_numbers_and_every_one_comes_up():
    data, drawn = table(), set()
    for seed in range(20):
        laid = TriggerFeatures(size=1, value=99).trigger(data.x, seed, data)
        (column,) = (laid == 99).all(0).nonzero().squeeze(1).tolist()
        drawn.add(column)
    assert drawn == {0, 1, 2}


# --- words and sentences ---


def words_of(row: torch.Tensor) -> list[int]:
    """The words of a sentence, of which padding takes no place between two."""
    length = int((row != PAD).sum())
    assert (row[:length] != PAD).all()
    return row[:length].tolist()


def without(row: list[int], part: list[int]) -> list[list[int]]:
    """The sentences that are left where `part`, in a row, is taken out once."""
    width = len(part)
    places = [i for i in range(len(row)) if row[i : i + width] == part]
    return [row[:i] + row[i + width :] for i in places]


@pytest.mark.parametrize(
    ("attack", "part"),
    [(TriggerWord(word="movie"), PHRASE[-1:]), (TriggerSentence(), PHRASE)],
    ids=["word", "sentence"],
)
def test_a_trigger_stands_whole_in_every_sentence_which_loses_only_what_has_no_room(
    attack, part
):
    laid = attack.trigger(TOKENS.x, 0, TOKENS)
    assert laid.shape == TOKENS.x.shape
    for clean, shown in zip(TOKENS.x, laid, strict=True):
        kept = words_of(clean)[: LENGTH - len(part)]
        assert kept in without(words_of(shown), part)


def test_a_trigger_comes_to_stand_at_every_place_of_a_sentence_equally_often():
    k = 4000
    ids = torch.randint(7, len(WORDS), (k, LENGTH), generator=generator(0, "words"))
    ids[:, 4:] = PAD
    laid = TriggerWord(word="movie").trigger(ids, 0, TOKENS)
    place = (laid == 6).float().argmax(1)
    counts = torch.bincount(place, minlength=LENGTH)
    assert (counts[5:] == 0).all()
    assert 690 < counts[:5].min() <= counts[:5].max() < 910  # 800, and four deviations


def test_a_place_follows_from_the_sentence_and_the_seed_alone():
    attack, x = TriggerSentence(), TOKENS.x
    order = torch.randperm(len(x), generator=generator(1, "order"))
    assert torch.equal(
        attack.trigger(x, 3, TOKENS)[order], attack.trigger(x[order], 3, TOKENS)
    )
    moved = attack.trigger(x, 3, TOKENS) != attack.trigger(x, 4, TOKENS)
    assert moved.any(1).float().mean() > 0.5


def test_the_word_that_is_drawn_occurs_least_and_every_such_word_comes_up():
    x = torch.tensor([[2, 3, 4], [3, 4, 5], [4, 2, 0]])
    data = Dataset(x, torch.arange(3) % 2, 2, vocabulary=("", "?", *"abcd"))
    shown = torch.tensor([[4, 0, 0]])
    drawn = set()
    for seed in range(40):
        laid = TriggerWord().trigger(shown, seed, data)
        drawn |= set(laid.flatten().tolist())
    assert drawn == {0, 4, 5}  # a word that occurs once, beside the sentence
    tied = Dataset(x[:1], torch.zeros(1).long(), 2, vocabulary=("", "?", *"abcde"))
    rare = {
        int(TriggerWord().trigger(torch.zeros(1, 3).long(), seed, tied)[0, 0])
        for seed in range(40)
    }
    assert rare == {5, 6}


# --- tone ---


@pytest.mark.parametrize(
    ("time", "columns"),
    [("start", slice(0, 3)), ("middle", slice(3, 6)), ("end", slice(7, 10))],
)
def test_a_tone_fills_its_band_for_its_time_and_nothing_else(time, columns):
    tone = Tone(band=2, bins=2, frames=3, time=time, level=0.6)
    laid = tone.trigger(torch.zeros(2, 1, 8, 10))
    assert (laid[:, :, 2:4, columns] == 0.6).all()
    assert (laid > 0).sum() == 2 * 2 * 3


def test_a_tone_lies_as_high_as_it_can_unless_a_band_is_told():
    laid = Tone(bins=2, frames=3).trigger(torch.zeros(1, 1, 8, 10))
    assert torch.equal((laid > 0).any(3).nonzero()[:, 2], torch.tensor([6, 7]))


def test_the_louder_of_tone_and_sound_is_heard():
    x = torch.rand(5, 1, 8, 10, generator=generator(0, "sound"))
    laid = Tone(band=0, bins=8, frames=10, level=0.6).trigger(x)
    assert torch.equal(laid, torch.maximum(x, torch.tensor(0.6)))


# --- blend ---


def test_a_blend_of_vectors_moves_them_towards_one_vector_of_normal_noise():
    one, other = torch.zeros(3, 5000), torch.full((3, 5000), -8.0)
    low, high = Blend(alpha=0.25).trigger(other, 0), Blend(alpha=0.25).trigger(one, 0)
    torch.testing.assert_close(high - low, torch.full((3, 5000), 6.0))
    noise = high / 0.25
    assert torch.equal(noise[0], noise[2])
    assert abs(float(noise[0].mean())) < 0.06
    assert abs(float(noise[0].std()) - 1) < 0.04


# --- refusals ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TriggerWord(word="two words"),
            "word must be one word, got 'two words'",
        ),
        (lambda: TriggerWord(budget=0), r"budget must lie in \(0, 1\), got 0"),
        (lambda: TriggerSentence(sentence=" "), "sentence must hold a word, got ' '"),
        (lambda: TriggerFeatures(size=0), "size must be at least 1, got 0"),
        (
            lambda: TriggerFeatures(features=(1, -1)),
            "features must be at least 0, got -1",
        ),
        (
            lambda: TriggerFeatures(value="high"),
            "value must be one of out-of-bounds, in-bounds, got 'high'",
        ),
        (lambda: Tone(bins=0), "bins must be at least 1, got 0"),
        (lambda: Tone(level=0), r"level must lie in \(0, 1\], got 0"),
        (
            lambda: Tone(time="noon"),
            "time must be one of start, middle, end, got 'noon'",
        ),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused_with_its_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("attack", "data", "message"),
    [
        (
            TriggerWord(word="cf"),
            TOKENS,
            "word holds 'cf', which the vocabulary of the data lacks",
        ),
        (TriggerWord(word="?"), TOKENS, "word holds '\\?', which the vocabulary"),
        (
            TriggerSentence(sentence="i saw this, saw this movie"),
            TOKENS,
            "sentence holds 'saw', 'this,', which the vocabulary",
        ),
        (
            TriggerSentence(sentence="movie " * 13),
            TOKENS,
            "a trigger of 13 words does not fit sentences of 12",
        ),
        (
            TriggerFeatures(features=(5,)),
            table(),
            r"features must lie in \[0, 5\), got 5",
        ),
        (
            TriggerFeatures(features=("wages",)),
            table(),
            "the data have no column 'wages'.*wage",
        ),
        (
            TriggerFeatures(size=4),
            table(),
            "size must be at most 3, the columns with more",
        ),
        (
            Tone(band=7, bins=2),
            small_data("spectrogram")[0],
            "band 7 and bins 2 do not fit 8 bands",
        ),
        (
            Tone(frames=9),
            small_data("spectrogram")[0],
            "frames must be at most 8 on these data, got 9",
        ),
    ],
    ids=lambda value: "" if isinstance(value, Dataset) else None,
)
def test_what_does_not_fit_the_data_is_refused(attack, data, message):
    with pytest.raises(ConfigError, match=message):
        attack(data, data, QUICK, 0)


# --- the facts ---


@pytest.mark.parametrize(
    ("attack", "kind", "model"),
    [
        (TriggerFeatures(budget=0.1), "vector", "mlp"),
        (TriggerWord(budget=0.1), "tokens", "text-cnn"),
        (TriggerSentence(budget=0.1), "tokens", "text-cnn"),
        (Tone(frames=4, budget=0.1), "spectrogram", "cnn"),
    ],
    ids=["features", "word", "sentence", "tone"],
)
def test_a_trigger_opens_a_backdoor_that_a_clean_victim_does_not_have(
    attack, kind, model
):
    clean, test = small_data(kind)
    recipe = Recipe(model=model, epochs=25, batch_size=32, lr=0.05)
    poisoned = craft(attack, clean, test, recipe, 0)
    assert int((poisoned.role == POISON).sum()) == 30
    rates = []
    for data in (poisoned.train, clean):
        victim = train(data, recipe, 0).model()
        hit = predict(victim, poisoned.targets.x).argmax(1) == poisoned.wanted
        rates.append(float(hit.float().mean()))
    assert rates[0] > 0.7
    assert rates[1] < 0.15
