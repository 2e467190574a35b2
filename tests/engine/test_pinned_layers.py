"""Layers in pinned memory: who waits for whom on the device, and what comes back."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from preftree.engine.weights import pinned_layers
from preftree.engine.weights.pinned_layers import PinnedLayers


class FakeEvent:
    """Notes in a log what waits for it. where: the stream that recorded it last."""

    def __init__(self) -> None:
        self.where = ""

    def record(self, stream: FakeStream) -> None:
        self.where = stream.name


class FakeStream:
    def __init__(self, log: list[str], name: str) -> None:
        self.name, self._log = name, log

    def wait_event(self, event: FakeEvent) -> None:
        self._log.append(f"{self.name} waits for {event.where}")


def use_fakes(monkeypatch: pytest.MonkeyPatch, error: int = 0) -> list[str]:
    """The CPU as a GPU with two streams. error: what pinning memory returns."""
    log: list[str] = []
    compute = FakeStream(log, "compute")
    runtime = SimpleNamespace(cudaHostRegister=lambda *_: error, cudaHostUnregister=lambda address: log.append("unpin"))
    for name, fake in {
        "cudart": lambda: runtime,
        "Event": FakeEvent,
        "Stream": lambda device: FakeStream(log, "copies"),
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda device: compute,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return log


def filled(count: int) -> tuple[PinnedLayers, list[list[torch.Tensor]]]:
    """A transposed matrix, one of another type and an odd size, and stacked ones, in each of `count` layers."""
    store = PinnedLayers(torch.device("cpu"))
    layers: list[list[torch.Tensor]] = []
    for _ in range(count):
        layers.append([torch.randn(8, 24).T, torch.randn(3, 5).bfloat16(), torch.randn(2, 4, 6).mT])
        store.add(layers[-1])
    store.open()
    return store, layers


def same(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    assert [one.stride() for one in found] == [one.stride() for one in wanted]
    return all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_a_layer_comes_back_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a transposed weight that comes back row by row, and an address that no allocation would have."""
    use_fakes(monkeypatch)
    store, layers = filled(3)
    for layer, slot in ((0, 0), (1, 1), (2, 0), (0, 1)):
        store.begin(layer, slot)
        found = store.matrices(layer, slot)
        assert same(found, layers[layer])
        begins = [one.data_ptr() - found[0].data_ptr() for one in found]
        assert all(begin % 512 == 0 for begin in begins)


def test_who_waits_for_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a copy into a buffer that is still read, and a layer that is read before its copy is there."""
    log = use_fakes(monkeypatch)
    store, _ = filled(2)
    store.begin(0, 0)
    assert log == ["copies waits for compute"]
    store.matrices(0, 0)
    assert log[1:] == ["compute waits for copies"]
    store.free(0)
    store.begin(1, 0)
    assert log[2:] == ["copies waits for compute"]


def test_pinned_memory_refused(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Said once, and all goes on; what was not pinned is not unpinned."""
    pinned_layers._warn.cache_clear()
    log = use_fakes(monkeypatch, error=2)
    store, layers = filled(3)
    store.begin(1, 0)
    assert same(store.matrices(1, 0), layers[1])
    assert caplog.text.count("refuses pinned memory") == 1
    del store
    assert "unpin" not in log


def test_memory_is_unpinned_with_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches host memory that stays registered when it has been given back."""
    log = use_fakes(monkeypatch)
    store, _ = filled(3)
    del store
    assert log == ["unpin"] * 3
