"""What is done to instances by kind: each transformation by hand, and what all of them keep."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from defenses import DETECTORS
from defenses.baselines.scale_up import ScaleUp
from defenses.baselines.strip import Strip
from defenses.kit.evidence import check_kind
from defenses.kit.transforms import images, sentences, spectrograms, vectors
from defenses.kit.transforms.table import TRANSFORMS, Transforms, transforms_of
from poisonbench.contracts.values import Evidence
from poisonbench.data import KINDS, Dataset
from poisonbench.data.kind import PAD, UNKNOWN, Layout
from poisonbench.errors import ConfigError
from poisonbench.training import Recipe, train

SHAPES = {
    "image": (3, 9, 10),
    "spectrogram": (1, 16, 24),
    "vector": (7,),
    "tokens": (9,),
}
WORDS = tuple("abcdefghijkl")


def some(kind: str, rows: int = 5) -> Dataset:
    """Random instances of a kind."""
    words = WORDS if kind == "tokens" else ()
    layout = Layout(SHAPES[kind], 2, kind, len(words))  # type: ignore[arg-type]
    x = layout.sample(rows)
    return Dataset(x, torch.arange(rows) % 2, 2, kind=kind, vocabulary=words)  # type: ignore[arg-type]


def sentence(*ids: int, length: int = 6) -> Tensor:
    """(1, length)."""
    padding = [PAD] * (length - len(ids))
    return torch.tensor([[*ids, *padding]])


def test_every_kind_of_data_has_its_transformations() -> None:
    assert set(TRANSFORMS) == set(KINDS)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_transformed_instances_are_of_the_same_kind_and_shape_and_others_of_no_account(
    kind: str,
) -> None:
    data = some(kind)
    before = data.x.clone()
    other = some(kind, 7).x[6]
    done = transforms_of(data)

    def versions(x: Tensor) -> list[Tensor]:
        found = done.perturbed(x, data.x) + done.added(x, other)
        if done.averaged is not None:
            found += done.averaged(x, other)
        if done.amplified is not None:
            found.append(done.amplified(x, 3.0))
        return found

    for whole, alone in zip(versions(data.x), versions(data.x[2:3]), strict=True):
        made = data.rows(whole, data.y)  # refuses another type
        assert made.shape == data.shape
        assert torch.equal(whole[2:3], alone)
        assert not torch.equal(whole, data.x)
        if KINDS[kind].unit:
            assert 0 <= float(whole.min()) <= float(whole.max()) <= 1
        if KINDS[kind].whole:
            assert 0 <= int(whole.min()) <= int(whole.max()) < len(WORDS)
            padded = (whole == PAD).int()
            assert bool((padded.diff(dim=1) >= 0).all()), "padding lies at the end"
            assert not bool((whole == PAD).all(1).any()), "a word is left"
    assert torch.equal(data.x, before)


def test_images_are_blurred_flipped_and_cropped() -> None:
    x = torch.rand(2, 3, 9, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images.flip(images.flip(x)), x)
    assert torch.allclose(images.blur(x)[:, :, 3, 4], x[:, :, 2:5, 3:6].mean((2, 3)))
    ones = torch.ones(2, 3, 9, 10)
    changed = images.perturbed(ones, ones)
    assert all(torch.allclose(version, ones) for version in changed)
    ring = torch.ones(1, 1, 8, 8)
    ring[..., 1:-1, 1:-1] = 0.0
    assert not images.crop(ring).any()  # the border is what is cut


def test_an_eighth_is_cropped_from_every_side_and_the_rest_enlarged() -> None:
    x = torch.zeros(1, 1, 16, 24, dtype=torch.float64)
    x[..., 2:14, 3:21] = 1.0
    assert bool((images.crop(x) == 1).all()), (
        "2 of 16 pixels from above and below, 3 of 24 from the sides"
    )
    x[..., 2, :] = 0.0
    assert not bool((images.crop(x) == 1).all()), "the third row stays"


def test_a_sound_moves_on_by_an_eighth_of_its_time() -> None:
    x = torch.arange(24.0).expand(1, 1, 16, 24)
    expected = [0.0, 0.0, 0.0, *range(21)]
    assert spectrograms.later(x)[0, 0, 5].tolist() == expected


def test_every_band_of_a_sound_is_lost_in_one_version_and_kept_in_the_other() -> None:
    x = torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    even, odd = spectrograms.without_bands(x, 0), spectrograms.without_bands(x, 1)
    for frequency in range(16):
        lost, kept = (even, odd) if frequency // 2 % 2 == 0 else (odd, even)
        assert torch.equal(kept[:, :, frequency], x[:, :, frequency])
        for row in range(2):
            line = lost[row, 0, frequency]
            assert torch.allclose(line, x[row].mean().expand(24))


def test_of_two_sounds_the_louder_is_heard() -> None:
    x = torch.tensor([0.2, 0.9]).view(1, 1, 1, 2)
    other = torch.tensor([0.5, 0.4]).view(1, 1, 2)
    assert spectrograms.added(x, other)[0].flatten().tolist() == pytest.approx(
        [0.5, 0.9]
    )


def test_every_word_is_dropped_or_hidden_once() -> None:
    x = torch.cat([sentence(2, 3, 4, 5, 6), sentence(7, 8), sentence(9)])
    assert torch.equal(
        sentences.dropped(x),
        torch.cat([sentence(3, 5), sentence(8), sentence(UNKNOWN)]),
    )
    assert torch.equal(
        sentences.hidden(x),
        torch.cat(
            [sentence(2, UNKNOWN, 4, UNKNOWN, 6), sentence(7, UNKNOWN), sentence(9)]
        ),
    )


def test_sentences_exchange_halves() -> None:
    x = torch.cat([sentence(2, 3, 4, 5, 6), sentence(7), sentence(2, 3, 4, 5, 6, 7)])
    one, two = sentences.added(x, sentence(8, 9, 10)[0])
    assert torch.equal(
        one, torch.cat([sentence(2, 3, 4, 10), sentence(7, 10), sentence(2, 3, 4, 10)])
    )
    assert torch.equal(
        two, torch.cat([sentence(8, 9, 5, 6), sentence(8, 9), sentence(8, 9, 5, 6, 7)])
    )
    full = sentence(2, 3, 4, 5, 6, length=5)
    one, two = sentences.added(full, full[0])
    assert torch.equal(one, full), "the longest fit"
    assert torch.equal(two, full)


def test_every_feature_is_at_the_median_of_the_training_rows_in_one_version() -> None:
    train = torch.tensor([[0.0, 10.0, 5.0], [1.0, 30.0, 5.0], [9.0, 20.0, 6.0]])
    x = torch.tensor([[7.0, 7.0, 7.0]])
    even, odd = vectors.perturbed(x, train)
    assert even.tolist() == [[1.0, 7.0, 5.0]]
    assert odd.tolist() == [[7.0, 20.0, 7.0]]


def test_vectors_exchange_halves() -> None:
    one, two = vectors.added(
        torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([4.0, 5.0, 6.0])
    )
    assert one.tolist() == [[1.0, 2.0, 6.0]]
    assert two.tolist() == [[4.0, 5.0, 3.0]]


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_detector_takes_the_kinds_for_which_its_transformation_has_a_meaning(
    kind: str,
) -> None:
    transforms = TRANSFORMS[kind]
    assert {field.name for field in fields(Transforms)} == {
        "perturbed",
        "added",
        "averaged",
        "amplified",
    }
    assert (kind in ScaleUp.kinds) == (transforms.amplified is not None)
    assert kind in Strip().kinds
    assert (kind in Strip(mode="average").kinds) == (transforms.averaged is not None)


@pytest.mark.parametrize("detector", [ScaleUp(), Strip(mode="average")], ids=repr)
def test_a_detector_refuses_a_kind_for_which_it_has_no_meaning(detector) -> None:
    kind = "vector" if isinstance(detector, ScaleUp) else "tokens"
    trace = train(some("vector", 9), Recipe("linear", epochs=1), 0)
    points = some(kind, 6)
    evidence = Evidence(trace, points, trusted=torch.ones(6, dtype=torch.bool))
    with pytest.raises(
        ConfigError, match=f"has a meaning for the kinds .*, got '{kind}'"
    ):
        detector(evidence)


def test_whatever_kinds_a_detector_names_are_kinds_of_data() -> None:
    for name, detector in DETECTORS.items():
        kinds = getattr(detector(), "kinds", tuple(KINDS))
        assert kinds, name
        assert set(kinds) <= set(KINDS), name


def test_a_kind_that_is_taken_is_not_refused() -> None:
    trace = train(some("vector", 9), Recipe("linear", epochs=1), 0)
    check_kind(Evidence(trace, some("vector")), "this", ("vector",))
