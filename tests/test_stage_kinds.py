"""The table of stage kinds, and its kinds `group` and `memorisation`.

From a grid to a row of a table.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_data
from scipy.stats import spearmanr
from test_evaluate import scene_config, write_scene
from test_run import PATCH, SMALL, assert_same, results
from torch import nn
from torch.nn import functional as F

from estimators import ESTIMATORS
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.kinds.groups import rank_correlation, ranks
from experiments.evaluation.kinds.memorisation import median_share
from experiments.evaluation.load import load_results
from experiments.plan.kind import named
from experiments.plan.kinds import APPLIED, DONE, KINDS, kind_named
from experiments.plan.measures.groups import PoisonRows, RandomRows, TopRows
from experiments.plan.methods import TABLES
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Grid, Scene
from experiments.plan.stages import jobs
from experiments.report.render import render
from experiments.runner.run import Options, run
from experiments.scene.kinds.groups import _effect
from experiments.scene.victim import Victim, make_victim
from poisonbench import log
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

ROOT = Path(__file__).parent.parent
N = 120
BASE = {
    **SMALL,
    "dataset": {"name": "digits", "train": N, "test": 150},
    # one batch per epoch holds all rows
    "recipe": {"model": "linear", "epochs": 4, "batch_size": N, "checkpoints": 2},
    "attack": [PATCH],
    "estimator": [{"name": "gas"}],
    "detector": [],
}
GROUPS = [
    {"name": "top", "k": 7, "points": 3},
    {"name": "poison", "points": 4},
    {"name": "random", "k": 9, "draws": 2, "points": 2},
    {"name": "random", "k": "none", "draws": 1, "points": 2},
]


def only(grid: Grid) -> Scene:
    [scene] = grid.scenes
    return scene


# ---- the table


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_a_row_names_is_there(kind):
    for target in (kind.do, kind.evaluate):
        assert target == "" or callable(named(target))
    assert kind.methods == "" or set(named(kind.methods)) <= set(TABLES[kind.part])
    assert bool(kind.rows) == bool(kind.evaluate)
    assert {name for vector in kind.vectors for name in vector} <= set(kind.needed)
    assert kind.length is None or kind.length.own in kind.needed
    assert kind_named(kind.name) is kind


def test_a_name_that_is_no_kind_is_an_error():
    with pytest.raises(KeyError, match="grup"):
        kind_named("grup")


def test_the_files_of_a_scene_are_named_by_kind_estimator_and_method(tmp_path: Path):
    raw = {
        **BASE,
        "estimator": [{"name": "gas"}, {"name": "tracin"}],
        "group": [{"name": "top", "estimator": "gas"}, {"name": "random"}],
        "memorisation": [{"name": "self-influence"}],
    }
    [job] = jobs(parse(raw), Place(tmp_path), 1)
    heads = [stage.path.name.rpartition("-")[0] for stage in job.stages]
    words = [
        "-".join(part for part in head.split("-") if len(part) != 8) for head in heads
    ]
    assert sorted(words) == [
        "",
        "group-gas-top",
        "group-none-random",
        "influence-gas",
        "influence-tracin",
        "memorisation-gas-self-influence",
        "memorisation-tracin-self-influence",
    ]
    needs = {
        stage.kind: [path.stem.split("-")[0] for path in stage.needs]
        for stage in job.stages
    }
    assert needs["memorisation"] == ["scene"], (
        "self-influence does not read the influence matrix"
    )
    top = next(stage for stage in job.stages if "-top-" in stage.path.name)
    assert [path.stem.split("-")[0] for path in top.needs] == ["scene", "influence"]


def test_each_kind_is_done_after_what_it_needs(tmp_path: Path):
    raw = {**BASE, "group": GROUPS, "memorisation": [{"name": "self-influence"}]}
    [job] = jobs(parse(raw), Place(tmp_path), 1)
    seen: set[Path] = set()
    for stage in job.stages:
        assert set(stage.needs) <= seen
        seen.add(stage.path)
    assert {stage.kind for stage in job.stages} <= {
        "scene",
        *(kind.name for kind in DONE),
    }
    assert "influence" not in {kind.name for kind in APPLIED}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"group": [{"name": "top", "k": 0}]}, "group[0]: k must be at least 1, got 0"),
        (
            {"group": [{"name": "random", "draws": 0}]},
            "draws must be at least 1, got 0",
        ),
        ({"group": [{"name": "poisn"}]}, "did you mean 'poison'?"),
        ({"group": [{"name": "top", "estimator": "gass"}]}, "did you mean 'gas'"),
        (
            {"estimator": [], "group": [{"name": "top"}]},
            "a group of the grid reads influence",
        ),
        (
            {"estimator": [], "memorisation": [{"name": "self-influence"}]},
            "a memorisation of the grid reads influence",
        ),
    ],
    ids=str,
)
def test_a_fault_of_a_table_is_told(change: dict, part: str):
    with pytest.raises(ConfigError) as caught:
        parse({**BASE, **change})
    assert part in "\n".join(caught.value.errors)


# ---- groups


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Victim]:
    folder = tmp_path_factory.mktemp("groups")
    grid = parse(
        {**BASE, "group": GROUPS, "memorisation": [{"name": "self-influence"}]}
    )
    assert run(grid, Place(folder), Options(workers=0)).failed == []
    return folder, make_victim(only(grid), Place(folder))


def logs_of(folder: Path, kind: str) -> dict[str, log.Record]:
    found = {}
    for path in folder.rglob(f"{kind}-*.h5"):
        record = log.read(path)
        config = record.config[kind]
        found[f"{config['name']} {config.get('k')}"] = record
    return found


def loss(trace, test) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(
        trace.model()(test.x), test.y, reduction="none"
    )


def without(trace: Trace, group: torch.Tensor) -> nn.Module:
    """A model trained by the same steps, from whose batches a group is missing.

    The rows that stay keep their weight: the sum over them is divided by the size of the batch.
    """
    recipe = trace.by_recipe
    model = trace.initial()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    plan = trace.by_step
    for rows, rate in zip(plan.batches, plan.lr.tolist(), strict=True):
        batch = rows[rows >= 0]
        stay = batch[~group[batch]]
        data = trace.train.take(stay)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        losses = F.cross_entropy(model(data.x), data.y, reduction="sum")
        (losses / len(batch)).backward()
        optimizer.step()
    return model


def test_the_effect_of_a_group_is_the_loss_of_a_model_trained_without_it_less_the_victims(
    measured: tuple[Path, Victim],
):
    folder, victim = measured
    test = victim.test
    before = loss(victim.trace, test)
    records = logs_of(folder, "group")
    assert set(records) == {"top 7", "poison None", "random 9", "random None"}
    for record in records.values():
        rows = torch.as_tensor(record.data["group/rows"])
        after = []
        for group in rows:
            logits = without(victim.trace, group)(test.x)
            after.append(F.cross_entropy(logits, test.y, reduction="none"))
        gains = torch.stack(after) - before
        want = (
            gains[record.data["pair/group"], record.data["pair/point"]]
            .detach()
            .double()
        )
        found = torch.as_tensor(record.data["effect/retraining"])
        assert torch.allclose(found, want, atol=2e-5)
        assert want.abs().max() > 1e-3


def test_the_groups_in_the_log_are_those_that_were_asked_for(
    measured: tuple[Path, Victim],
):
    folder, victim = measured
    records = logs_of(folder, "group")
    influence = log.read(next(folder.rglob("influence-gas-*.h5"))).data["influence"]
    for point in range(3):
        rows = records["top 7"].data["group/rows"][point]
        lowest = influence[point][rows].min()
        assert rows.sum() == 7
        assert (influence[point][~rows] <= lowest).all()
    pairs = records["top 7"].data
    assert pairs["pair/group"].tolist() == pairs["pair/point"].tolist() == [0, 1, 2]
    poison = records["poison None"].data
    assert torch.equal(torch.as_tensor(poison["group/rows"][0]), victim.role == 1)
    assert poison["pair/point"].tolist() == [0, 1, 2, 3]
    assert poison["pair/group"].tolist() == [0, 0, 0, 0]
    assert records["random 9"].data["group/size"].tolist() == [9, 9]
    assert records["random None"].data["group/size"].tolist() == [
        int((victim.role == 1).sum())
    ]
    assert records["poison None"].attributes["uses"] == "oracle"
    assert records["random None"].attributes["uses"] == "oracle"
    assert records["random 9"].attributes["uses"] == ""


def test_the_estimates_are_those_of_the_group_estimator(measured: tuple[Path, Victim]):
    from estimators.group import GroupInfluence

    folder, victim = measured
    data = logs_of(folder, "group")["poison None"].data
    rows = torch.as_tensor(data["group/rows"])
    points = victim.test.take(torch.arange(4))
    for order in ("first", "second"):
        want = (
            GroupInfluence(order=order).fit(victim.trace, rows)(points)[:, 0].double()
        )
        assert torch.allclose(torch.as_tensor(data[f"effect/{order}"]), want.detach())
    assert not np.allclose(data["effect/first"], data["effect/second"])


def evidence(influence: torch.Tensor | None = None, poison: int = 0) -> Evidence:
    data = random_data(12, (2,), 3)
    trace = train(data, Recipe(model="linear", epochs=1), 0)
    role = torch.zeros(12, dtype=torch.uint8)
    role[:poison] = 1
    role[poison : poison + 2] = 2  # cover rows are no poison
    return Evidence(trace, data, influence=influence, role=role)


def test_top_rows_are_the_most_helpful_ones_and_of_tied_rows_the_first():
    influence = torch.zeros(2, 12)
    influence[0, 5] = 1.0
    influence[0, 3] = -9.0
    influence[1, [8, 9]] = 2.0
    groups = TopRows(k=3, points=2).choose(evidence(influence), 2, 0)
    assert groups.rows[0].nonzero().squeeze(1).tolist() == [0, 1, 5]
    assert groups.rows[1].nonzero().squeeze(1).tolist() == [0, 8, 9]
    assert torch.equal(groups.pairs, torch.eye(2, dtype=torch.bool))
    with pytest.raises(
        ValueError, match="k must be below 12, the training rows, got 12"
    ):
        TopRows(k=12).choose(evidence(influence), 2, 0)


def test_poison_is_one_group_and_without_poison_there_is_none():
    groups = PoisonRows().choose(evidence(poison=4), 3, 0)
    assert groups.rows.tolist() == [[True] * 4 + [False] * 8]
    assert groups.pairs.all()
    empty = PoisonRows().choose(evidence(), 3, 0)
    assert tuple(empty.rows.shape) == (0, 12)
    assert tuple(empty.pairs.shape) == (0, 3)


def test_random_groups_are_of_the_size_asked_and_follow_their_seed():
    one = RandomRows(k=5, draws=4).choose(evidence(), 3, 0)
    assert one.rows.sum(1).tolist() == [5] * 4
    assert tuple(one.pairs.shape) == (4, 3)
    assert len({tuple(row.tolist()) for row in one.rows}) > 1, (
        "every draw is another group"
    )
    assert torch.equal(one.rows, RandomRows(k=5, draws=4).choose(evidence(), 3, 0).rows)
    assert not torch.equal(
        one.rows, RandomRows(k=5, draws=4).choose(evidence(), 3, 1).rows
    )
    as_poison = RandomRows(k=None, draws=2).choose(evidence(poison=4), 3, 0)
    assert as_poison.rows.sum(1).tolist() == [4, 4]
    assert len(RandomRows(k=None).choose(evidence(), 3, 0).rows) == 0


def test_a_scene_without_poison_has_a_row_that_says_so(tmp_path: Path):
    raw = {
        **BASE,
        "attack": [{"name": "none"}],
        "estimator": [],
        "group": [{"name": "poison"}],
    }
    assert run(parse(raw), Place(tmp_path), Options(workers=0)).failed == []
    [row] = rows_of(load_results(tmp_path), "group")
    assert {
        row.metrics[key].reason for key in ("size", "retraining", "rank_first")
    } == {"no groups"}
    assert row.counts == {"groups": 0, "pairs": 0}
    assert "no groups" in render(load_results(tmp_path))


def write_groups(folder: Path, **changes: np.ndarray) -> Path:
    place = write_scene(folder, scene_config({"name": "patch"}))
    config = {"scene": log.read(place / "scene.h5").config, "estimator": None}
    data = {
        "group/size": np.array([2, 4]),
        "pair/group": np.array([0, 0, 1, 1]),
        "effect/retraining": np.array([1.0, 2.0, 3.0, 6.0]),
        "effect/first": np.array([0.4, 0.3, 0.2, 0.1]),
        "effect/second": np.array([0.1, 0.1, 0.2, 0.8]),
    }
    path = place / "group-none-toy.h5"
    about = {"seconds": 2.5, "uses": "oracle", "seconds_first": 0.5}
    config |= {"group": {"name": "toy"}}
    log.write(path, "group", config=config, data={**data, **changes}, attributes=about)
    return path


def test_the_row_of_groups_counted_by_hand(tmp_path: Path):
    write_groups(tmp_path)
    [row] = rows_of(load_results(tmp_path), "group")
    values = {name: metric.value for name, metric in row.metrics.items()}
    assert (values["size"], values["retraining"], values["seconds"]) == (3, 3, 2.5)
    assert values["first"] == pytest.approx(0.25)
    assert values["second"] == pytest.approx(0.3)
    assert values["rank_first"] == pytest.approx(-1)
    # ranks 0, 1, 2, 3 and 0.5, 0.5, 2, 3: covariance 4.5, squared deviations 5 and 4.5
    assert values["rank_second"] == pytest.approx(4.5 / (5 * 4.5) ** 0.5)
    assert row.counts == {"groups": 2, "pairs": 4}
    assert row.uses == "oracle"
    assert values["seconds_first"] == 0.5
    assert row.metrics["seconds_second"].value is None


@pytest.mark.parametrize(
    "change", [{"effect/first": np.zeros(3)}, {"group/size": np.zeros((2, 1))}]
)
def test_a_log_of_groups_that_does_not_fit_is_damaged(tmp_path: Path, change: dict):
    write_groups(tmp_path, **change)
    [error] = load_results(tmp_path).damaged
    assert "are not vectors of one length" in error.reason


@pytest.mark.parametrize("seed", range(5))
def test_the_rank_correlation_is_that_of_scipy_also_with_ties(seed: int):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, 12).astype(float), rng.integers(0, 5, 12).astype(float)
    assert rank_correlation(a, b).value == pytest.approx(spearmanr(a, b).statistic)
    assert ranks(np.array([3.0, 1.0, 3.0, 0.0])).tolist() == [2.5, 1, 2.5, 0]


@pytest.mark.parametrize(
    ("estimate", "truth", "reason"),
    [
        ([], [], "no groups"),
        ([1, 2], [1, 2], "fewer than 3 pairs"),
        ([1, 1, 1], [1, 2, 3], "constant effects"),
        ([1, 2, 3], [1, 1, 1], "constant effects"),
        ([1, np.nan, 3], [1, 2, 3], "effects that are not finite"),
    ],
)
def test_a_correlation_that_is_not_defined_says_why(
    estimate: list, truth: list, reason: str
):
    found = rank_correlation(np.array(estimate, float), np.array(truth, float))
    assert (found.value, found.reason) == (None, reason)


# ---- memorisation


def test_memorisation_is_the_self_influence_of_the_estimator(
    measured: tuple[Path, Victim],
):
    folder, victim = measured
    [record] = logs_of(folder, "memorisation").values()
    want = ESTIMATORS["gas"]().self_influence(victim.trace).double()
    assert torch.equal(torch.as_tensor(record.data["score"]), want)
    assert record.data["score"].shape == (N,)


def test_every_estimator_of_the_table_tells_what_the_model_memorises(tmp_path: Path):
    names = sorted(ESTIMATORS)
    raw = {**BASE, "estimator": [{"name": name} for name in names]}
    raw["memorisation"] = [{"name": "self-influence"}]
    assert run(parse(raw), Place(tmp_path), Options(workers=0)).failed == []
    rows = rows_of(load_results(tmp_path), "memorisation")
    assert sorted(row.settings["estimator"]["name"] for row in rows) == names
    scene = only(parse(raw))
    trace = make_victim(scene, Place(tmp_path)).trace
    path = next(tmp_path.rglob("memorisation-tracin-*.h5"))
    want = ESTIMATORS["tracin"]().self_influence(trace).double()
    assert torch.equal(torch.as_tensor(log.read(path).data["score"]), want)


def test_an_estimator_without_self_influence_fails_alone_and_says_the_way_out(
    tmp_path: Path,
):
    estimators = [{"name": "toy_estimator:Flat"}, {"name": "gas"}]
    raw = {
        **BASE,
        "estimator": estimators,
        "memorisation": [{"name": "self-influence"}],
    }
    summary = run(parse(raw), Place(tmp_path), Options(workers=0))
    [failure] = summary.failed
    assert "estimator toy_estimator:Flat has no method self_influence(trace)" in failure
    assert "[[memorisation]] estimator" in failure
    raw["memorisation"] = [{"name": "self-influence", "estimator": "gas"}]
    assert run(parse(raw), Place(tmp_path), Options(workers=0)).failed == []


def test_the_row_of_memorisation_counted_by_hand(tmp_path: Path):
    place = write_scene(
        tmp_path, scene_config({"name": "patch"})
    )  # two poison rows, four clean
    config = {
        "scene": log.read(place / "scene.h5").config,
        "estimator": {"name": "toy"},
        "memorisation": {"name": "self-influence"},
    }
    data = {
        "score": np.array([4.0, 2.0, 3.0, 1.0, 1.0, 0.0, 10.0])
    }  # the last one is cover
    path = place / "memorisation-toy-self-influence.h5"
    log.write(
        path, "memorisation", config=config, data=data, attributes={"seconds": 1.0}
    )
    [row] = rows_of(load_results(tmp_path), "memorisation")
    assert row.metrics["auroc"].value == 7 / 8
    assert row.metrics["median_poison"].value == pytest.approx(0.3)
    assert row.metrics["median_clean"].value == pytest.approx(0.1)
    assert (row.counts["poison"], row.counts["clean"], row.counts["cover"]) == (2, 4, 1)
    assert "MEMORISATION" in render(load_results(tmp_path))
    log.write(path, "memorisation", config=config, data={"score": np.zeros(6)})
    [error] = load_results(tmp_path).damaged
    assert "has 6 scores for 7 training rows" in error.reason


def test_a_median_that_is_not_defined_says_why():
    assert median_share(np.zeros(0), np.ones(3), "poison").reason == "no poison rows"
    assert (
        "2 of 3 scores not finite"
        in median_share(np.ones(1), np.array([1, np.nan, np.inf]), "x").reason
    )
    assert "no positive" in median_share(-np.ones(1), np.array([-1.0, 0.0]), "x").reason


def test_both_kinds_are_shown_and_come_out_the_same_again(
    measured: tuple[Path, Victim],
):
    folder, _ = measured
    text = render(load_results(folder))
    for part in ("GROUPS", "MEMORISATION", "top", "poison [oracle]", "self-influence"):
        assert part in text
    before = results(folder)
    for path in [*folder.rglob("group-*.h5"), *folder.rglob("memorisation-*.h5")]:
        path.unlink()
    grid = parse(
        {**BASE, "group": GROUPS, "memorisation": [{"name": "self-influence"}]}
    )
    run(grid, Place(folder), Options(workers=0))
    assert_same(results(folder), before)


def test_a_loop_that_tells_no_batches_has_its_groups_weighted_otherwise_and_says_so():
    recipe = Recipe("loops_of_others:outside", train="loops_of_others:adam")
    trace = train(random_data(24, classes=3), recipe, 0)
    rows = torch.zeros(1, 24, dtype=torch.bool)
    rows[0, :4] = True
    with pytest.warns(UserWarning, match="tells no batches"):
        effect = _effect("effect/retraining", trace, rows, trace.train)
    assert effect.isfinite().all()
