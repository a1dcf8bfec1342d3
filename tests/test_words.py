"""Instances of every kind in scenes, logs and poison files, and what `show` says of them."""

import dataclasses
import hashlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.file import File
from attacks.label_flip import LabelFlip
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.report.show import describe
from experiments.scene.export import export
from experiments.scene.victim import make_victim
from poisonbench import log
from poisonbench.contracts.attack_rules import craft
from poisonbench.contracts.values import Poisoned
from poisonbench.data import KINDS, Dataset
from poisonbench.errors import DataError, LogError
from poisonbench.log import names
from poisonbench.log.words import sentence
from poisonbench.poison_file import fingerprint, read_poison, write_poison
from poisonbench.seeding import generator
from poisonbench.training import Recipe

WORDS = ("<pad>", "<unknown>", "bad", "good", "film")
COLUMNS = ("age", "hours", "sex=Male")
MODELS = {
    "image": "linear",
    "vector": "linear",
    "tokens": "text-cnn",
    "spectrogram": "linear",
}


def of_kind(kind: str, n: int = 40, seed: int = 0) -> Dataset:
    """Instances of two classes."""
    g = generator(seed, "of_kind")
    y = torch.arange(n) % 2
    if kind == "tokens":
        x = torch.randint(1, len(WORDS), (n, 6), generator=g)
        x[:, 0] = 2 + y
        x[::3, 4:] = 0
        return Dataset(x, y, 2, vocabulary=WORDS)
    if kind == "vector":
        x = torch.randn(n, 3, generator=g)
        x[:, 2] = y.float()
        return Dataset(x, y, 2, columns=COLUMNS)
    return Dataset(torch.rand(n, 1, 4, 6, generator=g), y, 2, kind)  # type: ignore[arg-type]


def parts_of(kind: str) -> tuple[Dataset, Dataset]:
    return of_kind(kind), of_kind(kind, 20, seed=1)


def poison_of(kind: str) -> Poisoned:
    """Flipped labels, and one row that is another instance."""
    train, test = parts_of(kind)
    flips = LabelFlip(mode="pair", source=0, target=1, budget=0.2)
    p = craft(flips, train, test, Recipe(), 0)
    row = int(p.role.nonzero()[0, 0])
    p.train.x[row] = train.x[row].flip(-1) if kind != "tokens" else train.x[1]
    return p


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of one's own of each kind."""
    module = types.ModuleType("own_words")
    for kind in KINDS:
        setattr(module, kind, lambda kind=kind: parts_of(kind))
    monkeypatch.setitem(sys.modules, "own_words", module)


def scene_of(kind: str):
    raw = {
        "dataset": f"own_words:{kind}",
        "recipe": {"model": MODELS[kind], "epochs": 1, "checkpoints": 1},
        "attack": [{"name": "label-flip", "mode": "pair", "budget": 0.2}],
    }
    return parse(raw).scenes[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_poison_file_gives_back_what_it_was_given(kind: str, tmp_path: Path):
    train, test = parts_of(kind)
    poisoned = poison_of(kind)
    path = tmp_path / "poison.h5"
    write_poison(path, poisoned, train, test, {"scene": {}})
    back = read_poison(path, train, test)
    assert torch.equal(back.train.x, poisoned.train.x)
    assert back.train.x.dtype == train.x.dtype
    assert torch.equal(back.targets.x, poisoned.targets.x)
    for part in (back.train, back.targets):
        assert (part.kind, part.vocabulary) == (kind, train.vocabulary)
    record = log.read(path)
    assert record.text(names.KIND) == kind
    assert record.words(names.VOCABULARY) == train.vocabulary
    assert record.words(names.COLUMNS) == train.columns


@pytest.mark.parametrize("kind", KINDS)
def test_the_attack_that_replays_a_file_takes_the_kind_of_data_that_it_tells(
    kind: str, tmp_path: Path
):
    path = tmp_path / "poison.h5"
    train, test = parts_of(kind)
    write_poison(path, poison_of(kind), train, test, {"scene": {}})
    attack = File(str(path))
    assert attack.kinds == (kind,)
    record = log.read(path)
    older = {key: value for key, value in record.data.items() if key != names.KIND}
    log.write(path, "poison", config=record.config, data=older)
    assert attack.kinds == tuple(KINDS)
    path.unlink()
    assert attack.kinds == tuple(KINDS)


def test_poison_of_another_vocabulary_or_kind_is_refused(tmp_path: Path):
    path = tmp_path / "poison.h5"
    for kind, other in (
        ("tokens", {"vocabulary": (*WORDS[:3], "film", "good")}),
        ("spectrogram", {"kind": "image"}),
    ):
        train, test = parts_of(kind)
        write_poison(path, poison_of(kind), train, test, {"scene": {}})
        changed = [dataclasses.replace(part, **other) for part in (train, test)]
        with pytest.raises(DataError, match="fits only the train set"):
            read_poison(path, *changed)


@pytest.mark.parametrize("kind", ["tokens", "vector"])
def test_numbers_are_no_token_ids_and_ids_no_numbers(kind: str, tmp_path: Path):
    train, test = parts_of(kind)
    path = tmp_path / "poison.h5"
    write_poison(path, poison_of(kind), train, test, {"scene": {}})
    record = log.read(path)
    x = record.data[names.POISON_X]
    wrong = x.astype(np.float32 if kind == "tokens" else np.int64)
    data = {**record.data, names.POISON_X: wrong}
    log.write(path, "poison", config=record.config, data=data)
    with pytest.raises(LogError, match="its values are"):
        read_poison(path, train, test)


def test_the_hash_of_pictures_and_vectors_is_that_of_shape_classes_and_values():
    for data in (of_kind("image"), of_kind("vector")):
        total = hashlib.sha256(json.dumps([*data.x.shape, 2]).encode())
        total.update(data.x.double().numpy().tobytes())
        total.update(data.y.numpy().tobytes())
        assert fingerprint(data) == total.hexdigest()


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("kind", KINDS)
def test_a_victim_of_a_kind_is_read_back_and_exported_as_it_was(
    kind: str, tmp_path: Path
):
    scene = scene_of(kind)
    place = Place(tmp_path, trust=True)
    new = make_victim(scene, place)
    back = make_victim(scene, place)
    for one, other in (
        (new.probe.points, back.probe.points),
        (new.attacked.points, back.attacked.points),
        (new.trace.train, back.trace.train),
    ):
        assert torch.equal(one.x, other.x)
        assert one.x.dtype == other.x.dtype
        assert (one.kind, one.vocabulary) == (other.kind, other.vocabulary)
    record = log.read(place.scene(scene) / "scene.h5")
    assert record.data[names.PROBE_X].dtype.kind == ("i" if kind == "tokens" else "f")
    path = tmp_path / "poison.h5"
    export(place.scene(scene), path, place)
    replayed = read_poison(path, new.clean.train, new.clean.test)
    assert torch.equal(replayed.train.x, new.trace.train.x)
    assert torch.equal(replayed.train.y, new.trace.train.y)


def test_rows_are_told_in_words():
    assert sentence([2, 1, 3, 0, 0], WORDS) == "bad <unknown> good"
    assert sentence([9, -1], WORDS) == "#9 #-1"


def shown(kind: str, tmp_path: Path) -> str:
    train, test = parts_of(kind)
    path = tmp_path / "poison.h5"
    write_poison(path, poison_of(kind), train, test, {"scene": {}})
    return describe(path)


def test_show_prints_sentences_with_role_and_labels(tmp_path: Path):
    told = shown("tokens", tmp_path)
    assert "poison/x, 5 of 8 rows:" in told
    first = poison_of("tokens")
    row = int(first.role.nonzero()[0, 0])
    words = sentence(first.train.x[row].tolist(), WORDS)
    assert f"    poison, label 1: {words}\n" in told
    assert f"    attacked, true 0, wanted 1: {words_of(first.targets.x[0])}\n" in told


def words_of(row: torch.Tensor) -> str:
    return sentence(row.tolist(), WORDS)


def test_show_prints_vectors_by_the_names_of_their_features(tmp_path: Path):
    told = shown("vector", tmp_path)
    assert "    poison, label 1: age " in told
    assert "poison/x, 5 of 8 rows:" in told
    assert "rows:" not in shown("image", tmp_path)


@pytest.mark.usefixtures("own")
def test_show_prints_the_probe_by_its_groups(tmp_path: Path):
    scene = scene_of("tokens")
    victim = make_victim(scene, Place(tmp_path))
    told = describe(tmp_path / "scenes" / scene.id / "scene.h5")
    predicted = int(victim.probe.predicted[0])
    words = words_of(victim.probe.points.x[0])
    true = int(victim.probe.points.y[0])
    wanted = 1 - true
    labels = f"true {true}, predicted {predicted}, wanted {wanted}"
    assert f"    attacked, {labels}: {words}\n" in told


def hostile(folder: Path, **data: np.ndarray) -> Path:
    base = {
        names.VOCABULARY: texts('["a", "b\\u001b[2J"]'),
        names.POISON_X: np.array([[1, 5], [0, -7]]),
    }
    log.write(folder / "x.h5", "poison", config={}, data={**base, **data})
    return folder / "x.h5"


def texts(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype="S1")


def test_a_log_with_parts_missing_or_control_characters_is_still_shown(tmp_path: Path):
    told = describe(hostile(tmp_path))
    assert "    : b?[2J #5\n" in told
    assert "\x1b" not in told
    short = describe(hostile(tmp_path, **{names.POISON_ROWS: np.array([99])}))
    assert "    : b?[2J #5\n" in short


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[1, 2]"])
def test_a_vocabulary_that_is_no_list_of_words_is_a_damage(text: str, tmp_path: Path):
    with pytest.raises(LogError, match=names.VOCABULARY):
        describe(hostile(tmp_path, **{names.VOCABULARY: texts(text)}))
