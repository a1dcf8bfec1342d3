"""How the processor seconds of the questions grow with n, beside those of an influence matrix.

Each question is asked alone, and then all together, which share work. The number of training steps
stays as n doubles.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.questions.question import Question, answers
from defenses.questions.table import QUESTIONS, STREAM_QUESTIONS
from estimators import ESTIMATORS
from experiments.bench.growth import run
from experiments.bench.problem import images
from experiments.bench.timing import Timing, machine, slope, table
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.training.trace import Trace

EVERY = QUESTIONS + STREAM_QUESTIONS
TOGETHER = "all questions together"
ESTIMATOR = "influence matrix (gas, 3 checkpoints)"


def bench(smallest: int, m: int, doublings: int, rounds: int) -> str:
    """Returns the report for n times 1, 2, 4 and so on."""
    sizes = [smallest << k for k in range(doublings + 1)]
    problems = [Problem.of(smallest, n // smallest, m) for n in sizes]
    contestants: dict[str, Callable[[Problem], object]] = {
        ESTIMATOR: Problem.scored,
        TOGETHER: lambda problem: problem.asked(EVERY),
    }
    for question in EVERY:
        contestants[question.name] = _alone(question)
    rows = []
    for name, contestant in contestants.items():
        timings = [_timed(contestant, problem, rounds) for problem in problems]
        seconds = [f"{min(timing.seconds):.2f}" for timing in timings]
        rows.append((name, *seconds, f"{slope(sizes, timings):.2f}"))
    head = ("", *(f"s, n = {n}" for n in sizes), "slope")
    _, _, source = images(1, 1)
    told = (
        f"Processor seconds, {m} points: cnn on {source}, half of the points trusted, "
        f"fastest of {rounds} rounds. {machine(torch.device('cpu'))}."
    )
    return f"{told}\n\n{table(head, rows)}\n"


@dataclass(frozen=True, eq=False)
class Problem:
    """A run, and the points that are judged.

    Attributes:
        trace: the run.
        points: m of them, with predicted labels.
        influence: (m, n).
    """

    trace: Trace
    points: Dataset
    influence: Tensor

    @classmethod
    def of(cls, smallest: int, factor: int, m: int) -> "Problem":
        """Returns the run on smallest x factor instances, scored."""
        trace = run(smallest, factor, torch.device("cpu"))
        _, test, _ = images(1, m)
        labels = predict(trace.model(), test.x).argmax(1)
        points = test.relabel(labels)
        influence = ESTIMATORS["gas"]().fit(trace)(points)
        return cls(trace, points, influence)

    def scored(self) -> Tensor:
        """Returns the influence matrix, computed anew."""
        scores: Tensor = ESTIMATORS["gas"]().fit(self.trace)(self.points)
        return scores

    def asked(self, questions: tuple[Question, ...]) -> object:
        """Returns the answers to questions, with half of the points trusted."""
        trusted = torch.arange(len(self.points)) % 2 == 0
        evidence = Evidence(
            trace=self.trace,
            test=self.points,
            influence=self.influence,
            trusted=trusted,
        )
        return answers(evidence, questions)


def _alone(question: Question) -> Callable[[Problem], object]:
    return lambda problem: problem.asked((question,))


def _timed(
    contestant: Callable[[Problem], object],
    problem: Problem,
    rounds: int,
) -> Timing:
    """Returns the processor seconds of each round; a machine with other work does not matter."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        contestant(problem)
        seconds.append(time.process_time() - start)
    return Timing("", tuple(seconds), 0)
