"""Methods, models and kinds of data: a pair that does not fit is refused before any work."""

import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from click.testing import CliRunner

from attacks import ATTACKS
from attacks.gradient_matching import GradientMatching
from attacks.none import NoAttack
from attacks.sleeper_agent import SleeperAgent
from defenses.baselines.random import RandomScores
from experiments.cli.commands import main
from experiments.plan.checks.fit import SMALLEST, model_fault
from experiments.plan.parse import parse
from poisonbench.contracts.attack_rules import craft
from poisonbench.data import DATASETS, KIND_OF, KINDS, Dataset, kinds_of, load
from poisonbench.errors import ConfigError
from poisonbench.models import MODELS, build
from poisonbench.training import Recipe

WORDS = ("", "?", "bad", "good")


@dataclass(frozen=True)
class OnSentences(NoAttack):
    kinds: ClassVar[tuple[str, ...]] = ("tokens",)


@dataclass(frozen=True)
class OnNumbers(RandomScores):
    whole: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(KINDS) if self.whole else ("vector", "image", "spectrogram")


def of_kind(kind: str) -> Dataset:
    """Twelve instances of two classes."""
    y = torch.arange(12) % 2
    if kind == "tokens":
        return Dataset(2 + y[:, None].repeat(1, 8), y, 2, vocabulary=WORDS)
    x = torch.rand(
        12, *SMALLEST[kind].shape, generator=torch.Generator().manual_seed(0)
    )
    return Dataset(x, y, 2, kind)


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of one's own, with methods, and a data set of each kind."""
    module = types.ModuleType("own_kinds")
    module.OnSentences = OnSentences
    module.OnNumbers = OnNumbers
    for kind in KINDS:
        data = of_kind(kind)
        setattr(module, kind, lambda data=data: (data, data))
    monkeypatch.setitem(sys.modules, "own_kinds", module)


def grid(dataset: object = "digits", model: str = "mlp", **parts: object) -> dict:
    return {
        "dataset": dataset,
        "recipe": {"model": model},
        "attack": [{"name": "none"}],
        **parts,
    }


def test_the_kind_of_every_built_in_data_set_is_known():
    assert set(KIND_OF) == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_a_built_in_data_set_is_of_the_kind_that_is_told(name: str, data_root: Path):
    train, test = load(name, data_root)
    assert train.kind == test.kind == KIND_OF[name]


def test_a_method_takes_the_kinds_that_it_declares_or_all():
    assert kinds_of(OnSentences()) == ("tokens",)
    assert kinds_of(OnNumbers(whole=True)) == tuple(KINDS)
    assert kinds_of(NoAttack()) == tuple(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_refused_for_a_kind_exactly_if_it_cannot_be_built_for_it(
    model: str, kind: str
):
    layout = of_kind(kind).layout
    told = model_fault(model, kind)
    if told:
        with pytest.raises(ConfigError, match=f"model '{model}'"):
            build(model, layout, 0)
        assert model in told
        return
    logits = build(model, layout, 0)(layout.sample(3))
    assert logits.shape == (3, 2)


def test_the_trial_of_a_model_draws_nothing():
    state = torch.get_rng_state()
    model_fault.cache_clear()
    model_fault("mlp", "vector")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("attack", [GradientMatching, SleeperAgent])
def test_an_attack_that_mirrors_its_poison_takes_no_sounds(attack: type):
    assert kinds_of(attack(augment="shift-flip")) == ("image",)
    assert kinds_of(attack(augment="shift")) == ("image", "spectrogram")


def test_an_attack_does_not_run_on_a_kind_that_it_does_not_take():
    data = of_kind("vector")
    with pytest.raises(
        ConfigError, match=r"OnSentences works on tokens, got .* vector"
    ):
        craft(OnSentences(), data, data, Recipe(), 0)
    words = of_kind("tokens")
    assert len(craft(OnSentences(), words, words, Recipe(), 0).train) == 12


SURROGATE = {"mode": "neighbour", "surrogate": {"model": "cnn"}}
REFUSED = {
    "an attack": (
        grid(attack=[{"name": "none"}, {"name": "own_kinds:OnSentences"}]),
        "attack: own_kinds:OnSentences takes data of kind tokens; data set 'digits' is of kind im",
    ),
    "a detector": (
        grid("sst2", "text-cnn", detector=[{"name": "own_kinds:OnNumbers"}]),
        "detector: own_kinds:OnNumbers takes data of kind vector or image or spectrogram; data",
    ),
    "one value of a detector": (
        grid(
            "sst2",
            "text-cnn",
            detector=[{"name": "own_kinds:OnNumbers", "whole": [True, False]}],
        ),
        "detector: own_kinds:OnNumbers takes data",
    ),
    "a model": (grid("adult", "cnn"), "recipe.model: model 'cnn' works on images"),
    "a model of sentences": (
        grid("fsdd", "text-cnn"),
        "recipe.model: model 'text-cnn' works on sentences .*; data set 'fsdd' is of kind spect",
    ),
    "augmentation": (
        grid(
            "adult",
            recipe={"model": "mlp", "augment": "flip"},
        ),
        "recipe.augment: augment 'flip' mirrors images; data set 'adult' is of kind vector",
    ),
    "an attacker's model": (
        grid("adult", attack=[{"name": "label-flip", **SURROGATE}]),
        "attack: label-flip: model 'cnn' works on images",
    ),
    "one of two data sets": (
        grid(["digits", "sst2"]),
        "recipe.model: model 'mlp' multiplies values.*; data set 'sst2' is of kind tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_take_the_data_is_refused_by_the_parser(case: str):
    raw, told = REFUSED[case]
    with pytest.raises(ConfigError, match=told):
        parse(raw)
    assert parse(raw, fit=False).scenes


def test_all_faults_are_told_at_once():
    raw = grid(
        ["adult", "fsdd"],
        "text-cnn",
        attack=[{"name": "own_kinds:OnSentences"}],
    )
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    assert len(caught.value.errors) == 4


def test_what_takes_the_data_is_not_refused():
    raw = grid(
        "sst2",
        "text-cnn",
        attack=[{"name": "own_kinds:OnSentences"}, {"name": "label-flip"}],
        detector=[{"name": "own_kinds:OnNumbers", "whole": True}, {"name": "random"}],
    )
    assert len(parse(raw).scenes) == 2


@pytest.mark.parametrize("how", [["--dry-run"], []])
def test_data_from_outside_are_judged_once_loaded_and_before_any_work(
    tmp_path: Path, how: list[str]
):
    path = tmp_path / "grid.toml"
    path.write_text(
        'dataset = "own_kinds:vector"\nattack = [{name = "own_kinds:OnSentences"}]\n'
        'recipe = {model = "mlp", epochs = 1}\n'
    )
    logs = tmp_path / "logs"
    result = CliRunner().invoke(main, ["run", str(path), "-o", str(logs), *how])
    assert result.exit_code == 2, result.output
    told = "takes data of kind tokens; data set 'own_kinds:vector' is of kind vector"
    assert told in result.output
    assert not list(logs.rglob("*.h5"))


def test_the_list_of_methods_tells_the_kinds_of_data_that_each_takes():
    result = CliRunner().invoke(main, ["list", "attacks", "--json"])
    told = {
        name: row.get("kinds")
        for name, row in json.loads(result.output)["attacks"].items()
    }
    for name, cls in ATTACKS.items():
        kinds = getattr(cls, "kinds", None)
        if isinstance(kinds, tuple):
            assert told[name] == [list(kinds)], name
    assert told["gradient-matching"] == [["image", "spectrogram"], ["image"]]
    assert told["label-flip"] is None
    shown = CliRunner().invoke(main, ["list", "attacks"]).output
    assert "Data: tokens\n" in shown
    assert "Data: image, spectrogram; or image\n" in shown
