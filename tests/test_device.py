"""What is asked of a device and what it answers: made up here, for a machine that has none."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import toy_attack
from pretended import pretended_cuda
from test_run import PATCH, grid
from torch import Tensor

from experiments.plan.paths import Place
from experiments.runner import run as run_module
from experiments.runner.lock import FatalError
from experiments.runner.run import Options, run
from experiments.scene import cost as cost_module
from experiments.scene.cost import measured
from poisonbench import log
from poisonbench.data import Dataset, Layout
from poisonbench.device.eigenvectors import eigh
from poisonbench.device.faults import is_broken, is_out_of_memory
from poisonbench.device.precision import Precision, asking, full_precision
from poisonbench.errors import ModelError
from poisonbench.gradients import Sketch
from poisonbench.gradients.planning.refusals import told
from poisonbench.log.provenance import _gpu_in_use
from poisonbench.memory import budget_of, forget_sizes, halving
from poisonbench.models import build, predict
from poisonbench.seeding import exact_arithmetic
from poisonbench.training import Recipe
from poisonbench.training.many.blocks import block_size, saved_bytes
from poisonbench.training.many.chain import Chain
from poisonbench.training.many.choice import _candidates
from poisonbench.training.many.stacked import Mapped

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
]
BROKEN = [
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
]
OTHER = [RuntimeError("shapes differ"), ValueError("CUDA error: quoted")]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    forget_sizes()
    toy_attack.broken.clear()
    yield
    forget_sizes()
    toy_attack.broken.clear()


def test_errors_of_memory_and_of_a_broken_accelerator_are_told_apart():
    every = [*NO_MEMORY, *BROKEN, *OTHER]
    assert [error for error in every if is_out_of_memory(error)] == NO_MEMORY
    assert [error for error in every if is_broken(error)] == BROKEN


def test_an_error_that_wraps_that_of_the_accelerator_is_one():
    wrapped = ValueError("the method did not work")
    wrapped.__cause__ = BROKEN[0]
    assert is_broken(wrapped)
    wrapped.__cause__ = NO_MEMORY[0]
    assert not is_broken(wrapped)


@pytest.mark.parametrize("error", [*NO_MEMORY, *BROKEN], ids=str)
def test_an_error_of_the_device_is_no_fault_of_a_layer(error: RuntimeError):
    with pytest.raises(type(error)) as raised, told(torch.nn.Linear(1, 1), "fails"):
        raise error
    assert raised.value is error
    with pytest.raises(ModelError), told(torch.nn.Linear(1, 1), "fails"):
        raise OTHER[0]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_every_lack_of_memory_is_met_by_halving(error: RuntimeError):
    tried = []

    def run_at(size: int) -> int:
        tried.append(size)
        if size > 3:
            raise error
        return size

    assert halving(run_at, 24) == 3
    assert tried == [24, 12, 6, 3]
    with pytest.raises(RuntimeError, match="shapes differ"):
        halving(lambda _: (_ for _ in ()).throw(OTHER[0]), 24)


def test_the_size_that_fitted_is_where_the_next_call_begins_until_it_is_forgotten():
    tried: list[int] = []
    room = 5

    def run_at(size: int) -> int:
        tried.append(size)
        if size > room:
            raise NO_MEMORY[0]
        return size

    assert [halving(run_at, 32) for _ in range(3)] == [4, 4, 4]
    assert tried == [32, 16, 8, 4, 4, 4]
    assert halving(run_at, 12) == 3, "of another size nothing is known"
    room = 1
    assert halving(run_at, 32) == 1, "less room than before"
    forget_sizes()
    tried.clear()
    halving(run_at, 32)
    assert tried[0] == 32


def _settings() -> list[str | bool]:
    kinds = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,
        torch.backends.cudnn.rnn,
        torch.backends.mkldnn.matmul,
    )
    found: list[str | bool] = [kind.fp32_precision for kind in kinds]
    for old in (
        torch.get_float32_matmul_precision,
        lambda: torch.backends.cuda.matmul.allow_tf32,
        lambda: torch.backends.cudnn.allow_tf32,
    ):
        try:
            found.append(old())
        except RuntimeError:
            found.append("contradictory")
    found.append(torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction)
    return found


USERS = {
    "nothing": "",
    "high": "torch.set_float32_matmul_precision('high')",
    "medium": "torch.set_float32_matmul_precision('medium')",
    "products": "torch.backends.cuda.matmul.allow_tf32 = True",
    "convolutions": "torch.backends.cudnn.allow_tf32 = False",
    "new products": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "new convolutions": "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "everything": "torch.backends.fp32_precision = 'tf32'",
    "sums": "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False",
    "nothing at all": "torch.backends.fp32_precision = 'ieee'",
}


@pytest.fixture
def _as_found() -> Iterator[None]:
    generic = torch.backends.fp32_precision
    with full_precision():
        pass
    cudnn = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.fp32_precision = generic
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = cudnn
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    for kind in (
        torch.backends.mkldnn.matmul,
        torch.backends.mkldnn.conv,
        torch.backends.mkldnn.rnn,
    ):
        kind.fp32_precision = "none"


@pytest.mark.usefixtures("_as_found")
@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_products_and_convolutions_are_exact_whatever_was_set_and_that_is_put_back(
    user: str,
):
    exec(user)
    before = _settings()
    with exact_arithmetic():
        inside = _settings()
        with exact_arithmetic():
            assert _settings() == inside
        assert _settings() == inside
    assert inside[:4] == ["ieee"] * 4
    assert inside[5] is False, "PyTorch may not find its two records in contradiction"
    assert _settings() == before


@pytest.mark.usefixtures("_as_found")
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_what_asks_for_tf32_gets_it_on_cuda_alone_and_all_is_put_back(
    user: str, precision: Precision
):
    exec(user)
    before = _settings()
    with asking(precision), exact_arithmetic():
        inside = _settings()
        with asking("full"), exact_arithmetic():
            assert "tf32" not in _settings()
        assert _settings() == inside
    assert _settings() == before
    assert inside[3] == "ieee"
    assert inside[-1] == (before[-1] and precision == "tf32"), "sums are of float32"
    assert "contradictory" not in inside or "contradictory" in before
    if "contradictory" not in before:
        assert inside[:3] == ["tf32"] * 3
        assert inside[5] is True


@pytest.mark.usefixtures("_as_found")
def test_the_settings_are_put_back_after_an_error():
    torch.set_float32_matmul_precision("high")
    before = _settings()
    with pytest.raises(ValueError, match="inside"), exact_arithmetic():
        raise ValueError("inside")
    assert _settings() == before


def test_eigenvectors_of_singular_matrices_rebuild_them():
    rows = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    factor = rows.T @ rows
    values, vectors = eigh(factor)
    assert values.dtype == vectors.dtype == torch.float32
    torch.testing.assert_close(vectors @ values.diag() @ vectors.T, factor)
    assert int((values > 1e-4).sum()) == 3


def test_where_the_solver_of_the_device_fails_the_cpu_finds_them_and_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
):
    real = torch.linalg.eigh

    class Elsewhere(torch.Tensor):
        """Says that it lies on a GPU, whose solver does not converge."""

        device = SimpleNamespace(type="cuda")

    def failing(matrix: torch.Tensor) -> object:
        if matrix.device.type == "cuda":
            raise torch.linalg.LinAlgError("did not converge\nmore")
        return real(matrix.as_subclass(torch.Tensor))

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    monkeypatch.setattr(Elsewhere, "double", lambda self: self)
    monkeypatch.setattr(
        Elsewhere, "cpu", lambda self: self.as_subclass(torch.Tensor).clone()
    )
    like = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_: self)
    with pytest.warns(UserWarning, match="on the CPU, as .* did not converge$"):
        values, _ = eigh(like.as_subclass(Elsewhere))
    torch.testing.assert_close(values, torch.tensor([1.0, 3.0]))


FIRST = {"name": "toy_attack:Breaks", "first": True}
LATER = {"name": "toy_attack:Breaks"}


@pytest.mark.slow
def test_a_broken_accelerator_costs_its_stage_and_a_fresh_process_goes_on(
    tmp_path: Path,
):
    scenes = grid(FIRST, LATER, PATCH, estimator=[], detector=[], seeds=[0])
    summary = run(scenes, Place(tmp_path), Options(workers=1))
    [failed] = summary.failed
    assert failed.endswith(
        "/scene: the accelerator failed, and its process ended: "
        "AcceleratorError: CUDA error: device-side assert triggered"
    )
    assert summary.done == 2
    assert len(list(tmp_path.rglob("failed-scene.h5"))) == 1


def test_without_workers_a_broken_accelerator_ends_the_run_after_the_stage(
    tmp_path: Path,
):
    scenes = grid(FIRST, LATER, estimator=[], detector=[], seeds=[0])
    with pytest.raises(FatalError, match="accelerator failed"):
        run(scenes, Place(tmp_path), Options(workers=0))
    toy_attack.broken.clear()
    again = run(scenes, Place(tmp_path), Options(workers=0))
    assert (again.done, again.failed) == (1, [])


def test_scenes_are_checked_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    devices = []
    monkeypatch.setattr(
        run_module, "check_scene", lambda _, place: devices.append(place.device)
    )
    monkeypatch.setattr(run_module, "_do", lambda *_: None)
    run(grid(PATCH), Place(tmp_path, "cuda"), Options(workers=1))
    assert devices == ["cpu"]


@pytest.mark.parametrize(
    ("device", "gpus", "refused"),
    [
        ("cuda:7", 1, True),
        ("cuda:1", 2, False),
        ("cuda", 1, False),
        ("cuda", 0, True),
        ("cuda:0", 0, True),
        ("cpu", 0, False),
        ("mps", 1, True),
        ("gpu", 1, True),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, refused: bool
):
    from experiments.cli.options import checked_device
    from poisonbench.errors import ConfigError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if not refused:
        assert checked_device(device) == device
        return
    with pytest.raises(ConfigError, match=device) as error:
        checked_device(device)
    if gpus:
        assert f"N below {gpus}" in str(error.value)


class Counter:
    """Memory in use, and the highest since the last reset, as a device tells them."""

    def __init__(self) -> None:
        self.used = 100
        self.highest = 100

    def take(self, amount: int, keep: int = 0) -> None:
        """Uses an amount for a while, and keeps some of it."""
        self.highest = max(self.highest, self.used + amount)
        self.used += keep

    def reset(self, _: torch.device) -> int:
        self.highest = self.used
        return self.used


def test_the_peak_of_a_block_holds_that_of_the_blocks_inside_and_what_came_before(
    monkeypatch: pytest.MonkeyPatch,
):
    counter = Counter()
    monkeypatch.setattr(cost_module, "_start_watching", counter.reset)
    monkeypatch.setattr(cost_module, "_peak", lambda _: counter.highest)
    cpu = torch.device("cpu")
    with measured(cpu) as outer:
        counter.take(50)
        with measured(cpu) as first:
            counter.take(7, keep=7)
        with measured(cpu, after=first) as second:
            counter.take(3)
        with measured(cpu) as apart:
            counter.take(3)
    assert outer.peak_bytes == 50
    assert (first.peak_bytes, second.peak_bytes, apart.peak_bytes) == (7, 10, 3)
    with measured(cpu) as outer:
        counter.take(1)
        with measured(cpu):
            counter.take(20)
        counter.take(2)
    assert outer.peak_bytes == 20


def test_every_stage_states_its_memory(tmp_path: Path):
    scenes = grid(PATCH, filter=[{"name": "loss-rank"}])
    run(scenes, Place(tmp_path), Options(workers=0))
    kinds = set()
    for path in tmp_path.rglob("*.h5"):
        record = log.read(path)
        kinds.add(record.kind)
        if record.kind != "trace":
            assert int(record.attributes["peak_bytes"]) >= 0, path
    assert kinds >= {"scene", "influence", "detect", "filter"}


def test_a_log_names_the_gpus_of_a_process_that_used_them(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert log.provenance()["gpu"] == log.provenance()["cuda"] == ""
    kinds = ["NVIDIA H100", "NVIDIA A100", "NVIDIA H100"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", kinds.__getitem__)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    try:
        told_ = log.provenance()
    finally:
        _gpu_in_use.cache_clear()
    assert told_["gpu"] == "NVIDIA H100, NVIDIA A100"
    assert (told_["cuda"], told_["cudnn"]) == ("13.0", "91900")


def test_the_budget_of_a_gpu_is_half_of_what_is_free_rounded_down(
    monkeypatch: pytest.MonkeyPatch,
):
    def budget(free: float, reserved: float = 0, allocated: float = 0) -> float:
        numbers = [int(value * 2**30) for value in (free, reserved, allocated)]
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (numbers[0], 0))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: numbers[1])
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: numbers[2])
        return budget_of(torch.device("cuda")).memory / 2**30

    assert budget(78) == budget(70) == 32
    assert budget(23) == 8
    assert budget(10, 14, 2) == 8, "what PyTorch holds unused is free"
    assert budget(100) == 48
    for free in range(1, 200):
        assert free / 3 <= budget(free) <= free / 2
    assert budget(0) > 0


def test_what_a_pass_keeps_for_the_way_back_is_counted_once():
    x = torch.rand(9, 10)
    linear = torch.nn.Linear(10, 5)
    inputs, outputs = 10 * 4, 5 * 4
    assert saved_bytes(linear, x) == inputs
    rectified = torch.nn.Sequential(linear, torch.nn.ReLU(), torch.nn.Linear(5, 2))
    assert saved_bytes(rectified, x) == inputs + outputs


def test_as_many_models_train_together_as_a_quarter_of_a_gpu_holds():
    recipe = Recipe(model="mlp", batch_size=50)
    model = torch.nn.Linear(1000, 400, bias=False)
    each = 3 * 400_000 * 4 + 2 * 50 * 1000 * 4
    with pretended_cuda():
        x = torch.rand(9, 1000).to("cuda")
        size = block_size(model.to("cuda"), x, recipe, Mapped)
        assert size == min(256, (80 << 30) // 4 // each)
        large = replace(recipe, batch_size=500_000)
        each = 3 * 400_000 * 4 + 2 * 500_000 * 1000 * 4
        assert block_size(model, x, large, Mapped) == (80 << 30) // 4 // each
        assert block_size(model, x, large, None) == 1


@pytest.mark.parametrize(
    ("name", "side", "batch", "want"),
    [
        ("cnn", 32, 128, [Mapped]),
        ("resnet9", 32, 128, []),
        ("resnet9", 8, 8, [Mapped]),
        ("mlp", 32, 128, [Chain, Mapped]),
        ("cnn", 8, 8, [Chain, Mapped]),
    ],
)
def test_on_a_gpu_large_convolutions_go_one_model_after_another(
    name: str, side: int, batch: int, want: list[type]
):
    model = build(name, Layout((3, side, side), 10, "image"), 0).eval()
    x = torch.rand(2, 3, side, side)
    with pretended_cuda():
        found = list(_candidates(model.to("cuda"), x.to("cuda"), batch))
    assert found == want


def test_a_projection_of_convolutions_is_the_same_on_every_device():
    layout = Layout((2, 8, 8), 3, "image")
    x = torch.rand(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    data = Dataset(x, torch.tensor([0, 1, 2, 0]), 3)
    model = build("cnn", layout, 0).eval()
    want = Sketch.of(model, data, 32, 5)(data)
    with pretended_cuda():
        there = data.to("cuda")
        sketch = Sketch.of(build("cnn", layout, 0).to("cuda").eval(), there, 32, 5)
        got = sketch(there).cpu()
    torch.testing.assert_close(got, want)


class Cramped(torch.nn.Linear):
    """A layer for which more than three rows are too many."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 3:
            raise NO_MEMORY[1]
        return super().forward(x)


def test_predictions_are_made_with_what_memory_there_is():
    model = Cramped(4, 2)
    x = torch.rand(11, 4)
    want = x @ model.weight.T + model.bias
    torch.testing.assert_close(predict(model, x), want.detach())
