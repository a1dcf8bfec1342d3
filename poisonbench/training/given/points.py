"""Points given to a finished run: read and judged before any work, and their predicted labels."""

from poisonbench.data import Dataset
from poisonbench.data.judge import check_finite, check_labels
from poisonbench.data.points import Points, as_points
from poisonbench.data.tokens import check_sentences
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.training.trace import Trace, check_points


def read_points(run: Trace, found: object, what: str) -> Points:
    """Returns instances that a run can judge, on its device.

    Args:
        run: the training run.
        found: in a form that `poisonbench.data.points.as_points` takes.
        what: names them in the error, e.g. "the trusted points".

    Raises:
        DataError: they are in none of these forms, of another shape or on another scale than the
            training set, not finite, or no sentences of its words.
    """
    points = as_points(found, run.train, what)
    check_points(run, points.data, what)
    check_finite(points.data, what)
    if points.data.kind == "tokens":
        check_sentences(points.data, what)
    return points


def check_given_labels(run: Trace, data: Dataset, what: str) -> None:
    """Refuses labels that are no classes of the run's model; of one output, labels are numbers.

    Raises:
        DataError: names the first row whose label is none.
    """
    if len(data) and predict(run.model(), data.x[:1]).shape[1] > 1:
        check_labels(data, what)


def predicted(run: Trace, data: Dataset) -> Dataset:
    """Returns the instances with the labels that the final model predicts.

    Raises:
        ConfigError: its output is one number, which is no label.
    """
    if not len(data):
        return data
    logits = predict(run.model(), data.x)
    if logits.shape[1] == 1:
        raise ConfigError(
            ["the model gives one number, which is no label"],
            "give the test points with their labels, (x, y), and labels='given'",
        )
    return data.relabel(logits.argmax(1))
