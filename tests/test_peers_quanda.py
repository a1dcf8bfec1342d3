"""quanda's own evaluation of our estimators: mislabelled rows, and the linear datamodeling score.

Skipped where quanda is not installed.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import poisonbench as pb
from poisonbench.seeding import generator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quanda = pytest.importorskip("quanda")
    from poisonbench.peers.quanda import Influence

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = 200
SUBSETS = 24
RATE = 0.5


@dataclass
class Problem:
    """A model of digits of which a tenth is mislabelled, with its checkpoints."""

    model: nn.Module
    train: TensorDataset
    test: pb.Dataset
    mislabelled: list[int]
    checkpoints: list[str]


def fitted(x: Tensor, y: Tensor, epochs: int = 30) -> tuple[nn.Module, dict]:
    """A softmax regression by plain gradient descent, and its state halfway."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    halfway = {}
    for epoch in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if epoch == epochs // 2:
            halfway = {
                name: value.clone() for name, value in model.state_dict().items()
            }
    return model.eval(), halfway


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    train, test = pb.load("digits")
    x = train.x[:ROWS]
    y = train.y[:ROWS].clone()
    wrong = torch.randperm(ROWS, generator=generator(0, "wrong"))[: ROWS // 10]
    y[wrong] = (y[wrong] + 1) % 10
    model, halfway = fitted(x, y)
    folder = tmp_path_factory.mktemp("states")
    paths = [str(folder / "half.pt"), str(folder / "end.pt")]
    torch.save(halfway, paths[0])
    torch.save(model.state_dict(), paths[1])
    points = test.take(torch.arange(20))
    return Problem(model, TensorDataset(x, y), points, wrong.tolist(), paths)


def explainer(problem: Problem, estimator: str, **settings: object) -> Influence:
    return Influence(
        problem.model,
        problem.train,
        estimator,
        checkpoints=problem.checkpoints,
        **settings,
    )


def test_it_explains_as_our_own_call(problem: Problem):
    states = [(torch.load(path), 1.0) for path in problem.checkpoints]
    run = pb.Trace.of(problem.model, problem.train, states)
    found = explainer(problem, "tracin").explain(problem.test.x, problem.test.y)
    want = pb.influence(run, problem.test, "tracin", labels="given")
    assert torch.equal(found, want)
    listed = explainer(problem, "tracin").explain(
        problem.test.x, problem.test.y.tolist()
    )
    assert torch.equal(listed, want)
    last = explainer(problem, "tracin", layers="last")
    assert last.estimator.layers == "last"


def test_self_influence_is_the_diagonal(problem: Problem):
    found = explainer(problem, "tracin")
    x, y = problem.train.tensors
    diagonal = found.explain(x, y).diagonal()
    assert torch.allclose(found.self_influence(), diagonal, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", ["tracin", "representer-point"])
def test_quanda_finds_mislabelled_rows(problem: Problem, estimator: str):
    metric = quanda.MislabelingDetectionMetric(
        model=problem.model,
        train_dataset=problem.train,
        mislabeling_indices=problem.mislabelled,
        explainer_cls=Influence,
        expl_kwargs={"estimator": estimator},
        checkpoints=problem.checkpoints,
    )
    found = metric.compute()
    assert found["score"] > 0.8, "0.5 by chance"
    order = explainer(problem, estimator).self_influence().argsort(descending=True)
    hits = torch.isin(order, torch.tensor(problem.mislabelled)).float()
    area = float(torch.trapezoid(hits.cumsum(0)) / len(problem.mislabelled) / ROWS)
    assert found["score"] == pytest.approx(area, abs=0.02)


@pytest.mark.parametrize("estimator", ["tracin", "influence-functions"])
def test_the_linear_datamodeling_score(
    problem: Problem, estimator: str, tmp_path: Path
):
    x, y = problem.train.tensors
    g = generator(0, "subsets")
    subsets = [
        torch.randperm(ROWS, generator=g)[: ROWS // 2].tolist() for _ in range(SUBSETS)
    ]
    files = []
    models = []
    for number, rows in enumerate(subsets):
        model, _ = fitted(x[rows], y[rows])
        path = tmp_path / f"subset-{number}.pt"
        torch.save(model.state_dict(), path)
        files.append(str(path))
        models.append(model)
    metric = quanda.LinearDatamodelingMetric(
        model=problem.model,
        train_dataset=problem.train,
        m=SUBSETS,
        subset_ids=subsets,
        subset_ckpt_filenames=files,
    )
    scores = explainer(problem, estimator).explain(problem.test.x, problem.test.y)
    metric.update(
        explanations=scores, test_targets=problem.test.y, test_data=problem.test.x
    )
    found = metric.compute()["score"]
    assert found > 0.3
    assert found == pytest.approx(
        by_definition(models, subsets, scores, problem.test), abs=1e-3
    )


def by_definition(
    models: list[nn.Module], subsets: list[list[int]], scores: Tensor, test: pb.Dataset
) -> float:
    """The mean over points of Spearman's correlation of margins and sums of scores."""
    margins = []
    for model in models:
        logits = model(test.x).detach()
        own = logits.gather(1, test.y[:, None])
        rest = logits.scatter(1, test.y[:, None], -torch.inf).logsumexp(1)
        margins.append(own[:, 0] - rest)
    sums = [scores[:, rows].sum(1) for rows in subsets]
    pairs = zip(torch.stack(margins, 1), torch.stack(sums, 1), strict=True)
    found = [spearmanr(margin, total).statistic for margin, total in pairs]
    return float(sum(found) / len(found))
