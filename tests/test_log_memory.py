"""What reading the influence on many points takes: never the whole matrix where a part does."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from experiments.evaluation.kinds import points
from experiments.evaluation.views import agreement
from experiments.report.explanation.matrix import Matrix
from experiments.report.show import describe
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import Array, Record, loading, names
from poisonbench.log.checking import Stored

M, N = 256, 4000
CONFIG = {"estimator": {"name": "gas"}}


@pytest.fixture(scope="module")
def influence(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A log of influence, and its matrix (m, n)."""
    values = np.random.default_rng(0).normal(size=(M, N)).astype(np.float32)
    values[3, :7] = np.nan
    path = tmp_path_factory.mktemp("scene") / "influence-gas.h5"
    log.write(path, "influence", config=CONFIG, data={names.INFLUENCE: values})
    return path, values


def peak(call: Callable[[], object]) -> int:
    """Bytes that a call takes at most."""
    call()  # what is imported late and kept
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_proponents_are_found_some_points_at_a_time(influence) -> None:
    path, values = influence
    record = Record(path.parent / "detect.h5", "detect", CONFIG, {}, {})
    places = list(range(0, M, 2))
    found = points._proponents(record, places)
    for place in places:
        known = np.nan_to_num(values[place], nan=-9.0)
        ranked = sorted(range(N), key=known.__getitem__, reverse=True)
        assert list(found[place]) == ranked[:5]
    assert peak(lambda: points._proponents(record, places)) < values.nbytes


def test_agreement_reads_the_points_that_it_compares(influence) -> None:
    path, values = influence
    record = Record(path, "influence", CONFIG, {}, {})
    ranked = agreement._ranks(record, [2, 9])
    assert (ranked == agreement.standardised_ranks(values[[2, 9]])).all()
    assert peak(lambda: agreement._ranks(record, [2, 9])) < values.nbytes / 4


def test_checksums_are_tested_a_part_at_a_time(
    influence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, values = influence
    monkeypatch.setattr("poisonbench.log.loading.AT_ONCE", values.nbytes // 8)

    def verified() -> Record:
        return log.read(path, "influence", keys=(), verify=True)

    assert verified().data == {}
    assert peak(verified) < values.nbytes / 2
    with h5py.File(path, "r") as file:
        stored = file[names.INFLUENCE].id
        chunks = [stored.get_chunk_info(k) for k in range(stored.get_num_chunks())]
    for chunk in (chunks[0], chunks[-1]):
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset + chunk.size // 2] ^= 1
        damaged = tmp_path / "influence-gas.h5"
        damaged.write_bytes(content)
        assert log.read(damaged, "influence", keys=()).data == {}
        with pytest.raises(LogError):
            log.read(damaged, "influence", keys=(), verify=True)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of influence that are held at a time, in the order in which they are read."""
    found: list[int] = []

    def counted(key: str, stored: Stored, rows: Sequence[int] | None = None) -> Array:
        array = loading.load(key, stored, rows)
        if key == names.INFLUENCE:
            found.append(array.nbytes)
        return array

    monkeypatch.setattr("poisonbench.log.reading.load", counted)
    return found


@pytest.mark.parametrize("m", [4, 64])
def test_what_is_read_of_a_point_does_not_grow_with_the_points(
    m: int, loaded: list[int], tmp_path: Path
) -> None:
    values = np.arange(m * 300, dtype=np.float32).reshape(m, 300)
    path = tmp_path / "influence-gas.h5"
    log.write(path, "influence", config=CONFIG, data={names.INFLUENCE: values})
    matrix = Matrix.of(path)
    assert loaded == [], "the head is read without the matrix"
    assert (matrix.on(3) == values[3]).all()
    assert loaded == [300 * 4]
    with pytest.raises(LogError, match="rows"):
        matrix.on(m)


def test_a_large_matrix_is_shown_a_part_at_a_time(
    influence, loaded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, values = influence
    monkeypatch.setattr("poisonbench.log.loading.AT_ONCE", values.nbytes // 8)
    monkeypatch.setattr("experiments.report.show.AT_ONCE", 1000)
    known = values[np.isfinite(values)]
    told = f"float32 256x4000, {known.min():.6g} to {known.max():.6g}, 7 not finite"
    assert f"  {names.INFLUENCE}  {told}\n" in describe(path)
    assert loaded == [], "it should not be read whole"
    assert peak(lambda: describe(path)) < values.nbytes / 2


WRITTEN = """
import sys
from pathlib import Path
import numpy as np
import torch
from experiments.scene.cost import measured
from poisonbench import log

# below 32 MiB the C library may grow a block by copying it
values = np.random.default_rng(0).normal(size=(900, 20_000)).astype(np.float32)
path = Path(sys.argv[1])
log.write(path, "influence", config={}, data={"influence": values[:2]})
with measured(torch.device("cpu")) as cost:
    log.write(path, "influence", config={}, data={"influence": values})
print(cost.peak_bytes)
"""


def test_writing_takes_what_the_data_take_when_packed_and_little_more(
    tmp_path: Path,
) -> None:
    path = tmp_path / "influence.h5"
    command = [sys.executable, "-c", WRITTEN, str(path)]  # a process of its own
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak_bytes = int(done.stdout)
    assert peak_bytes < 1.5 * path.stat().st_size, "the image should be held once"


STARVED = """
import io
import sys
from pathlib import Path
import numpy as np
from poisonbench import log
from poisonbench.errors import LogWriteError
from poisonbench.log import image

def starved(self, part):
    if self.tell() > int(sys.argv[2]):
        raise MemoryError
    return io.BytesIO.write(self, part)

class Starved(io.BytesIO):
    write = starved

image._Image.__bases__ = (Starved,)
values = np.random.default_rng(0).normal(size=(64, 4000))
try:
    log.write(Path(sys.argv[1]), "influence", config={}, data={"influence": values})
except LogWriteError as error:
    print(error.reason)
"""


@pytest.mark.parametrize("room", [100, 300_000, 1_500_000])
def test_without_memory_for_the_image_an_error_is_told_and_no_process_dies(
    room: int, tmp_path: Path
) -> None:
    path = tmp_path / "influence.h5"
    done = subprocess.run(
        [sys.executable, "-c", STARVED, str(path), str(room)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "no memory to build the image" in done.stdout
    assert not path.exists()
