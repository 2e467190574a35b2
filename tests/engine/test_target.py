"""Which device a model runs on, with which numbers and how large batches; and what is said where it cannot."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch

import preftree.engine.device as target_module
from preftree.engine import fitting, precision
from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.decoding.budget import KvBudget
from preftree.engine.device import Target, choose_target
from preftree.engine.errors import InputError
from preftree.engine.weights.names import expected_tensors, num_parameters
from preftree.kernels import cpu, isa, launch
from preftree.kernels.ops import implementation
from preftree.kernels.tiles import PlanLayout
from tests.models import SMALL_CONFIG

GB = 10**9


@pytest.fixture
def config() -> ModelConfig:
    return from_hf(SMALL_CONFIG | {"head_dim": 64, "num_attention_heads": 4, "num_key_value_heads": 2}, "test")


def kernels_of(target: Target) -> str:
    build = target.ops.build()
    return f", kernels {build}" if build else ""


def use_gpu(monkeypatch: pytest.MonkeyPatch, capability: int = 90, free: int = 80 * GB) -> None:
    """A machine with one GPU, as far as choosing a target can see."""

    def plan_layout(
        device: torch.device,
        dtype: torch.dtype,
        hidden_size: int,
        heads_per_kv: int,
        head_dim: int,
    ) -> PlanLayout:
        rows = launch.tile_rows(capability, head_dim, dtype.itemsize, heads_per_kv)
        return PlanLayout(2048, 128, rows)

    gpu = SimpleNamespace(plan_layout=plan_layout)
    monkeypatch.setattr(
        target_module,
        "implementation",
        lambda device, dtype: gpu if device.type == "cuda" else implementation(device, dtype),
    )
    monkeypatch.setattr(target_module, "gpu_is_there", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 * GB)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Test GPU")


def test_without_a_gpu(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "gpu_is_there", lambda: False)
    for name in (None, "auto", "cpu"):
        target = choose_target(config, name, None, None)
        assert (target.device.type, target.dtype, target.ops) == ("cpu", torch.float32, cpu)
        assert target.batch_tokens == cpu.BATCH_ROWS


def test_a_gpu_is_the_default_in_bfloat16(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    use_gpu(monkeypatch)
    target = choose_target(config, None, None, None)
    assert (target.device.type, target.dtype, target.batch_tokens) == ("cuda", torch.bfloat16, 16 * 2048)
    assert choose_target(config, "cuda", "float16", 7).batch_tokens == 7
    assert choose_target(config, "cpu", None, None).device.type == "cpu"


def large(config: ModelConfig) -> ModelConfig:
    """Eight billion parameters or so, 16 GB in bfloat16."""
    wide = replace(config, hidden_size=4096, intermediate_size=14336, num_heads=32, num_kv_heads=8, head_dim=128)
    return replace(wide, num_layers=32, vocab_size=128256)


def test_a_batch_fits_into_what_the_weights_leave_free(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a budget that counts memory as free that is not, and one that is no number of whole blocks."""
    config, budgets = large(config), []
    for free in (80, 19.8, 19.6):
        use_gpu(monkeypatch, free=int(free * GB))
        target: Target = choose_target(config, None, None, None)
        budgets.append(target.batch_tokens)
        batch = target.memory.batch_bytes(config, target.batch_tokens, target.batch_tokens // 8, 8192)
        assert batch + 2 * num_parameters(config) < 0.86 * free * GB
    assert budgets == sorted(budgets, reverse=True)
    assert budgets[0] == 16 * 2048
    assert 0 < budgets[2] < budgets[1]
    assert all(budget % 2048 == 0 for budget in budgets)


@pytest.mark.parametrize("device", [None, "cuda"])
def test_a_gpu_that_is_too_small(device: str | None, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not quietly the CPU, which would take days for such a model."""
    use_gpu(monkeypatch, free=12 * GB)
    with pytest.raises(
        InputError, match=r"needs 16\.\d GB in bfloat16, and may use 10\.2 GB of cuda \(Test GPU\);.*'cpu'"
    ):
        choose_target(large(config), device, None, None, stream_layers="never")
    assert choose_target(large(config), device, None, None).streams_layers


def test_a_share_of_the_memory(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a trainer: weights, batches, and K/V of decoding stay within it, however much is free."""
    use_gpu(monkeypatch, free=80 * GB)  # of 160
    config = large(config)
    target = choose_target(config, None, None, None, 0.108)
    weights = 2 * num_parameters(config)
    assert 0 < target.batch_tokens < 16 * 2048
    longest = min(config.max_context, 8192)
    batch = target.memory.batch_bytes(config, target.batch_tokens, target.batch_tokens // 8, longest)
    assert weights + batch <= 0.108 * 160 * GB
    budget = KvBudget.choose(config, target, None)
    assert weights + budget.slots * budget.slot_bytes <= 0.108 * 160 * GB
    whole = KvBudget.choose(config, choose_target(config, None, None, None), None)
    assert whole.slots > 5 * budget.slots
    with pytest.raises(InputError, match=r"may use 8\.0 GB of .*raise memory_fraction"):
        choose_target(config, None, None, None, 0.05, "never")
    for wrong in (0.0, 1.5):
        with pytest.raises(InputError, match=r"above 0 and at most 1"):
            choose_target(config, "cpu", None, None, wrong)


class TestStreaming:
    """Whether layers are resident or streamed, and what is said of it."""

    def test_streamed_where_the_weights_do_not_fit(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Catches a batch that counts all weights, and a copy that counts embedding and output matrix."""
        use_gpu(monkeypatch, free=12 * GB)
        config = large(config)
        target = choose_target(config, None, None, None)
        memory = target.memory
        assert target.streams_layers
        assert 2 * 1.05e9 < memory.weight_bytes(config) < 2 * 1.5e9  # embedding, output matrix, two layers
        batch = memory.batch_bytes(config, target.batch_tokens, target.batch_tokens // 8, 8192)
        assert memory.weight_bytes(config) + batch <= 10.2 * GB
        assert memory.hiding_rows(config) == 12_700
        assert memory.compute_share(config, 6350) == 0.5
        assert memory.compute_share(config, target.batch_tokens) == 1
        budget = KvBudget.choose(config, target, None)
        assert 0 < budget.slots * budget.slot_bytes < 10.2 * GB - memory.weight_bytes(config)

    def test_a_batch_grows_until_it_hides_the_copy(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Catches experts that are copied and not chosen, which a batch of the default does not hide."""
        use_gpu(monkeypatch, free=80 * GB)
        monkeypatch.setattr(fitting, "_GPU_FLOPS_PER_BYTE", 50_000)
        target = choose_target(large(config), None, None, None, stream_layers="always")
        assert target.batch_tokens >= target.memory.hiding_rows(large(config)) == 50_000
        assert choose_target(large(config), None, None, None).batch_tokens == 16 * 2048

    def test_neither_fits_nor_streams(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        use_gpu(monkeypatch, free=2 * GB)
        for how in ("auto", "always"):
            with pytest.raises(
                InputError, match=r"needs [2-9]\.\d GB in bfloat16 with streamed layers, and may use 1\.7 GB"
            ):
                choose_target(large(config), None, None, None, stream_layers=how)

    def test_on_a_cpu(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Catches a model that is streamed though it fits, or resident though it does not."""
        for free, how, is_streamed in (
            (80 * GB, "auto", False),
            (12 * GB, "auto", True),
            (12 * GB, "never", False),
            (80 * GB, "always", True),
        ):
            monkeypatch.setattr(target_module, "host_bytes_free", lambda free=free: free)
            target = choose_target(large(config), "cpu", "float32", None, stream_layers=how)
            assert target.streams_layers == is_streamed
            assert target.batch_tokens == cpu.BATCH_ROWS

    def test_a_typo(self, config: ModelConfig) -> None:
        with pytest.raises(InputError, match="stream_layers is 'allways'; it must be one of auto, always, never"):
            choose_target(config, "cpu", None, None, stream_layers="allways")


def test_a_gpu_that_cannot_run_the_model(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked for, it is an error; by default the CPU runs, and says why."""
    use_gpu(monkeypatch, capability=75)
    with pytest.raises(InputError, match=r"device .cuda. cannot be used: .*compute capability 8\.0"):
        choose_target(config, "cuda", None, None)
    assert choose_target(config, None, None, None).device.type == "cpu"
    [said] = caplog.messages
    assert re.search(r"'cuda' cannot be used: .*; running on the CPU", said)
    use_gpu(monkeypatch)
    with pytest.raises(InputError, match="heads of size 48"):
        choose_target(replace(config, head_dim=48), "cuda", None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "device 'nowhere' cannot be used"),
        ("meta", "for CPUs and NVIDIA GPUs only"),
        ("cuda:x", "device 'cuda:x' cannot be used"),
    ],
)
def test_devices_that_are_none(name: str, message: str, config: ModelConfig) -> None:
    with pytest.raises(InputError, match=message):
        choose_target(config, name, None, None)


def test_no_warning_where_nothing_is_unusual(config: ModelConfig, caplog: pytest.LogCaptureFixture) -> None:
    choose_target(config, None, None, None)
    assert not caplog.messages


class TestSoftware:
    """What `preftree.kernels.ops` says of a machine that lacks something."""

    CUDA = torch.device("cuda")

    def test_torch_without_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.version, "cuda", None)
        with pytest.raises(ValueError, match="built without CUDA; install torch's CUDA build"):
            implementation(self.CUDA, torch.bfloat16)

    def test_amd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.version, "hip", "6.4")
        with pytest.raises(ValueError, match="NVIDIA GPUs only"):
            implementation(self.CUDA, torch.bfloat16)

    def test_no_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def init() -> None:
            raise RuntimeError("Found no NVIDIA driver on your system.\nPlease check ...")

        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "init", init)
        with pytest.raises(ValueError, match=r"\(Found no NVIDIA driver on your system\.\); install or update"):
            implementation(self.CUDA, torch.bfloat16)

    def test_one_gpu_of_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start_cuda(monkeypatch)
        with pytest.raises(ValueError, match="there are 2 CUDA devices, numbered from 0"):
            implementation(torch.device("cuda:2"), torch.bfloat16)

    def test_no_triton(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start_cuda(monkeypatch)
        monkeypatch.setitem(sys.modules, "triton", None)
        with pytest.raises(ValueError, match=r"triton is not installed; pip install .triton>=3\.6"):
            implementation(self.CUDA, torch.bfloat16)

    def test_no_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start_cuda(monkeypatch)
        pytest.importorskip("triton")
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(ValueError, match="needs a C compiler; install gcc"):
            implementation(self.CUDA, torch.bfloat16)

    @pytest.mark.parametrize(("version", "is_good"), [("3.5.1", False), ("2.3", False), ("3.6.0", True), ("4.0", True)])
    def test_old_triton(self, version: str, is_good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start_cuda(monkeypatch)
        pytest.importorskip("triton")
        from preftree.kernels import cuda

        triton = ModuleType("triton")
        triton.__version__ = version  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "triton", triton)
        if is_good:
            assert implementation(self.CUDA, torch.bfloat16) is cuda
            return
        with pytest.raises(ValueError, match=rf"triton {version} is too old; pip install 'triton>=3.6'"):
            implementation(self.CUDA, torch.bfloat16)

    def start_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setenv("CC", "cc")


class TestTypes:
    """What a dtype stands for, by device; `tests/kernels/test_isa.py` has it by processor."""

    def test_auto(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            monkeypatch.setattr(isa, "default_dtype", lambda dtype=dtype: dtype)
            for name in (None, "auto"):
                target = choose_target(config, "cpu", name, None)
                assert (target.dtype, target.quantized) == (dtype, None)
                assert target.dtype_name == str(dtype).removeprefix("torch.")
                assert target.instructions == isa.instructions(target.dtype_name) + kernels_of(target)
        use_gpu(monkeypatch)
        monkeypatch.setattr(isa, "default_dtype", lambda: torch.float32)
        target = choose_target(config, "cuda", "auto", None)
        assert (target.dtype, target.instructions, target.device_name) == (torch.bfloat16, None, "Test GPU")

    def test_a_type_that_is_asked_for(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Catches "auto" that overrides it."""
        monkeypatch.setattr(isa, "default_dtype", lambda: torch.bfloat16)
        for name in ("float32", "fp32", torch.float32):
            assert choose_target(config, "cpu", name, None).dtype == torch.float32

    def test_int8(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Activations are of the type that is fast; what a run records tells the three apart."""
        monkeypatch.setattr(isa, "int8_obstacle", lambda: None)
        monkeypatch.setattr(isa, "instructions", {"int8": "x8", "bfloat16": "x16", "float32": "x32"}.__getitem__)
        for dtype, products in ((torch.float32, "x8, x32"), (torch.bfloat16, "x8, x16")):
            monkeypatch.setattr(isa, "default_dtype", lambda dtype=dtype: dtype)
            for name in ("int8", torch.int8):
                target = choose_target(config, "cpu", name, None)
                assert (target.dtype, target.quantized, target.dtype_name) == (dtype, "int8", "int8")
                assert target.instructions == products + kernels_of(target)
                shapes = expected_tensors(config)
                matrices = [shape for name, shape in shapes.items() if ".layers." in name and len(shape) == 2]
                saved = (dtype.itemsize - 1) * sum(rows * columns for rows, columns in matrices)
                assert target.memory.weight_bytes(config) == num_parameters(config) * dtype.itemsize - saved

    def test_int8_where_there_are_no_products(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """One line each: device, processor. By default, too, a GPU is not left for a CPU without a word."""
        use_gpu(monkeypatch)
        for device in (None, "cuda"):
            with pytest.raises(InputError, match=r"int8 runs on CPUs; use dtype 'bfloat16' on .*, or device 'cpu'"):
                choose_target(config, device, "int8", None)
        monkeypatch.setattr(isa, "int8_obstacle", lambda: "it needs a wand")
        with pytest.raises(InputError, match="int8 does not run here: it needs a wand; use dtype 'float32'"):
            choose_target(config, "cpu", "int8", None)

    def test_fp8_on_a_gpu(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Activations have 16 bits, and so has the output projection: it counts in the memory that weights take."""
        use_gpu(monkeypatch)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
        for name in ("fp8", torch.float8_e4m3fn):
            target = choose_target(config, "cuda", name, None)
            assert (target.dtype, target.quantized, target.dtype_name) == (torch.bfloat16, "fp8", "fp8")
        linear = {name: shape for name, shape in expected_tensors(config).items() if ".layers." in name}
        matrices = [shape for name, shape in linear.items() if len(shape) == 2 and "o_proj" not in name]
        in_8_bits = sum(rows * columns for rows, columns in matrices)
        assert target.memory.weight_bytes(config) == 2 * num_parameters(config) - in_8_bits

    @pytest.mark.parametrize("device", [None, "cuda"])
    def test_fp8_on_an_old_gpu(self, config: ModelConfig, device: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        """One line that names it. By default, too, it is not left for a CPU without a word."""
        use_gpu(monkeypatch)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
        with pytest.raises(
            InputError,
            match=r"fp8 needs a GPU of compute capability 8.9 or newer, cuda \(Test GPU\) has 8.0; use dtype 'bf",
        ):
            choose_target(config, device, "fp8", None)

    def test_fp8_of_odd_sizes(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """One line that names the size; a CPU emulates any."""
        use_gpu(monkeypatch)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        widths = replace(config, hidden_size=1000), replace(config, intermediate_size=1000)
        for field, odd in zip(("hidden_size", "intermediate_size"), widths, strict=True):
            with pytest.raises(InputError, match=f"multiples of 16, and this model's {field} is 1,000; use dtype"):
                choose_target(odd, "cuda", "fp8", None)
            assert choose_target(odd, "cpu", "fp8", None).quantized == "fp8"

    def test_fp8_on_a_cpu_is_called_an_emulation(
        self, config: ModelConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Catches a slow run that nobody is told about; once is enough."""
        precision._warn.cache_clear()
        targets = [choose_target(config, "cpu", "fp8", None) for _ in range(2)]
        assert [target.dtype_name for target in targets] == ["fp8", "fp8"]
        assert str(targets[0].instructions).startswith("emulated, ")
        assert caplog.text.count("fp8 is emulated on a CPU: for figures of its accuracy, not for speed") == 1

    def test_another_product_of_fp8(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Catches a switch that is misspelt and ignored, and a product that run.json does not tell from another."""
        use_gpu(monkeypatch)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        for value, instructions in (("triton", "fp8 by triton"), ("library", None)):
            monkeypatch.setenv("PREFTREE_FP8_PRODUCT", value)
            assert choose_target(config, "cuda", "fp8", None).instructions == instructions
        monkeypatch.setenv("PREFTREE_FP8_PRODUCT", "cutlass")
        with pytest.raises(InputError, match="PREFTREE_FP8_PRODUCT is 'cutlass'; use library or triton"):
            choose_target(config, "cuda", "fp8", None)
