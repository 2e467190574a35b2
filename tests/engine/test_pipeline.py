"""A model whose layers are on several devices: the bits of one device, and what is said where that cannot be.

"cpu:1" is another device to torch, whose tensors are copies of those on "cpu:0", in the same memory.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import preftree.engine.device as target_module
import preftree.engine.engine as engine_module
import preftree.engine.model.pipeline as pipeline
from preftree import Engine
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.decoding.budget import KvBudget
from preftree.engine.device import Target, choose_target
from preftree.engine.errors import DeviceError, InputError
from preftree.engine.fitting import Placement
from preftree.engine.generation import Sampling
from preftree.engine.model.kv import KvBuffers
from preftree.engine.model.model import Model
from preftree.engine.model.pipeline import PipelineStage
from preftree.engine.planning.stages import divide, stage_starts
from preftree.engine.scoring.batch import LaunchedBatch
from preftree.engine.scoring.runner import LAUNCHED_AHEAD, Runner
from preftree.engine.weights.reader import Reader
from preftree.engine.weights.resident import ResidentWeights
from tests.engine.test_architectures import CASES, LABELS, prompts_of, save
from tests.engine.test_running_runner import Call, calls, launch_ahead
from tests.engine.test_target import GB, large, use_gpu
from tests.models import REWARD_HEAD, SMALL_CONFIG, write_model

TWO, THREE = "cpu:0,cpu:1", "cpu,cpu:1,cpu"
FIVE_LAYERS = SMALL_CONFIG | {"num_hidden_layers": 5}
SHARED_KV = "gemma4, an embedding for each layer, shared keys and values"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "five", FIVE_LAYERS)


@pytest.fixture
def config() -> ModelConfig:
    return from_hf(FIVE_LAYERS | {"head_dim": 64, "num_attention_heads": 4, "num_key_value_heads": 2}, "test")


def scored(engine: Engine, prompts: list[list[int]], **options: Any) -> tuple[np.ndarray, ...]:
    scores = engine.score(prompts, [LABELS] * len(prompts), **options)
    return scores.logprob, scores.logit, scores.label_mass


def assert_same(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


def layers_of(engine: Engine) -> list[tuple[int, int]]:
    return [(stage.layers.start, stage.layers.stop) for stage in engine.target.stages]


class TestBits:
    """Catch a row that a stage loses, takes twice or rounds where one device does not."""

    @pytest.mark.parametrize("devices", [TWO, THREE])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "fp8"])
    def test_labels(self, directory: Path, dtype: str, devices: str) -> None:
        """Stages of unequal length, many batches, and the prefix cache cold, warm and off."""
        prompts = prompts_of(12)
        expected = scored(Engine.load(str(directory), device="cpu", dtype=dtype), prompts)
        engine = Engine.load(str(directory), devices=devices, dtype=dtype, batch_tokens=150)
        assert len({stop - start for start, stop in layers_of(engine)}) > 1
        for prefix_cache in (True, True, False):
            assert_same(scored(engine, prompts, prefix_cache=prefix_cache), expected)

    @pytest.mark.parametrize("name", [SHARED_KV, "gpt_oss", "mixtral", "deepseek_v3", "cohere", "gemma2"])
    def test_families(self, name: str, tmp_path: Path) -> None:
        """Experts after the last layer of a stage, embeddings for each layer, K/V that later layers use."""
        save(tmp_path, CASES[name])
        prompts = prompts_of(9)
        alone, engine = (Engine.load(str(tmp_path), dtype="float32", devices=devices) for devices in ("cpu", TWO))
        assert len(layers_of(engine)) == 2
        for _ in range(2):
            assert_same(scored(engine, prompts), scored(alone, prompts))
        assert engine.generate(prompts[:2], max_new_tokens=12) == alone.generate(prompts[:2], max_new_tokens=12)

    def test_continuations(self, directory: Path) -> None:
        """Sampled, with labels after them, and a store that holds a few sequences at a time."""
        prompts, sampling = prompts_of(7), Sampling(max_new_tokens=9, temperature=1.0, n=2)
        asked = prompts, [[40, 41]] * 7, [LABELS] * 7, sampling
        alone = Engine.load(str(directory)).generate_and_score(*asked)
        engine = Engine.load(str(directory), devices=THREE, kv_memory=600 * 5 * 256)
        found = engine.generate_and_score(*asked)
        assert found.generations == alone.generations
        assert np.array_equal(found.scores.logprob, alone.scores.logprob)

    def test_rewards(self, tmp_path: Path) -> None:
        write_model(tmp_path / "reward", FIVE_LAYERS | REWARD_HEAD)
        alone, engine = (Engine.load(str(tmp_path / "reward"), devices=devices) for devices in ("cpu", THREE))
        assert np.array_equal(engine.reward(prompts_of(9)), alone.reward(prompts_of(9)))

    def test_tokens_of_labels(self, tmp_path: Path) -> None:
        """With a tied embedding, which the last device has, too: what greedy decoding would write."""
        write_model(tmp_path / "tied", FIVE_LAYERS | {"tie_word_embeddings": True})
        alone, engine = (Engine.load(str(tmp_path / "tied"), devices=devices) for devices in ("cpu", TWO))
        found, expected = (
            [
                (label.logprob.tolist(), label.top.tolist())
                for labels in one.score(prompts_of(5), [LABELS] * 5, with_tokens=True).tokens or ()
                for label in labels
            ]
            for one in (engine, alone)
        )
        assert len(found) == 15
        assert found == expected

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which cannot read the CPU's memory")
    def test_on_the_kernels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As GPUs run it: all rows through one operation after the other, path tiles, steps in whole blocks."""
        pytest.importorskip("triton")
        from preftree.kernels import cuda

        sizes = {"NARROW_ROW_BLOCK": 64, "FINAL_ROW_BLOCK": 16, "STEP_BLOCK": 2, "CHUNK_BLOCKS": 2}
        for name, size in sizes.items():
            monkeypatch.setattr(cuda, name, size)
        monkeypatch.setattr(target_module, "implementation", lambda device, dtype: cuda)
        heads = {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 64, "num_hidden_layers": 2}
        directory = write_model(tmp_path / "small", SMALL_CONFIG | heads)
        prompts = [[7] * 30 + prompt[:20] for prompt in prompts_of(3)]
        alone, engine = (Engine.load(str(directory), devices=devices) for devices in ("cpu", TWO))
        expected = scored(alone, prompts)
        for _ in range(2):
            assert_same(scored(engine, prompts), expected)
        assert engine.generate(prompts[:1], max_new_tokens=2) == alone.generate(prompts[:1], max_new_tokens=2)

    @pytest.mark.parametrize("stages", [(range(2), range(3, 5)), (range(3), range(2, 5))])
    def test_a_wrong_cut_shows(
        self, directory: Path, stages: tuple[range, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The inverse: stages that leave a layer out or run it twice give other bits."""
        expected = scored(Engine.load(str(directory)), prompts_of(5))
        assert not np.array_equal(scored(cut(directory, stages, monkeypatch), prompts_of(5))[0], expected[0])

    def test_a_cut_between_keys_and_those_who_use_them_shows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The inverse: where no stage may begin, K/V of another is missing. What is not written is no number here."""

        class Unwritten(KvBuffers):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                for view in self.views:
                    view.fill_(float("nan"))

        monkeypatch.setattr(pipeline, "KvBuffers", Unwritten)
        save(tmp_path, CASES[SHARED_KV])
        assert stage_starts(open_checkpoint(str(tmp_path)).config) == [1]
        assert np.isfinite(scored(Engine.load(str(tmp_path), dtype="float32"), prompts_of(5))[0]).all()
        assert np.isnan(scored(cut(tmp_path, (range(3), range(3, 6)), monkeypatch), prompts_of(5))[0]).all()


def cut(directory: Path, stages: tuple[range, ...], monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine with these stages, whatever becomes of it. It finds all weights wherever it looks for them."""

    def chosen(config: ModelConfig, *_: object) -> Target:
        target = choose_target(config, "cpu", "float32", None)
        return replace(target, stages=tuple(Placement(target.device, layers) for layers in stages))

    def all_weights(source: Any, config: ModelConfig, target: Target) -> ResidentWeights:
        wide = target.layout.is_wide
        return ResidentWeights(Reader(source, config, target.device, target.dtype, target.ops, wide))

    monkeypatch.setattr(engine_module, "choose_target", chosen)
    monkeypatch.setattr(engine_module, "open_weights", all_weights)
    return Engine.load(str(directory))


class TestDivision:
    def test_no_division_is_better(self) -> None:
        """Catches stages that leave one device fuller than it has to be: all divisions are tried."""
        generator = np.random.default_rng(0)
        for count in (2, 3, 4):
            sizes, rooms = generator.integers(1, 50, 9).tolist(), generator.integers(10, 90, count).tolist()
            starts = sorted(generator.choice(np.arange(1, 9), 6, replace=False).tolist())

            def fullest(parts: list[range], sizes: list[int] = sizes, rooms: list[int] = rooms) -> float:
                return max(sum(sizes[one.start : one.stop]) / room for one, room in zip(parts, rooms, strict=True))

            every = [
                [range(*bounds) for bounds in pairwise((0, *chosen, 9))] for chosen in combinations(starts, count - 1)
            ]
            found = divide(sizes, starts, rooms)
            assert found is not None
            assert found in every
            assert fullest(found) == min(map(fullest, every))

    def test_embedding_and_head_count(self, config: ModelConfig) -> None:
        """Catches layers divided by their number where the vocabulary weighs as much as they do."""
        wide = replace(config, vocab_size=500_000)
        starts = [stage.layers.start for stage in choose_target(wide, None, None, None, devices=THREE).stages]
        assert starts == [0, 1, 4]

    def test_sizes_add_up(self, config: ModelConfig) -> None:
        """Catches weights that no stage counts, or two."""
        memory = choose_target(config, "cpu", None, None).memory
        parts = [range(2), range(2, 3), range(3, 5)]
        for size in (memory.weight_bytes(config, None), memory.cache_bytes(config, 7, None)):
            assert size > 0
        assert sum(memory.weight_bytes(config, part) for part in parts) == memory.weight_bytes(config)
        assert sum(memory.cache_bytes(config, 7, part) for part in parts) == memory.cache_bytes(config, 7)


class TestMemory:
    """Of GPUs, as far as choosing a target can see."""

    @pytest.fixture
    def free(self, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
        use_gpu(monkeypatch)
        found = {0: 12 * GB, 1: 24 * GB}
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (found[device.index], 80 * GB))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        return found

    def test_each_device_holds_its_stage(self, config: ModelConfig, free: dict[int, int]) -> None:
        """Catches a model refused that fits two cards together, and a budget that only one of them has."""
        target = choose_target(large(config), None, None, None, devices="0,1")
        assert [str(device) for device in target.devices] == ["cuda:0", "cuda:1"]
        assert target.device == target.devices[-1]
        first, second = (stage.layers for stage in target.stages)
        assert len(second) > 1.5 * len(first), "layers follow the memory that is free"
        batch = target.memory.batch_bytes(large(config), target.batch_tokens, target.batch_tokens // 8, 8192)
        for stage in target.stages:
            weights = target.memory.weight_bytes(large(config), stage.layers)
            assert weights + batch < 0.86 * free[stage.device.index]
        roomy = dict(free)
        free[0] = 100 * GB
        assert choose_target(large(config), None, None, None, devices="0,1").batch_tokens >= target.batch_tokens
        free.update(roomy)
        store = KvBudget.choose(large(config), target, None)
        for stage in target.stages:
            own = target.memory.cache_bytes(large(config), store.slots, stage.layers)
            assert own + target.memory.weight_bytes(large(config), stage.layers) < 80 * GB
            assert own < 0.86 * free[stage.device.index]

    def test_kv_memory_is_that_of_all_layers(self, config: ModelConfig, free: dict[int, int]) -> None:
        """Catches a store that takes what is allowed on each of the devices."""
        target = choose_target(large(config), None, None, None, devices="0,1")
        slots = KvBudget.choose(large(config), target, GB).slots
        assert 0.9 * GB < target.memory.cache_bytes(large(config), slots) <= GB

    def test_layers_that_do_not_fit_are_named(self, config: ModelConfig, free: dict[int, int]) -> None:
        free[0] = free[1] = 8 * GB
        message = r"layers 0 to 15 of the model need 8\.\d GB in bfloat16, and may use 6\.8 GB of cuda:0 .*more devices"
        with pytest.raises(InputError, match=message):
            choose_target(large(config), None, None, None, devices="0,1")

    def test_one_batch_more_for_each_device(self, directory: Path, config: ModelConfig, free: dict[int, int]) -> None:
        """Catches devices that wait for the host: each has a batch to work on while the oldest is waited for."""
        target = choose_target(large(config), None, None, None, devices="0,1")
        assert Runner(config, None, target)._launched_ahead == LAUNCHED_AHEAD + 1  # type: ignore[arg-type]

    def test_weights_that_do_not_fit(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Catches an error that names another device than the one whose memory ran out."""
        read = ResidentWeights.__init__

        def full(self: ResidentWeights, reader: Reader) -> None:
            if reader.layers.start:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            read(self, reader)

        monkeypatch.setattr(ResidentWeights, "__init__", full)
        with pytest.raises(InputError, match="the weights do not fit into the memory of device 'cpu:1'"):
            Engine.load(str(directory), devices=TWO)

    def test_memory_runs_out_on_one_device(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fewer rows a batch and the same bits; a prompt that never fits is refused for the device that has no room."""
        prompts = prompts_of(12)
        expected = scored(Engine.load(str(directory)), prompts)
        engine, runs, limit = Engine.load(str(directory), devices=TWO), PipelineStage.run, 250

        def tight(self: PipelineStage, plan: Any, *others: Any) -> Any:
            if self.device.index == 1 and plan.num_rows > limit:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return runs(self, plan, *others)

        monkeypatch.setattr(PipelineStage, "run", tight)
        assert_same(scored(engine, prompts, prefix_cache=False), expected)
        assert engine.batch_tokens < 300
        limit = 50
        with pytest.raises(InputError, match="a prompt of 200 tokens does not fit into the memory of device 'cpu:1'"):
            scored(engine, prompts[:1], prefix_cache=False)


def test_the_next_batch_is_launched_while_later_stages_work(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a host that waits for a batch between its stages, or before the first device has the next one."""
    events: list[str] = []
    runs, collects = PipelineStage.run, LaunchedBatch.collect

    def run(self: PipelineStage, *arguments: Any) -> Any:
        events.append(str(self.device))
        return runs(self, *arguments)

    def collect(self: LaunchedBatch) -> None:
        events.append("collected")
        collects(self)

    monkeypatch.setattr(PipelineStage, "run", run)
    monkeypatch.setattr(LaunchedBatch, "collect", collect)
    engine = launch_ahead(Engine.load(str(directory), devices=TWO))
    asked: list[Call] = calls()
    assert len(list(engine.score_stream(asked, prefix_cache=False))) == 3
    assert events == ["cpu:0", "cpu:1"] * 3 + ["collected"] * 3


def test_a_device_that_fails(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an internal error, and the blame on one device where CUDA does not say which; while generating, too."""
    engine = Engine.load(str(directory), devices=TWO)

    def lost(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be ...")

    monkeypatch.setattr(Model, "final_hidden", lost)
    message = r"^device 'cpu:0', 'cpu:1' failed \(CUDA error: unspecified launch failure\); .* resumes$"
    with pytest.raises(DeviceError, match=message):
        scored(engine, prompts_of(3))
    with pytest.raises(DeviceError, match=message):
        engine.generate(prompts_of(3))
    monkeypatch.undo()
    monkeypatch.setattr(LaunchedBatch, "collect", lost)
    with pytest.raises(DeviceError, match=message):
        scored(engine, prompts_of(3))


class TestRefused:
    @pytest.mark.parametrize(
        ("devices", "message"),
        [
            ("", "devices: '' is none; name GPUs by their numbers, such as 0,1"),
            ("cuda,cuda", "devices: 'cuda' is none"),
            ("cpu,meta", "devices: 'meta' is none"),
            ("0;1", "devices: '0;1' is none"),
            ("cpu,0", "devices 'cpu', '0' are of several kinds"),
            ("0,2", "devices: 'cuda:2' is not there; there are 2 GPUs, numbered from 0"),
            ("0,cuda:0", "devices: 'cuda:0' is named twice"),
            ("cpu," * 5 + "cpu", "6 devices are too many: the model has 5 layers; name fewer devices"),
        ],
    )
    def test_devices_that_are_none(
        self, devices: str, message: str, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_gpu(monkeypatch)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(InputError, match=message):
            choose_target(config, None, None, None, devices=devices)

    def test_unequal_devices(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Catches labels whose bits depend on where a stage happens to be."""
        use_gpu(monkeypatch)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9 - device.index, 0))
        message = r"'cuda:0' \(Test GPU, compute capability 9\.0\) and 'cuda:1' \(.* 8\.0\) give other bits"
        with pytest.raises(InputError, match=message):
            choose_target(config, None, None, None, devices=[0, 1])

    def test_int8_on_gpus(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        use_gpu(monkeypatch)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        with pytest.raises(InputError, match="int8 runs on CPUs"):
            choose_target(config, None, "int8", None, devices="0,1")

    def test_a_device_besides(self, directory: Path) -> None:
        with pytest.raises(InputError, match="give either a device or devices, not both"):
            Engine.load(str(directory), device="cpu", devices=TWO)

    def test_streamed_layers_besides(self, directory: Path) -> None:
        with pytest.raises(InputError, match="stream_layers 'always' is for a single device"):
            Engine.load(str(directory), stream_layers="always", devices=TWO)

    def test_layers_that_share_keys_and_values(self, tmp_path: Path) -> None:
        save(tmp_path, CASES[SHARED_KV])
        with pytest.raises(InputError, match=r"3 devices are too many: .* earlier ones, so that it has 2 parts"):
            Engine.load(str(tmp_path), devices=THREE)
