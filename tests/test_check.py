"""`poisonbench check`: a verdict per rule.

A broken method is refused by the name of the rule that it breaks.
"""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from broken_attacks import BROKEN, Everywhere, Pointless
from click.testing import CliRunner, Result
from test_contracts import CASES
from torch import Tensor
from toy_attack import Invert

from attacks import ATTACKS
from attacks.blend import Blend
from attacks.trigger_word import TriggerWord
from defenses import DETECTORS
from estimators import ESTIMATORS
from estimators.gas import GAS
from experiments.check import (
    ATTACK,
    DETECTOR,
    ESTIMATOR,
    AttackSubject,
    DetectorSubject,
    EstimatorSubject,
    Verdict,
    judge,
)
from experiments.check.contract import _broken_before
from experiments.check.planted import ATTACKED, sample
from experiments.check.victim import Standing
from experiments.cli import main
from poisonbench.contracts.attack_rules import RULES
from poisonbench.contracts.protocols import Scorer
from poisonbench.contracts.values import Evidence, Poisoned
from poisonbench.data import (
    KINDS,
    Dataset,
    Layout,
    check_pair,
    kinds_of,
    load,
    subset,
)
from poisonbench.training.trace import Trace

NO_VICTIM = {name: check for name, check in ATTACK.items() if name != "success"}


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    train, test = load("digits")
    return subset(train, 200, 0), subset(test, 60, 0)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def named(verdicts: list[Verdict], outcome: str) -> set[str]:
    return {verdict.rule for verdict in verdicts if verdict.outcome == outcome}


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_attack_is_refused_by_the_rule_that_it_breaks_and_no_other(
    cls: type, data: tuple[Dataset, Dataset]
):
    verdicts = list(
        judge(
            NO_VICTIM,
            AttackSubject("attack", f"broken_attacks:{cls.__name__}", cls(), data),
        )
    )
    told = "\n".join(
        f"{v.rule}: {v.told}" for v in verdicts if v.outcome in ("fail", "warn")
    )
    assert (named(verdicts, "fail"), named(verdicts, "warn")) == BROKEN[cls], told
    assert [verdict.rule for verdict in verdicts] == list(NO_VICTIM), (
        "a line a rule, whatever is broken"
    )


@pytest.mark.parametrize(
    ("rule", "attack"), CASES, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(CASES)]
)
def test_every_rule_of_the_contract_is_told_by_its_name(rule: str, attack: object):
    y = torch.arange(20) % 4
    clean = (
        Dataset(torch.linspace(0, 1, 20 * 9).view(20, 1, 3, 3), y, 4),
        Dataset(torch.full((8, 1, 3, 3), 0.5), y[:8], 4),
    )
    subject = AttackSubject("attack", "test_contracts:Broken", attack, clean)
    object.__setattr__(subject, "small", clean)  # all 20 rows in their order
    found = {v.rule: v for v in judge({name: ATTACK[name] for name in RULES}, subject)}
    assert found[rule].outcome == "fail"
    assert found[rule].words == RULES[rule]
    assert found[rule].told
    before = list(RULES)[: list(RULES).index(rule)]
    assert not [name for name in before if found[name].outcome == "fail"], (
        "only what follows from it may fail beside it"
    )


def test_faults_of_one_stage_are_told_together_and_later_ones_left_out(
    data: tuple[Dataset, Dataset],
):
    def attack(train: Dataset, test: Dataset, recipe: object, seed: int) -> object:
        from attacks import Patch

        p = Patch()(train, test, recipe, seed)
        return replace(p, role=p.role.long(), origin=p.origin[:-1])

    found = {
        v.rule: v.outcome
        for v in judge(
            ATTACK, AttackSubject("attack", "x:y", attack, data, victim=False)
        )
    }
    assert (found["shape"], found["dtype"], found["inputs"]) == ("fail", "fail", "ok")
    assert {
        found[rule]
        for rule in ("finite", "origin", "budget", "determinism", "trigger", "visible")
    } == {"skip"}


@pytest.mark.parametrize(
    ("attack", "outcome", "told"),
    [
        (Blend(), "ok", "kind spectrogram, vector too"),
        (TriggerWord(), "skip", "it takes data of kind tokens alone"),
        (Everywhere(), "fail", "on data of kind tokens: raised DataError: "),
        (Invert(), "warn", "declare `kinds`: on data of kind tokens: raised"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_attack_is_held_to_the_kinds_of_data_that_it_says_it_takes(
    attack: object, outcome: str, told: str
):
    kind = kinds_of(attack)[0]
    subject = AttackSubject("attack", "x:y", attack, sample(kind))
    [verdict] = judge({"kinds": ATTACK["kinds"]}, subject)
    assert verdict.outcome == outcome, verdict.told
    assert told in verdict.told


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_data_of_every_kind_without_a_download(kind: str):
    train, test = sample(kind)
    check_pair(train, test)
    assert train.kind == kind
    assert (len(train), len(test), train.classes) == (1297, 500, 10)


# --- the command ---


def test_an_attack_is_checked_on_data_of_a_kind_that_it_takes():
    result = call("check", "attack", "trigger-word", "--no-victim")
    assert result.exit_code == 0, result.output
    assert "300 training and 100 test rows of 12" in result.output
    assert "text-cnn sees 100% of the changed words" in result.output


def test_a_sound_attack_gets_a_line_a_rule_and_exit_code_0():
    result = call("check", "attack", "patch", "--set", "budget=0.05", "--no-victim")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("attack patch: Patch(target=0, budget=0.05")
    assert [line.split()[1] for line in lines[2:-2]] == list(ATTACK)
    assert {line.split()[0] for line in lines[2:-2]} == {"ok", "-"}
    assert "15 poison rows of 300, 15 paid for by budget 0.05" in result.output
    assert lines[-1].endswith("left out")


def test_a_broken_attack_gets_exit_code_1_the_rule_and_its_words():
    result = call("check", "attack", "broken_attacks:Overspends", "--no-victim")
    assert result.exit_code == 1
    assert (
        "FAIL  budget         4 poison rows, 3 are paid for by budget 0.01\n"
        in result.output
    )
    assert f"rule: {RULES['budget']}" in result.output
    assert "1 broken (budget)" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("attack", "pach"), "did you mean 'patch'"),
        (("attack", "no_such:Attack"), "cannot import 'no_such'"),
        (("attack", "patch", "--set", "budjet=1"), "did you mean 'budget'"),
        (
            ("attack", "patch", "--set", "budget=2.0"),
            "budget must lie in (0, 1), got 2.0",
        ),
        (("attack", "patch", "--set", "budget"), "the form is FIELD=VALUE"),
        (("attack", "patch", "--set", "budget=[0.1, 0.2]"), "one value per field"),
        (
            ("attack", "broken_attacks:Plain", "--set", "x=1"),
            "cannot be made: TypeError",
        ),
        (("attack", "patch", "--dataset", "digitz"), "did you mean 'digits'"),
        (("attack", "patch", "--model", "cn"), "did you mean 'cnn'"),
        (("estimator", "gas", "--model", "mlp"), "are for attacks"),
        (("detector", "strip", "--dataset", "digits"), "are for attacks"),
        (
            ("attack", "patch", "--dataset", "mnist", "--data-root", "/nowhere"),
            "MNIST was not found",
        ),
    ],
    ids=str,
)
def test_a_mistake_gets_exit_code_2(words: tuple[str, ...], part: str):
    result = call("check", *words)
    assert result.exit_code == 2, result.output
    assert part in result.stderr


def test_images_that_an_attack_refuses_are_enlarged_for_it():
    result = call("check", "attack", "warp", "--no-victim")
    assert result.exit_code == 0, result.output
    assert "of 1x32x32" in result.output


def test_the_verdicts_come_as_json_for_a_program():
    result = call("check", "attack", "broken_attacks:Seedless", "--no-victim", "--json")
    assert result.exit_code == 0, "a warning is no failure"
    told = json.loads(result.stdout)
    assert told["method"].startswith("Seedless(")
    assert {v["rule"]: v["outcome"] for v in told["verdicts"]}["seed"] == "warn"


@pytest.mark.slow
def test_a_victim_falls_for_a_patch_and_not_for_rows_that_keep_their_labels():
    train, test = load("digits")
    found = {}
    for name, attack in (
        ("patch", ATTACKS["patch"](budget=0.05)),
        ("pointless", Pointless(budget=0.05)),
    ):
        subject = AttackSubject("attack", "x", attack, (train, test))
        (verdict,) = judge({"success": ATTACK["success"]}, subject)
        found[name] = verdict
    assert found["patch"].outcome == "ok"
    assert found["pointless"].outcome == "warn"
    assert "unpoisoned 0.00" in found["patch"].told


def test_a_victim_that_floors_its_borders_is_warned_of(
    data: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
):
    from torch import nn

    from poisonbench.models import MODELS

    def floors(layout: Layout) -> nn.Module:
        body = nn.Sequential(nn.MaxPool2d(3), nn.Flatten())
        head = nn.Linear(4, layout.classes)
        model = nn.Sequential()
        model.add_module("features", body)
        model.add_module("head", head)
        return model

    monkeypatch.setitem(MODELS, "floors", floors)
    for place, outcome in (("bottom-right", "warn"), ("top-left", "ok")):
        subject = AttackSubject(
            "attack", "patch", ATTACKS["patch"](place=place), data, model="floors"
        )
        (verdict,) = judge({"visible": ATTACK["visible"]}, subject)
        assert verdict.outcome == outcome, verdict.told


# --- estimators and detectors ---


@dataclass(frozen=True)
class Stateful(GAS):
    """layerwise: as in GAS."""

    def fit(self, trace: Trace) -> Scorer:
        object.__setattr__(self, "_trace", trace)
        return lambda test: GAS.fit(self, self._trace)(test)


@dataclass(frozen=True)
class Opposite(GAS):
    """layerwise: as in GAS."""

    def fit(self, trace: Trace) -> Scorer:
        scorer = super().fit(trace)
        return lambda test: -scorer(test)


@dataclass(frozen=True)
class Ranked(GAS):
    """layerwise: as in GAS."""

    def fit(self, trace: Trace) -> Scorer:
        scorer = super().fit(trace)
        return lambda test: scorer(test) - scorer(test).mean(0)


@dataclass(frozen=True)
class Excused(Ranked):
    """A field `tolerance` excuses a residual, and no more than that.

    layerwise: as in GAS.
    tolerance: of no solver.
    """

    tolerance: float = 1.0


@dataclass(frozen=True)
class Constant:
    """Scores that say nothing."""

    uses = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        return torch.zeros(len(evidence.test))


@dataclass(frozen=True)
class Undeclared(Constant):
    """Reads influence in secret."""

    def __call__(self, evidence: Evidence) -> Tensor:
        return (
            evidence.test.x.sum(1)
            if evidence.influence is None
            else evidence.influence.amax(1)
        )


@dataclass(frozen=True)
class Wide(Constant):
    """A score a training row."""

    uses = ("influense",)

    def __call__(self, evidence: Evidence) -> Tensor:
        return torch.zeros(len(evidence.trace.train))


@dataclass(frozen=True)
class Tidies(Constant):
    """Sorts what it was given."""

    uses = ("influence",)

    def __call__(self, evidence: Evidence) -> Tensor:
        evidence.influence[:] = evidence.influence.clone()
        evidence.influence[0, 0] += 1
        return evidence.influence[:, -12:].sum(1)


@pytest.mark.parametrize(
    ("kind", "value", "fails", "warns"),
    [
        ("estimator", Stateful(), {"stateless"}, set()),
        ("estimator", Opposite(), set(), {"sign"}),
        ("estimator", Ranked(), {"alone"}, set()),
        ("estimator", Excused(), {"alone"}, set()),
        ("detector", Constant(), set(), {"meaning"}),
        ("detector", Undeclared(), {"honest"}, set()),
        ("detector", Wide(), {"uses", "runs"}, {"meaning"}),
        ("detector", Tidies(), {"untouched"}, set()),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set | str) else "",
)
def test_a_broken_estimator_or_detector_is_refused_by_its_rule(
    kind: str, value: object, fails: set[str], warns: set[str]
):
    table, subject = (
        (ESTIMATOR, EstimatorSubject)
        if kind == "estimator"
        else (DETECTOR, DetectorSubject)
    )
    verdicts = list(
        judge(table, subject(kind, f"test_check:{type(value).__name__}", value))
    )
    told = "\n".join(
        f"{v.rule}: {v.told}" for v in verdicts if v.outcome in ("fail", "warn")
    )
    assert named(verdicts, "fail") == fails, told
    assert warns <= named(verdicts, "warn"), told


SETTINGS = {
    "influence-functions": "damping=0.1",
    "downsampling": "models=10",
    "shapley": "permutations=5",
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_of_the_table_keeps_the_rules(name: str):
    settings = ["--set", SETTINGS[name]] if name in SETTINGS else []
    result = call("check", "estimator", name, *settings)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_of_the_table_keeps_the_rules(name: str):
    result = call("check", "detector", name)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("rule", "broken", "reason"),
    [
        ("type", ["inputs"], ""),
        ("shape", ["type"], "type"),
        ("shape", ["dtype"], ""),
        ("dtype", ["shape"], ""),
        ("finite", ["shape"], "shape"),
        ("origin", ["finite", "dtype"], "dtype"),
        ("label", ["finite", "range"], ""),
        ("clean", ["range"], "range"),
        ("wanted", ["budget", "origin"], "origin"),
        ("wanted", ["budget", "eps"], ""),
        ("random-state", ["type", "shape"], ""),
    ],
)
def test_a_rule_is_left_out_after_one_of_an_earlier_stage_alone(
    rule: str, broken: list[str], reason: str
):
    assert _broken_before(rule, broken) == reason


@dataclass(frozen=True)
class Told:
    """A detector that scores the 10 attacked points 1, of the 30 others `tied` as high, and 0."""

    tied: int
    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence) -> torch.Tensor:
        scores = torch.zeros(len(evidence.test))
        scores[: ATTACKED + self.tied] = 1.0
        return scores


@pytest.mark.parametrize(
    ("tied", "outcome", "auroc"),
    [(0, "ok", "1.00"), (15, "ok", "0.75"), (16, "warn", "0.73"), (30, "warn", "0.50")],
)
def test_a_detector_is_looked_at_below_an_auroc_in_which_a_tie_counts_half(
    tied: int, outcome: str, auroc: str
):
    subject = DetectorSubject("detector", "told", Told(tied))
    (verdict,) = judge({"meaning": DETECTOR["meaning"]}, subject)
    assert verdict.outcome == outcome
    assert f"AUROC {auroc} on points" in verdict.told


@dataclass(frozen=True)
class TwoValued:
    """An estimator whose scores are `own` where test point and row are the same, and `other`."""

    own: float
    other: float

    def fit(self, trace):
        n = len(trace.train)
        return lambda test: torch.full((len(test), n), self.other).fill_diagonal_(
            self.own
        )


@pytest.mark.parametrize(
    ("own", "other", "outcome"),
    [(1.0, 0.0, "ok"), (1.0, 1.0, "warn"), (1.0, 2.0, "warn"), (-1.0, -2.0, "warn")],
)
def test_an_instance_helps_its_own_copy_more_than_nothing_and_than_others(
    own: float, other: float, outcome: str
):
    subject = EstimatorSubject("estimator", "constant", TwoValued(own, other))
    (verdict,) = judge({"sign": ESTIMATOR["sign"]}, subject)
    assert verdict.outcome == outcome


@dataclass(frozen=True)
class Solved:
    """An estimator whose scores move with the number of test points, within its tolerance."""

    tolerance: float = 0.1

    def fit(self, trace):
        n = len(trace.train)
        return lambda test: torch.full(
            (len(test), n), self.tolerance * len(test)
        ).double()


def test_scores_may_depend_on_the_companions_within_the_residual_of_a_solver():
    subject = EstimatorSubject("estimator", "solved", Solved())
    (verdict,) = judge({"alone": ESTIMATOR["alone"]}, subject)
    assert verdict.outcome == "ok", verdict.told


@dataclass(frozen=True)
class Shrink:
    """Leaves out the first rows, and poisons none."""

    gone: int
    budget: float = 0.02

    def __call__(self, train, test, recipe, seed):
        kept = torch.arange(self.gone, len(train))
        none = torch.empty(0, dtype=torch.int64)
        role = torch.zeros(len(kept), dtype=torch.uint8)
        return Poisoned(train.take(kept), role, kept, test.take(none), none, none)


@pytest.mark.parametrize(
    ("gone", "outcome", "told"),
    [
        (0, "ok", "0 poison rows of 200, 4 paid for by budget 0.02"),
        (4, "ok", "0 poison rows and 4 deleted of 200, 4 paid for by budget 0.02"),
        (5, "fail", "0 poison rows and 5 deleted ones, 4 are paid for by budget 0.02"),
    ],
)
def test_the_budget_is_told_with_the_rows_that_were_deleted(
    gone: int, outcome: str, told: str, data: tuple[Dataset, Dataset]
):
    subject = AttackSubject("attack", "shrink", Shrink(gone), data)
    (verdict,) = judge({"budget": ATTACK["budget"]}, subject)
    assert (verdict.outcome, verdict.told) == (outcome, told)


@pytest.mark.parametrize(("control", "outcome"), [(0, "ok"), (1, "warn")])
def test_a_victim_that_falls_hardly_more_often_than_an_unpoisoned_one_is_looked_at(
    control: int,
    outcome: str,
    data: tuple[Dataset, Dataset],
    monkeypatch: pytest.MonkeyPatch,
):
    subject = AttackSubject("attack", "patch", ATTACKS["patch"](), data)
    half = len(subject.poisoned().targets) // 2
    standings = iter([Standing(half, 0.9), Standing(control * (half - 1), 0.9)])
    monkeypatch.setattr(
        "experiments.check.victim._standing", lambda *_: next(standings)
    )
    (verdict,) = judge({"success": ATTACK["success"]}, subject)
    assert verdict.outcome == outcome, verdict.told


@dataclass(frozen=True)
class Asking(GAS):
    """An estimator that asks a run for more than it declares: for the batches of its steps."""

    def fit(self, trace):
        scale = len(trace.by_step.lr)
        return lambda test: GAS.fit(self, trace)(test) * scale


@dataclass(frozen=True)
class Unnamed(GAS):
    """An estimator that needs what no run knows of."""

    needs = ("luck",)


@pytest.mark.parametrize(
    ("estimator", "outcome"),
    [
        (GAS(), "ok"),
        (Asking(), "fail"),
        (Unnamed(), "fail"),
        (TwoValued(1, 0), "fail"),
    ],
)
def test_an_estimator_declares_its_needs_and_asks_for_no_more(estimator, outcome):
    subject = EstimatorSubject("estimator", "tried", estimator)
    (verdict,) = judge({"needs": ESTIMATOR["needs"]}, subject)
    assert verdict.outcome == outcome, verdict.told


def test_a_detector_of_sentences_alone_is_checked_on_sentences():
    result = call("check", "detector", "toy_defense:RareWords")
    assert result.exit_code == 0, result.output
