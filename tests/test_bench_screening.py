"""The benchmark of screened influence: what it counts, its bounds, and a small run of it."""

from pathlib import Path

import pytest
import torch

from estimators.gas import GAS
from experiments.bench.screening.certainty import excluded
from experiments.bench.screening.race import by_cheaper_scores, by_projection, reference
from experiments.bench.screening.report import bench
from experiments.bench.screening.setting import Setting, kept_alone, recall
from poisonbench.data import load
from poisonbench.models import predict
from poisonbench.training import Recipe, train


@pytest.fixture(scope="module")
def setting() -> Setting:
    data, points = load("digits")
    recipe = Recipe("mlp", epochs=2, batch_size=32, checkpoints=2)
    trace = train(data.take(torch.arange(200)), recipe, 0)
    points = points.take(torch.arange(12))
    predicted = predict(trace.model(), points.x).argmax(1)
    return Setting(trace, points.relabel(predicted), torch.device("cpu"))


def test_recall_is_the_share_of_the_ten_largest_that_have_a_score():
    exact = torch.arange(40.0).repeat(2, 1)
    scores = exact.clone()
    scores[0, 36:] = torch.nan
    assert recall(scores, exact).tolist() == [0.6, 1.0]
    rows = torch.tensor([[39, 1], [38, 37]])
    kept = kept_alone(exact, rows)
    assert kept[0, 39] == 39
    assert int((~kept.isnan()).sum()) == 4
    assert recall(kept, exact).tolist() == [0.1, 0.2]


def test_a_certain_bound_excludes_none_of_the_ten_largest(setting: Setting):
    scores = GAS().fit(setting.trace)(setting.test)
    out = excluded(setting, scores)
    largest = scores.topk(10).indices
    assert not bool(out.gather(1, largest).any())
    # with a bar above all bounds it excludes everything
    assert bool(excluded(setting, scores + 100).all())


def test_ways_of_screening_are_held_against_the_exact_scores(setting: Setting):
    exact = reference(setting, "gas", [1, 12])
    assert torch.equal(exact.scores, GAS().fit(setting.trace)(setting.test))
    [entry] = by_projection(setting, exact, 512, (5.0,), [1, 12])
    assert entry.recall.tolist() == [1.0] * 12
    assert entry.complete == 1.0
    cheap = by_cheaper_scores(setting, exact, [1, 12])
    shares = {one.way: float(one.recall.mean()) for one in cheap}
    assert shares["last layer, 20 rows"] < 1.0
    assert shares["last layer, 500 rows"] == 1.0
    assert all(seconds >= 0 for one in cheap for seconds in one.seconds.values())


def test_a_report_has_a_line_for_each_way_and_a_figure(
    setting: Setting, tmp_path: Path
):
    figure = tmp_path / "screening.svg"
    text = bench(setting, [64], figure)
    assert text.startswith("200 training images, 12 test points, ")
    assert text.count("projection on 64, width 5") == 2
    assert "gas, scope = label" in text
    assert "excludes" in text
    drawn = figure.read_text(encoding="utf-8")
    assert "recall of the ten largest" in drawn
    assert "12 points at a time" in drawn
