"""Questions: each is its detector, what they share is computed once, surprises are one-sided."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from planted import planted, triggered
from small_data import small_data
from test_defenses_of_kinds import evidence as evidence_of
from test_defenses_of_kinds import traces  # noqa: F401, a fixture
from torch import Tensor, nn

import defenses.kit.features
import defenses.kit.scale
from defenses.baselines.class_similarity import ClassSimilarity
from defenses.baselines.confidence import Confidence
from defenses.baselines.deep_knn import DeepKNN
from defenses.baselines.scale_up import ScaleUp
from defenses.detectors import foreign_or_fragile
from defenses.detectors.foreign_or_fragile import ForeignOrFragile
from defenses.detectors.influence_collapse import InfluenceCollapse, falls
from defenses.detectors.tail_heaviness import TailHeaviness
from defenses.kit.evidence import once, shared
from defenses.kit.features import row_features
from defenses.kit.scope import Scope
from defenses.kit.tail_probability import surprise
from defenses.kit.transforms.table import transforms_of
from defenses.questions.question import (
    MOST,
    NEUTRAL,
    Answers,
    Question,
    answers,
    side_names,
    surprises,
)
from defenses.questions.table import EVERY_QUESTION, QUESTIONS, STREAM_QUESTIONS
from poisonbench.contracts.values import Evidence
from poisonbench.data import KINDS
from poisonbench.gradients import Form, dot_products
from poisonbench.memory import Budget
from poisonbench.training import Recipe
from poisonbench.training import train as trained
from poisonbench.training.trace import Trace

EVERY = EVERY_QUESTION


@pytest.fixture(scope="module")
def images() -> Evidence:
    return triggered()


@dataclass(frozen=True)
class Fixed:
    """Says what it was told to say."""

    said: tuple[float, ...]
    uses: tuple[str, ...] = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        return torch.tensor(self.said)


@pytest.mark.filterwarnings("ignore:.*no score")
def test_every_answer_is_that_of_its_detector_alone(images: Evidence) -> None:
    said = answers(images, EVERY)
    assert said.scores.shape == (len(EVERY), len(images.test))
    assert len(said.seconds) == len(EVERY)
    for question, scores, reason in zip(EVERY, said.scores, said.reasons, strict=True):
        if reason:
            assert scores.isnan().all()
            continue
        alone = question.score(images).double()
        assert torch.allclose(scores, alone, rtol=1e-6, atol=1e-9, equal_nan=True), (
            question.name
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*no score")
def test_questions_can_be_asked_of_every_kind(
    kind: str,
    traces: dict[str, Trace],  # noqa: F811
) -> None:
    evidence = evidence_of(traces[kind])
    assert evidence.trusted is not None
    said = answers(evidence, EVERY)
    for question, scores, reason in zip(EVERY, said.scores, said.reasons, strict=True):
        assert bool(reason) != bool(scores.isfinite().any()), question.name
        if kind not in question.kinds:
            assert reason == f"has no meaning for data of kind {kind}"
    found = surprises(said, evidence.trusted)
    assert found.shape == (len(side_names(EVERY)), len(evidence.test))
    assert found.isfinite().all()


def test_names_of_surprises_are_unique() -> None:
    names = side_names(EVERY)
    assert len(set(names)) == len(names)


def test_only_stream_questions_read_the_other_points() -> None:
    assert not any("probe" in question.uses for question in QUESTIONS)
    assert all("probe" in question.uses for question in STREAM_QUESTIONS)


def test_features_are_computed_once_a_layer_in_a_call_and_anew_in_the_next(
    images: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    predict: Callable[..., Tensor] = defenses.kit.features.predict

    def counted(*args: object) -> Tensor:
        passes.append(1)
        return predict(*args)

    monkeypatch.setattr(defenses.kit.features, "predict", counted)
    asked = (
        Question("similarity", ClassSimilarity("inner")),
        Question("neighbours", DeepKNN(5, "inner")),
        Question("fewer neighbours", DeepKNN(3, "inner")),
    )
    answers(images, asked)
    assert len(passes) == 2  # the rows, the points
    answers(images, asked)
    assert len(passes) == 4


@pytest.mark.parametrize("labels", ["all", "one"])
def test_features_are_seen_as_the_rows_pass_for_their_gradients(
    labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of labels that no point has are passed alone."""
    train, points = small_data("image")
    if labels == "one":
        points = points.take(points.y == 3)
    run = trained(train, Recipe(model="cnn", epochs=1), 0)
    given = Evidence(run, points)
    known = row_features(given, "inner")
    passed: list[Tensor] = []
    predict: Callable[..., Tensor] = defenses.kit.features.predict

    def counted(model: nn.Module, x: Tensor) -> Tensor:
        passed.append(x)
        return predict(model, x)

    monkeypatch.setattr(defenses.kit.features, "predict", counted)
    # rows of a label in several passes
    monkeypatch.setattr("poisonbench.memory.CPU", Budget(1 << 30, 16))
    common = shared(given)
    falls(common, 3)
    rest = int((~torch.isin(train.y, given.test.y)).sum())
    assert sum(map(len, passed)) == rest
    assert (rest > 0) == (labels == "one")
    torch.testing.assert_close(row_features(common, "inner"), known)
    assert sum(map(len, passed)) == rest, "found, not computed again"
    falls(common, 4)
    falls(given, 3)
    assert sum(map(len, passed)) == rest, "nobody asks for them there"


@pytest.mark.parametrize("foreign", [0.0, 0.4, 1.0])
def test_a_guess_of_the_question_changes_no_score(
    foreign: float, images: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = ForeignOrFragile(foreign)
    known = detector(images)
    asked: list[int] = []
    of_all: Callable[[Evidence, int], Tensor] = foreign_or_fragile.falls

    def counted(evidence: Evidence, k: int) -> Tensor:
        asked.append(k)
        return of_all(evidence, k)

    monkeypatch.setattr(foreign_or_fragile, "falls", counted)
    for guess in (True, False):
        monkeypatch.setattr(ForeignOrFragile, "_seems_foreign", lambda *_, g=guess: g)
        torch.testing.assert_close(detector(images), known, equal_nan=True)
    monkeypatch.undo()
    monkeypatch.setattr(foreign_or_fragile, "SAMPLE", len(images.trace.train) // 4)
    torch.testing.assert_close(detector(images), known, equal_nan=True)
    if foreign == 0.0:
        monkeypatch.setattr(foreign_or_fragile, "FEWER", 5)
        assert not detector._seems_foreign(images, torch.arange(4))
        monkeypatch.setattr(foreign_or_fragile, "FEWER", 4)
        assert detector._seems_foreign(images, torch.arange(4))


def test_the_scale_of_the_tails_is_computed_once_and_anew_for_another_one(
    images: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled: list[int] = []
    qn: Callable[[Tensor], Tensor] = defenses.kit.scale.qn

    def counted(values: Tensor) -> Tensor:
        scaled.append(len(values))
        return qn(values)

    monkeypatch.setattr(defenses.kit.scale, "qn", counted)
    tails = [each for each in QUESTIONS if isinstance(each.score, TailHeaviness)]
    assert len(tails) > 1
    answers(images, tails)
    assert sum(scaled) == len(images.test)
    common = shared(images)
    for detector in (
        TailHeaviness(3),
        TailHeaviness(3, "mad"),
        TailHeaviness(3, scope="all"),
    ):
        assert torch.equal(detector(common), detector(images))
    assert images.influence is not None
    other = replace(common, influence=-images.influence)
    assert torch.equal(
        TailHeaviness(3)(other),
        TailHeaviness(3)(replace(images, influence=-images.influence)),
    )


def test_what_is_kept_is_not_found_for_other_points(images: Evidence) -> None:
    common = shared(images)
    detector = DeepKNN(5, "inner")
    detector(common)
    fewer = replace(common, test=images.test.take(torch.arange(7)))
    assert torch.equal(detector(fewer), detector(images)[:7])


def test_once_computes_every_time_where_nothing_is_shared(images: Evidence) -> None:
    calls = []

    def compute() -> Tensor:
        calls.append(1)
        return torch.zeros(1)

    for _ in range(2):
        once(images, "key", compute)
    assert len(calls) == 2
    common = shared(images)
    for key in ("key", "key", "other"):
        once(common, key, compute)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("question", "part", "reason"),
    [
        (Question("tail", TailHeaviness(3)), "influence", "there is no influence"),
        (
            Question("tail", TailHeaviness(3, standardise="reference")),
            "trusted",
            "there is no reference",
        ),
        (Question("truth", Fixed((), ("oracle",))), "role", "there is no oracle"),
    ],
)
def test_a_question_without_what_it_reads_has_no_answer_and_says_why(
    question: Question, part: str, reason: str, images: Evidence
) -> None:
    said = answers(replace(images, **{part: None}), [question])
    assert said.scores.isnan().all()
    assert said.reasons == (reason,)


def test_a_need_that_the_run_does_not_meet_is_told(images: Evidence) -> None:
    class Needy(Fixed):
        needs = ("steps",)

    trace = replace(images.trace, batches=None)
    said = answers(replace(images, trace=trace), [Question("needy", Needy(()))])
    assert said.reasons == ("the run does not offer steps",)


def test_a_question_of_another_kind_of_data_has_no_answer() -> None:
    said = answers(planted(), [Question("scale-up", ScaleUp())])
    assert said.reasons == ("has no meaning for data of kind vector",)


def test_surprises_are_one_sided_and_neutral_where_there_is_no_answer() -> None:
    questions = (
        Question("one", Fixed(()), both=True),
        Question("two", Fixed(())),
        Question("three", Fixed(())),
    )
    one = torch.linspace(0, 1, 20).double()
    nothing = torch.full_like(one, torch.nan)
    partly = one.clone()
    partly[3] = torch.nan
    partly[4] = torch.inf
    said = Answers(
        questions, torch.stack([one, nothing, partly]), (0, 0, 0), ("", "", "")
    )
    trusted = torch.arange(20) % 2 == 0
    found = surprises(said, trusted)
    assert side_names(questions) == ("one", "one, low", "two", "three")
    for row, sign in enumerate((1, -1)):
        want = surprise(sign * one, sign * one[trusted]).clamp(0, MOST)
        assert torch.allclose(found[row], want, rtol=0, atol=1e-4)
    assert torch.equal(found[2], torch.full_like(one, NEUTRAL))
    assert found[3, 3] == NEUTRAL
    assert found[3, 4] == MOST
    assert found[0].argmax() == 19
    assert found[1].argmax() == 0


def test_what_is_no_detector_is_no_question() -> None:
    with pytest.raises(TypeError, match="a detector"):
        Question("one", 3)  # type: ignore[arg-type]


def test_one_transformation_is_its_fall_alone(images: Evidence) -> None:
    lost = falls(images, 5)
    for j in range(len(lost)):
        assert torch.equal(InfluenceCollapse(5, j + 1)(images), lost[j])
    assert torch.equal(InfluenceCollapse(5)(images), lost.mean(0))
    assert InfluenceCollapse(5, len(lost) + 1)(images).isnan().all()


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_falls_are_those_of_all_rows_scored_again(k: int, images: Evidence) -> None:
    train = images.trace.train
    test = images.test
    model = images.trace.model()
    form = Form("margin", "all")
    before = dot_products(model, train, test, form)
    foreign = train.y != test.y[:, None]
    top = before.masked_fill(foreign, -torch.inf).argsort(1, descending=True)
    lost = falls(images, k)
    for j, x in enumerate(transforms_of(test).perturbed(test.x, train.x)):
        after = dot_products(model, train, test.rows(x, test.y), form)
        for i in range(len(test)):
            rows = top[i][: int((~foreign[i]).sum())][:k]
            fall = before[i, rows].mean() - after[i, rows].mean()
            assert torch.isclose(lost[j, i], fall, rtol=1e-6, atol=1e-9)


def test_falls_of_a_label_without_rows_have_no_value(images: Evidence) -> None:
    train = images.trace.train
    absent = int(images.test.y[0])
    rows = train.take(train.y != absent)
    trace = replace(images.trace, train=rows)
    lost = falls(replace(images, trace=trace), 5)
    assert torch.equal(lost.isnan().all(0), images.test.y == absent)


@pytest.mark.parametrize("scope", ["label", "all"])
def test_a_share_of_the_rows_raises_k_and_never_lowers_it(scope: Scope) -> None:
    evidence = planted()
    train = evidence.trace.train
    labels = evidence.test.y
    share = 0.2
    risen = TailHeaviness(3, scope=scope, share=share)(evidence)
    for label in labels.unique():
        points = labels == label
        rows = int((train.y == label).sum()) if scope == "label" else len(train)
        same = TailHeaviness(round(share * rows), scope=scope)(evidence)
        assert torch.equal(risen[points], same[points])
    tiny = TailHeaviness(5, scope=scope, share=1e-9)(evidence)
    assert torch.equal(tiny, TailHeaviness(5, scope=scope)(evidence))


def test_confidence_points_both_ways() -> None:
    question = Question("confidence", Confidence(), both=True)
    assert question.sides == ("confidence", "confidence, low")


def test_scores_that_differ_by_rounding_tie():
    scores = torch.linspace(1, 2, 20, dtype=torch.float64).repeat(2)
    trusted = torch.arange(40) < 20
    noise = 1e-8 * torch.randn(
        40, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    question = (Question("one", Confidence()),)
    plain, moved = (
        surprises(Answers(question, one[None], (0.0,), ("",)), trusted)
        for one in (scores, scores + noise)
    )
    assert torch.allclose(plain, moved, rtol=0, atol=1e-5)


def test_one_trusted_score_far_beyond_all_others_makes_no_ties_of_them():
    scores = torch.linspace(1, 2, 20, dtype=torch.float64).repeat(2)
    scores[0] = 1e7
    trusted = torch.arange(40) < 20
    question = (Question("one", Confidence()),)
    said = Answers(question, scores[None], (0.0,), ("",))
    expected = surprise(scores[20:] - 1e-6, scores[:20]).clamp(0, MOST)
    torch.testing.assert_close(
        surprises(said, trusted)[0, 20:], expected, rtol=0, atol=1e-5
    )
