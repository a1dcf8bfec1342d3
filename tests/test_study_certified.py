"""The study of certified influence: certificates are never contradicted, and records add up."""

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import random_data

from attacks.label_flip import LabelFlip
from attacks.patch import Patch
from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from experiments.study.__main__ import main
from experiments.study.certified import tables
from experiments.study.certified.assaults import assaults, certifiers_of, changes
from experiments.study.certified.orders import case_of, predicted_changes, spread
from experiments.study.certified.partition import Partition
from experiments.study.certified.records import (
    Assault,
    Found,
    Removal,
    contradictions,
)
from experiments.study.certified.removals import removals
from poisonbench.data import Dataset, join
from poisonbench.models import predict
from poisonbench.objectives import utility
from poisonbench.training import Recipe

RECIPE = Recipe("linear", epochs=4, batch_size=8, lr=0.5, momentum=0.0)
VOTE = DeepPartitionAggregation(5, epochs=3, batch_size=4)


def partition(rows: int = 14, points: int = 25) -> Partition:
    train = random_data(rows, (1, 3, 3), 2, 0)
    test = random_data(points, (1, 3, 3), 2, 100)
    # the label is whether the first pixel is bright
    by_pixel = [d.relabel((d.x[:, 0, 0, 0] > 0.5).long()) for d in (train, test)]
    return Partition.of(VOTE, *by_pixel, RECIPE, 0)


def test_the_vote_is_that_of_the_certifier():
    vote = partition()
    told = VOTE(vote.train, vote.points, RECIPE, 0)
    assert torch.equal(vote.certified.labels, told.labels)
    assert torch.equal(vote.certified.radius, told.radius)
    assert told.radius.max() >= 2


def test_removed_rows_give_the_votes_of_a_training_set_without_them():
    vote = partition()
    removed = torch.zeros(3, len(vote.train), dtype=torch.bool)
    removed[0, 2] = True
    removed[1, [0, 5, 9]] = True
    removed[2] = (
        vote.part == vote.part[0]
    )  # a whole part: its model is the untrained one
    at = torch.tensor([3, 0, 7])
    found = vote.without(removed, at)
    for job, gone in enumerate(removed):
        left = vote.train.take(~gone)
        brute = Partition.of(VOTE, left, vote.points, RECIPE, 0)
        assert torch.equal(found[job], brute.votes[:, at[job]])


def test_no_removal_of_one_or_two_rows_contradicts_the_certificate():
    vote = partition(12, 8)
    n = len(vote.train)
    chosen = [*combinations(range(n), 1), *combinations(range(n), 2)]
    m = len(vote.points)
    for rows in chosen:
        removed = torch.zeros(m, n, dtype=torch.bool)
        removed[:, list(rows)] = True
        after = vote.without(removed, torch.arange(m)).T
        moved = (after != vote.votes).sum(0)
        assert moved.max() <= len(rows)
        labels = tables_of(after, vote.points.classes)
        held = vote.certified.radius >= len(rows)
        assert torch.equal(labels[held], vote.certified.labels[held])


def tables_of(votes: torch.Tensor, classes: int) -> torch.Tensor:
    """The most frequent label of each point, the lowest of those that tie."""
    counts = torch.stack([(votes == label).sum(0) for label in range(classes)])
    return counts.argmax(0)


@pytest.fixture(scope="module")
def small(digits: tuple[Dataset, Dataset]) -> Found:
    three = [replace(part.take(part.y < 3), classes=3) for part in digits]
    rows, test = three
    rows = rows.take(torch.arange(100))
    test = test.take(torch.arange(40))
    recipe = replace(RECIPE, epochs=10, lr=0.05)
    vote = Partition.of(DeepPartitionAggregation(8, 20), rows, test, recipe, 0)
    case = case_of(vote, recipe, 3, 0)
    removed = removals(case, (1, 10), 1, 0)
    attacked = assaults(rows, test, recipe, (1, 12), certifiers_of(8, 20), 0)
    return Found(8, tuple(removed), tuple(attacked))


def test_neither_removals_nor_attacks_contradict_certificates(small: Found):
    assert contradictions(small) == []
    # which would be empty if nothing changed, or everything was open
    assert any(removal.moved > 0 for removal in small.removals)
    assert any(removal.radius > 0 for removal in small.removals)
    assert any(assault.changed > 0 for assault in small.assaults)
    assert any(assault.open < 1 for assault in small.assaults)


def test_what_contradicts_a_certificate_is_told(small: Found):
    removal = replace(small.removals[0], count=2, radius=2, moved=0.0, vote=True)
    assert len(contradictions(replace(small, removals=(removal,)))) == 1
    beyond = replace(removal, count=3)
    assert contradictions(replace(small, removals=(beyond,))) == []
    moved = replace(beyond, vote=False, moved=4 / 8)
    assert len(contradictions(replace(small, removals=(moved,)))) == 1
    assault = replace(small.assaults[0], contradicted=1)
    assert len(contradictions(replace(small, assaults=(assault,)))) == 1


def test_changes_are_insertions_deletions_and_changed_labels(
    digits: tuple[Dataset, Dataset],
):
    clean = digits[0].take(torch.arange(50))
    order = torch.arange(50).flip(0)
    assert changes(clean, clean.take(order)) == 0
    assert changes(clean, clean.take(order[:47])) == 3
    assert changes(clean, join([clean, clean.take(order[:2])])) == 2
    assert changes(join([clean, clean.take(order[:2])]), clean) == 2
    label = clean.y.clone()
    label[4] = (label[4] + 1) % 10
    assert changes(clean, clean.relabel(label)) == 1
    flipped = LabelFlip(budget=0.1)(clean, digits[1], RECIPE, 0).train
    assert changes(clean, flipped) == 5
    stamped = Patch(budget=0.1)(clean, digits[1], RECIPE, 0).train
    assert changes(clean, stamped) == 10


def test_rows_are_spread_over_the_parts_that_vote_for_the_label():
    vote = partition()
    order = torch.randperm(len(vote.train)).expand(len(vote.points), -1)
    found = spread(vote, order)
    for point, rows in enumerate(found):
        assert sorted(rows.tolist()) == list(range(len(vote.train)))
        label = vote.points.y[point]
        voting = (vote.votes[:, point] == label).nonzero().squeeze(1)
        there = voting[torch.isin(voting, vote.part)]
        first = vote.part[rows[: len(there)]]
        assert sorted(first.tolist()) == sorted(there.tolist())


def test_a_change_is_said_where_the_label_may_fall_to_a_half():
    vote = partition(30)
    case = case_of(vote, RECIPE, 5, 0)
    logits = predict(case.trace.model(), case.points.x)
    loss = -utility(logits, case.points.y, "loss")
    margin = utility(logits, case.points.y, "margin")
    steps = torch.tensor([0.99, 1.01]).double()
    to_half = (math.log(2) - loss)[:, None] * steps
    said = predicted_changes(case, "influence functions", to_half)
    assert said is not None
    assert said.tolist() == [[False, True]] * len(case.points)
    said = predicted_changes(case, "TRAK", margin[:, None] * steps)
    assert said is not None
    assert said.tolist() == [[False, True]] * len(case.points)
    assert predicted_changes(case, "GAS", to_half) is None


def removal(point: int, count: int, radius: int, vote: bool) -> Removal:
    return Removal(0, "GAS", point, count, radius, float(vote), vote, 0.0, None)


def test_shares_of_predictions_that_stand_only_fall():
    # point 0 changes at 2 and, by chance, not at 4; point 1 never
    rows = [removal(0, 1, 0, False), removal(0, 2, 0, True), removal(0, 4, 0, False)]
    rows += [removal(1, count, 2, False) for count in (1, 2, 4)]
    found = tables.standing(rows, "GAS", tables.of_vote)
    assert {k: one.value for k, one in found.items()} == {1: 1.0, 2: 0.5, 4: 0.5}
    bound = tables.certified(rows)
    assert {k: one.value for k, one in bound.items()} == {1: 0.5, 2: 0.5, 4: 0.0}


def test_records_are_read_as_they_were_written(small: Found, tmp_path: Path):
    small.save(tmp_path / "found.json")
    assert Found.read(tmp_path / "found.json") == small
    assert isinstance(small.assaults[0], Assault)


def test_one_command_shows_the_tables_and_draws_the_figure(
    small: Found, tmp_path: Path
):
    numbers = tmp_path / "found.json"
    small.save(numbers)
    figure = tmp_path / "certified.svg"
    arguments = ["certified", "--numbers", str(numbers), "--figure", str(figure)]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    assert "contradicts" not in shown.output
    lines = [line.split(" | ") for line in shown.stdout.splitlines()]
    assert lines[2][:2] == ["| certified", "vote"]
    assert "no rows can change them" in figure.read_text(encoding="utf-8")
