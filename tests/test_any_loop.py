"""Training by a loop of someone else's: one way for all that trains again."""

import tomllib
from dataclasses import replace

import pytest
import torch
from conftest import random_data
from loops_of_others import EPOCHS, RATE, adam, net, skewed
from torch import nn

from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from defenses.mitigations.filter_retrain import FilterRetrain
from estimators.downsampling import Downsampling
from estimators.group import retrained
from estimators.kit.retraining import with_and_without
from estimators.leave_one_out import LeaveOneOut
from estimators.shapley.shapley import Shapley
from estimators.tracin import TracIn
from experiments.plan.gridfile import resolved
from experiments.plan.outside import code_of_models
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options
from experiments.runner.run import run as run_grid
from poisonbench import log
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.objectives import utility
from poisonbench.seeding import derive, global_state
from poisonbench.training import Recipe, Trace, train, train_many

BY_NAME = Recipe("loops_of_others:outside", train="loops_of_others:adam")


def data_of(n: int = 16, seed: int = 0) -> Dataset:
    return random_data(n, classes=3, seed=seed)


def run() -> Trace:
    """A run of a model that was trained elsewhere, which can be trained again."""
    data = data_of()
    model = net(data)
    states = list(adam(model, data, 0))[-1:]
    return Trace.of(model, data, states, retrain=adam, weight_decay=0.1)


def by_hand(data: Dataset, seed: int, trace: Trace) -> nn.Module:
    """The loop, called as it is said to be."""
    model = (
        trace.initial() if seed == trace.seed else replace(trace, seed=seed).initial()
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "loop"))
        model.train()
        for _ in adam(model, data, seed):
            pass
    return model.eval()


def test_a_run_by_a_named_loop_is_that_loop_and_moves_no_global_generator():
    data = data_of()
    before = global_state()
    trace = train(data, BY_NAME, 3)
    assert not before.moved(global_state())
    want = by_hand(data, 3, trace)
    assert torch.equal(predict(trace.model(), data.x), predict(want, data.x))
    assert [c.step for c in trace.checkpoints] == [2, 4]
    assert [c.lr for c in trace.checkpoints] == [RATE] * EPOCHS
    assert "steps" not in trace.offers
    assert {"retraining", "checkpoints"} < trace.offers
    first = trace.checkpoints[0].state["fc.weight"]
    assert not torch.equal(first, trace.checkpoints[1].state["fc.weight"])


@pytest.mark.parametrize("recipe", [BY_NAME, run().by_recipe], ids=["named", "given"])
def test_many_models_are_the_loop_on_each_subset(recipe, tmp_path):
    data = data_of()
    points = data_of(4, seed=1)
    masks = torch.ones(3, 16, dtype=torch.bool)
    masks[1, 8:] = False
    masks[2] = False
    seeds = [0, 5, 6]
    many = train_many(data, masks, recipe, seeds, scratch=tmp_path)
    kept = train_many(data, masks, recipe, seeds, points=points)
    logits = many.logits(points)
    assert torch.allclose(kept.logits(), logits, rtol=1e-10, atol=1e-12)
    again = train_many(data, masks, recipe, seeds, scratch=tmp_path)
    assert torch.equal(again.logits(points), logits)
    for k in (0, 1):
        want = train(data.take(masks[k]), recipe, seeds[k]).model()
        assert torch.allclose(
            logits[k], predict(want, points.x), rtol=1e-10, atol=1e-12
        )
        assert torch.equal(many.state(k)["fc.weight"], want.state_dict()["fc.weight"])


def test_leave_one_out_is_the_loop_without_each_row():
    trace = run()
    test = data_of(3, seed=1)
    got = LeaveOneOut(repeats=1, candidates=(0, 7)).fit(trace)(test)
    whole = utility(predict(by_hand(trace.train, 0, trace), test.x), test.y, "loss")
    for row in (0, 7):
        rest = torch.arange(16) != row
        model = by_hand(trace.train.take(rest), 0, trace)
        without = utility(predict(model, test.x), test.y, "loss")
        assert torch.allclose(got[:, row], whole - without, atol=1e-10)
    assert bool(got[:, [0, 7]].any())


def test_downsampling_is_the_loop_on_its_subsets():
    trace = run()
    test = data_of(3, seed=1)
    method = Downsampling(models=6)
    masks = method.masks(16, trace.seed)
    values = []
    for k, mask in enumerate(masks):
        model = by_hand(
            trace.train.take(mask), derive(trace.seed, "downsampling", 0, k), trace
        )
        values.append(utility(predict(model, test.x), test.y, "loss"))
    want, _ = with_and_without(torch.stack(values), masks)
    assert torch.allclose(method.fit(trace)(test), want, atol=1e-10)


def test_shapley_values_of_the_loop_sum_to_what_the_rows_share():
    trace = run()
    test = data_of(3, seed=1)
    method = Shapley(permutations=2, measure="loss")
    scores = method.fit(trace)(test)
    whole = utility(predict(by_hand(trace.train, 0, trace), test.x), test.y, "loss")
    chance = -torch.log(torch.tensor(3.0, dtype=torch.float64))
    assert torch.allclose(scores.sum(1), whole - chance, atol=1e-8)


def test_groups_are_left_out_by_the_loop():
    trace = run()
    test = data_of(3, seed=1)
    group = torch.zeros(1, 16, dtype=torch.bool)
    group[0, 2:6] = True
    got, _ = retrained(trace, group, test)
    whole = utility(predict(by_hand(trace.train, 0, trace), test.x), test.y, "loss")
    model = by_hand(trace.train.take(~group[0]), 0, trace)
    without = utility(predict(model, test.x), test.y, "loss")
    assert torch.allclose(got[:, 0], whole - without, atol=1e-10)


def test_a_certifier_votes_by_models_of_the_loop():
    trace = run()
    test = data_of(5, seed=1)
    certifier = DeepPartitionAggregation(parts=3)
    for recipe in (trace.by_recipe, BY_NAME):
        found = certifier(trace.train, test, recipe, trace.seed)
        assert found.labels.shape == (5,)
        assert bool((found.radius >= 0).all())


def test_a_mitigation_trains_again_by_the_loop():
    trace = run()
    evidence = Evidence(trace, data_of(3, seed=1))
    scores = torch.arange(16.0)

    def retrain(keep: torch.Tensor) -> Trace:
        return train(trace.train.take(keep), trace.by_recipe, trace.seed)

    done = FilterRetrain(0.25)(evidence, Means(retrain, scores=scores))
    assert done.keep.tolist() == [True] * 12 + [False] * 4
    want = by_hand(trace.train.take(done.keep), 0, trace)
    x = evidence.test.x
    assert torch.equal(predict(done.trace.model(), x), predict(want, x))
    assert done.trace.weight_decay == trace.weight_decay
    assert done.trace.offers == trace.offers


def test_what_a_loop_does_not_tell_is_refused():
    trace = run()
    with pytest.raises(ConfigError, match="convention 'A' needs the batches"):
        LeaveOneOut(convention="A").fit(trace)
    with pytest.raises(ConfigError, match="returned NoneType") as caught:
        train(data_of(), replace(BY_NAME, train="loops_of_others:nothing"), 0)
    assert "yields" in caught.value.hint
    with pytest.raises(ConfigError, match="unknown training function"):
        train(data_of(), replace(BY_NAME, train="adam"), 0)


def test_a_loop_that_diverges_is_told_and_its_models_predict_nan():
    recipe = replace(BY_NAME, train="loops_of_others:diverges")
    data = data_of()
    with pytest.raises(ConfigError, match="is not a finite number"):
        train(data, recipe, 0)
    masks = torch.stack([data.y != 0, torch.ones(16, dtype=torch.bool)])
    with pytest.warns(UserWarning, match="1 of 2 models diverged"):
        many = train_many(data, masks, recipe, [0, 0])
    lost = many.logits(data).isnan().flatten(1).all(1)
    assert lost.tolist() == [False, True]


def test_a_model_is_trained_anew_and_frozen_layers_stay_as_given():
    data = data_of()
    model = net(data)
    model.conv.requires_grad_(False)
    trace = Trace.of(model, data, retrain=adam)
    fresh = trace.initial()
    assert torch.equal(fresh.conv.weight, model.conv.weight)
    assert not torch.equal(fresh.fc.weight, model.fc.weight)
    assert torch.equal(trace.initial().fc.weight, fresh.fc.weight)
    other = replace(trace, seed=1).initial()
    assert not torch.equal(other.fc.weight, fresh.fc.weight)


def test_a_layer_that_cannot_be_reset_is_named():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3] * self.scale

    trace = Trace.of(Scaled(), data_of(), retrain=adam)
    with pytest.raises(ConfigError, match=r"Scaled.*no reset_parameters") as caught:
        LeaveOneOut().fit(trace)
    assert "make" in caught.value.hint
    again = Trace.of(Scaled(), data_of(), retrain=(Scaled, adam))
    assert bool(LeaveOneOut(repeats=1).fit(again)(data_of(2, seed=1)).any())


def test_a_model_is_built_anew_by_the_function_that_is_given():
    data = data_of()
    trace = Trace.of(net(data), data, retrain=(lambda: net(data), adam))
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "model"))
        want = net(data)
    assert torch.equal(trace.initial().fc.weight, want.fc.weight)
    other = Trace.of(net(data), data, retrain=(lambda: nn.Linear(2, 2), adam))
    with pytest.raises(ConfigError, match=r"lacks 'conv\.weight'"):
        other.initial()
    with pytest.raises(ConfigError, match="retrain must be a function"):
        Trace.of(net(data), data, retrain=3)


LOOP = {"model": "loops_of_others:outside", "train": "loops_of_others:adam"}
GRID = {
    "dataset": {"name": "digits", "train": 60, "test": 60},
    "recipe": LOOP,
    "attack": [{"name": "patch", "budget": 0.1}],
    "probe": {"attacked": 4, "controls": 4, "calibration": 4},
    "estimator": [{"name": "tracin"}, {"name": "downsampling", "models": 4}],
    "filter": [{"name": "self-influence"}],
    "mitigation": [{"name": "filter-retrain"}],
    "certifier": [{"name": "deep-partition-aggregation", "parts": 2}],
}


def test_a_grid_trains_and_trains_again_by_a_loop_from_outside(tmp_path):
    grid = parse(GRID)
    summary = run_grid(grid, Place(tmp_path), Options(workers=0))
    assert summary.failed == []
    [folder] = (tmp_path / "scenes").iterdir()
    record = log.read(folder / "trace.h5", "trace")
    assert "batches" not in record.data
    [name] = folder.glob("mitigate-*.h5")
    assert bool(log.read(name, "mitigate").data["removed"].any())
    [name] = folder.glob("influence-tracin-*.h5")
    assert bool(log.read(name, "influence").data["influence"].any())


FAULTS = [
    (
        {"estimator": [{"name": "hydra"}]},
        "estimator: hydra needs the batch and the learning rate of every step",
    ),
    (
        {"estimator": [{"name": "tracin", "mode": "steps"}]},
        "estimator: tracin needs the batch and the learning rate of every step",
    ),
    ({"recipe": {**LOOP, "epochs": 3}}, "recipe.epochs: has no meaning beside"),
    ({"recipe": {**LOOP, "train": "adam"}}, "recipe.train: unknown training function"),
    ({"transfer": {"rows": 10}}, "transfer: needs the loop of poisonbench"),
]


@pytest.mark.parametrize(("change", "told"), FAULTS, ids=lambda value: str(value)[:30])
def test_what_a_loop_from_outside_cannot_give_is_told_before_any_work(change, told):
    with pytest.raises(ConfigError) as caught:
        parse({**GRID, **change})
    assert any(line.startswith(told) for line in caught.value.errors)


def test_a_grid_read_back_is_the_same_and_the_code_of_the_loop_counts():
    grid = parse(GRID)
    assert parse(tomllib.loads(resolved(grid))) == grid
    assert code_of_models(Recipe("cnn")) == ""
    assert code_of_models(Recipe("cnn", train=LOOP["train"])) != ""


SKEWED = replace(BY_NAME, loss="loops_of_others:skewed", weight_decay=0.0)


def test_a_loss_of_a_loop_is_that_of_every_method():
    """TracIn's products are those of the gradients of the loss that the loop descends."""
    trace = train(data_of(), SKEWED, 0)
    assert trace.loss == "loops_of_others:skewed"
    points = data_of(3, 7)
    got = TracIn().fit(trace)(points)
    want = torch.zeros_like(got)
    for k, checkpoint in enumerate(trace.checkpoints):
        model = trace.model(k)
        rows = [gradient(model, trace.train, i) for i in range(len(trace.train))]
        for j in range(len(points)):
            own = gradient(model, points, j)
            for i, row in enumerate(rows):
                want[j, i] += checkpoint.lr * float(own @ row)
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)
    plain = TracIn().fit(train(data_of(), BY_NAME, 0))(points)
    assert not torch.allclose(got, plain, rtol=1e-2)


def gradient(model: nn.Module, data: Dataset, i: int) -> torch.Tensor:
    loss = skewed(model(data.x[i : i + 1]), data.y[i : i + 1]).sum()
    found = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss": "loops_of_others:skewed", "train": None}, "left out without train"),
        ({"loss": "loops_of_others:skewed", "label_smoothing": 0.1}, "alone, got 0.1"),
        ({"loss": "binary-cross-entropy"}, "loss must be one of"),
        ({"loss": 3}, "loss"),
    ],
)
def test_a_loss_that_the_loop_does_not_descend_is_refused(changes: dict, told: str):
    with pytest.raises((ValueError, TypeError), match=told):
        replace(BY_NAME, **changes)


def test_a_loss_in_a_grid_is_looked_up_before_any_work_and_told_by_its_code():
    with pytest.raises(ConfigError, match=r"recipe.loss: .*has no"):
        parse(grid_of(loss="loops_of_others:lacking"))
    [scene] = parse(grid_of(loss="loops_of_others:skewed")).scenes
    assert scene.recipe.loss == "loops_of_others:skewed"
    assert code_of_models(scene.recipe)
    assert "loss" not in parse(grid_of()).scenes[0].config["recipe"]


def grid_of(**recipe: object) -> dict:
    own = {"model": "loops_of_others:outside", "train": "loops_of_others:adam"}
    return {
        "name": "losses",
        "dataset": {"name": "digits", "train": 50, "test": 50},
        "recipe": {**own, **recipe},
        "attack": [{"name": "none"}],
    }
