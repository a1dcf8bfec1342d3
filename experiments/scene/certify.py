"""The stage in which a certifier predicts the probe."""

import shutil

from experiments.scene.attacked import attacked_points
from experiments.scene.cell import Cell, about_run, check_shape
from experiments.scene.cost import measured, noted
from poisonbench.contracts.values import Certified
from poisonbench.data import join
from poisonbench.notes import collecting


def certify(cell: Cell) -> None:
    """Predicts the clean test set and the attacked points with a guarantee, and writes certify-CERT.h5."""
    method, victim = cell.method("certifier"), cell.victim
    targets, wanted, whole = attacked_points(cell)
    clean, trace = victim.clean.test, victim.trace
    points = join([clean, targets.to(clean.x.device)])
    with noted() as notes, collecting() as told, measured(cell.device) as cost:
        found: Certified = method.value(trace.train, points, trace.recipe, trace.seed, cell.scratch)
    labels, radius = found.labels.cpu(), found.radius.cpu()
    for name, value in (("labels", labels), ("radii", radius)):
        check_shape(method, name, value, (len(points),), "(m,)")
    m = len(clean)
    data = {"label": labels[:m], "radius": radius[:m], "truth": clean.y}
    data |= {
        "targets/label": labels[m:],
        "targets/radius": radius[m:],
        "targets/y": targets.y,
        "targets/wanted": wanted,
    }
    cell.write(data, about_run(method, cost, notes) | {"all_targets": whole}, told)
    shutil.rmtree(cell.scratch, ignore_errors=True)
