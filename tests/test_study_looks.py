"""The looks of what studies compare: by the estimator, however running text calls it."""

import pytest

from estimators import ESTIMATORS
from experiments.report.pictures.estimator_look import numbers, point
from experiments.study.certified import orders
from experiments.study.copies import effects
from experiments.study.cost.contestants import CONTESTANTS
from experiments.study.looks import estimator_of, styles

STUDIES = {
    "certified": [*orders.ESTIMATORS, "KNN-Shapley, a row of each part"],
    "copies": list(effects.POINTWISE),
    "cost": [contestant.name for contestant in CONTESTANTS],
}


@pytest.mark.parametrize("study", STUDIES)
def test_an_estimator_has_the_colour_that_it_has_everywhere(study: str):
    for label, style in styles(STUDIES[study], 4.0).items():
        name = estimator_of(label).partition(",")[0]
        assert name in ESTIMATORS
        assert style["color"] == point(numbers([name])[name])["color"]


@pytest.mark.parametrize("study", STUDIES)
def test_no_two_lines_of_a_study_look_alike(study: str):
    found = styles(STUDIES[study], 4.0).values()
    looks = {(style["color"], style["marker"]) for style in found}
    assert len(looks) == len(STUDIES[study])
