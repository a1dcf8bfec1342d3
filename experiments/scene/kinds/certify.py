"""The stage in which a certifier predicts the clean test set and the attacked points."""

from experiments.scene.cost import measured, noted
from experiments.scene.kinds.cell import Cell, about_run, check_shape
from poisonbench.contracts.values import Certified
from poisonbench.data import join
from poisonbench.log import names
from poisonbench.notes import collecting


def certify(cell: Cell) -> None:
    """Predicts the clean test set and the attacked points with a guarantee; certify-CERT.h5."""
    method = cell.method("certifier")
    trace = cell.victim.trace
    attacked = cell.victim.attacked
    clean = cell.victim.clean.test
    points = join([clean, attacked.points.to(clean.x.device)])
    with noted() as warnings, collecting() as told, measured(cell.device) as cost:
        found: Certified = method.value(
            trace.train, points, trace.by_recipe, trace.seed, cell.scratch
        )
    labels = found.labels.cpu()
    radius = found.radius.cpu()
    check_shape(method, "labels", labels, (len(points),), "(m,)")
    check_shape(method, "radii", radius, (len(points),), "(m,)")
    m = len(clean)
    data = {
        names.LABEL: labels[:m],
        names.RADIUS: radius[:m],
        names.TRUTH: clean.y,
        names.TARGETS_LABEL: labels[m:],
        names.TARGETS_RADIUS: radius[m:],
        names.TARGETS_Y: attacked.points.y,
        names.TARGETS_WANTED: attacked.wanted,
    }
    about = about_run(method, cost, warnings) | {"all_targets": attacked.whole}
    cell.write(data, about, told)
