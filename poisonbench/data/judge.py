"""Whether a data set can be worked with: judged before any attack, so that no method is blamed.

Cost: one pass over the values; a second one only to say what is wrong.
"""

from math import isfinite

from poisonbench.data.dataset import Dataset
from poisonbench.data.form import agreeing
from poisonbench.data.kind import KINDS
from poisonbench.data.rescale import into_unit_interval
from poisonbench.data.tokens import check_sentences
from poisonbench.errors import DataError

# of images, by which height x width x channels is told from the right order
CHANNELS = (1, 3, 4)


def check_pair(train: Dataset, test: Dataset) -> None:
    """Checks that a training and a test set can be worked with, alone and together.

    Raises:
        DataError: no rows, one class alone, values or labels out of range, or two sets that
            differ in shape, type or number of classes. Names the set, the fault and the way out.
    """
    for what, part in (("the training set", train), ("the test set", test)):
        if not len(part):
            raise DataError(
                f"{agreeing(what, 'has')} no rows", "both sets need at least one"
            )
        _check_layout(part, what)
    _check_alike(train, test)
    if train.classes < 2:
        raise DataError(
            "the training set has one class alone",
            "an attack needs a label to turn to: give at least two classes",
        )
    check_values(train, "the training set")
    check_values(test, "the test set")


def check_values(data: Dataset, what: str) -> None:
    """Checks that values are what the kind of the data allows, and labels in [0, C).

    Numbers are finite, images and spectrograms lie in [0, 1], token ids are of the vocabulary, and
    sentences padded at their end alone.

    Args:
        data: any number of rows.
        what: names it in the error, e.g. "the training set".

    Raises:
        DataError: names the fault, the first row, and the way out.
    """
    if not data.x.numel():
        return
    if data.kind == "tokens":
        check_sentences(data, what)
    else:
        _check_numbers(data, what)
    check_labels(data, what)


def _check_numbers(data: Dataset, what: str) -> None:
    """Refuses values that are not finite, or outside [0, 1] where the kind lies there."""
    ends = data.x.aminmax()  # NaN if any value is
    lowest = float(ends.min)
    highest = float(ends.max)
    if not (isfinite(lowest) and isfinite(highest)):
        _refuse_not_finite(data, what)
    if KINDS[str(data.kind)].unit and (lowest < 0 or highest > 1):
        raise DataError(
            f"{agreeing(what, 'has')} pixels from {lowest:.4g} to {highest:.4g}; "
            f"{data.kind}s lie in [0, 1]",
            into_unit_interval(data, lowest, highest),
        )


def _check_layout(data: Dataset, what: str) -> None:
    """Refuses instances without values, and images whose channels come last."""
    if 0 in data.shape:
        raise DataError(
            f"{agreeing(what, 'has')} instances of shape {data.shape}, without a value",
            "give each a value",
        )
    if KINDS[str(data.kind)].axes != 3:
        return
    first, second, last = data.shape
    if last in CHANNELS and first not in CHANNELS and second > max(CHANNELS):
        raise DataError(
            f"{agreeing(what, 'has')} {data.kind}s of shape {data.shape}, which looks like "
            "height x width x channels",
            "channels come first, (n, channels, height, width): x.permute(0, 3, 1, 2) of a tensor, "
            "x.transpose(0, 3, 1, 2) of an array",
        )


def _check_alike(train: Dataset, test: Dataset) -> None:
    """Refuses a test set that differs from the training set in shape, type or classes."""
    if test.shape != train.shape:
        raise DataError(
            f"test instances have shape {test.shape}, training instances {train.shape}",
            f"bring both to one shape, {KINDS[str(train.kind)].one_shape}",
        )
    if test.kind != train.kind:
        raise DataError(
            f"the test set is of kind {test.kind}, the training set of kind {train.kind}",
            "give both the same kind: Dataset(x, y, classes, kind=...)",
        )
    if test.vocabulary != train.vocabulary:
        raise DataError(
            "the test set has another vocabulary than the training set",
            "number the words of both by the words of the training set; others are 1",
        )
    if test.columns and train.columns and test.columns != train.columns:
        raise DataError(
            "the columns of the test set are not those of the training set",
            "give both the same features in the same order, and the same names",
        )
    if test.x.dtype != train.x.dtype:
        raise DataError(
            f"x is {test.x.dtype} in the test set and {train.x.dtype} in the training set",
            "convert both: x.float()",
        )
    if test.classes != train.classes:
        raise DataError(
            f"the test set has {test.classes} classes, the training set {train.classes}",
            "give both the same number, and both the same meaning of a label",
        )


def _refuse_not_finite(data: Dataset, what: str) -> None:
    bad = ~data.x.flatten(1).isfinite().all(1)
    first = int(bad.nonzero()[0, 0])
    count = int(bad.sum())
    raise DataError(
        f"{agreeing(what, 'is')} not finite in row {first} ({count} of {len(data)} rows)",
        "drop or fill those rows: keep = x.flatten(1).isfinite().all(1)",
    )


def check_finite(data: Dataset, what: str) -> None:
    """Checks that values are finite.

    Raises:
        DataError: names the first row that is not, and the way out.
    """
    if data.x.is_floating_point() and not bool(data.x.isfinite().all()):
        _refuse_not_finite(data, what)


def check_labels(data: Dataset, what: str) -> None:
    """Checks that labels lie in [0, C).

    Raises:
        DataError: names the first row whose label does not, and the way out.
    """
    bad = (data.y < 0) | (data.y >= data.classes)
    if not bool(bad.any()):
        return
    first = int(bad.nonzero()[0, 0])
    label = int(data.y[first])
    count = int(bad.sum())
    lowest = int(data.y.min())
    highest = int(data.y.max())
    way = (
        "number the classes 0, 1, ...: names, y = torch.unique(y, return_inverse=True)"
    )
    if lowest == 1 and highest == data.classes:
        way = "subtract 1: y - 1"
    raise DataError(
        f"{agreeing(what, 'has')} label {label} in row {first}, outside [0, {data.classes}) "
        f"({count} of {len(data)} rows; labels run from {lowest} to {highest})",
        way,
    )
