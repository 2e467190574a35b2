"""A model of four times the memory that its process takes for it."""

import json
import sys
import threading
from pathlib import Path

import pytest

from preftree import Engine
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.memory import give_back_freed
from preftree.engine.weights.names import num_parameters
from tests.models import SMALL_CONFIG, write_model
from tests.processes import answered, memory_bytes

SIZES = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 48, "num_attention_heads": 8}
PROMPTS = [[5, 6, 7, *range(8, 8 + 30 * number)] for number in range(1, 5)]


def score(model: str, how: str) -> tuple[list[float], int]:
    """Log-probabilities, and the most that loading and scoring take."""
    with Engine.load(str(Path(model).parent / "small"), dtype="float32", device="cpu", batch_tokens=256) as engine:
        engine.score(PROMPTS, [[[33]]] * len(PROMPTS))  # what libraries take once
    give_back_freed()
    before, seen, is_done = memory_bytes("RssAnon"), [0], threading.Event()

    def watch() -> None:
        while not is_done.wait(0.002):
            seen.append(memory_bytes("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with Engine.load(model, dtype="float32", device="cpu", stream_layers=how, batch_tokens=256) as engine:
        found = engine.score(PROMPTS, [[[33]]] * len(PROMPTS)).logprob[:, 0].tolist()
    is_done.set()
    watcher.join()
    return found, max(seen) - before


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_model_of_four_times_the_memory(tmp_path: Path) -> None:
    """Catches layers that stay in memory after they were read, or packed ones that are kept beside the file."""
    write_model(tmp_path / "small", SMALL_CONFIG)
    model = str(write_model(tmp_path / "model", SMALL_CONFIG | SIZES))
    weights = 4 * num_parameters(open_checkpoint(model).config)
    found = {}
    for how in ("always", "never"):
        found[how] = answered("-m", "tests.engine.test_streamed_memory", model, how)
        print(how, found[how][1] / weights)
    assert found["always"][0] == found["never"][0]
    assert found["never"][1] > 0.9 * weights
    assert found["always"][1] < weights / 4


if __name__ == "__main__":
    print(json.dumps(score(*sys.argv[1:])))
