"""Minutes of random load by clients of every kind: nothing wrong, nothing kept, nothing that hangs."""

from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

import preftree as pt
from preftree.labeling.methods.score_labels import DirectLabel
from tests.labeling.serving.fakes import Client, answer_of
from tests.processes import start_python

SECONDS = 600
CLIENTS = 16
BODY_LIMIT = 50_000
GROWTH = 1.05


class Load:
    """Clients that behave in turn well and badly.

    Attributes:
        done: how often each of them did.
        wrong: what should not have happened.
    """

    def __init__(self, client: Client, rows: list[dict[str, str]], rewards: list[float]) -> None:
        self._client, self._rows, self._rewards = client, rows, rewards
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, seed: int, ends: float) -> None:
        chance = random.Random(seed)
        kinds: list[Callable[[random.Random], None]] = [
            *[self.good] * 6, self.killed, self.oversized, self.slow_sender, self.slow_reader, self.broken
        ]  # fmt: skip
        while time.monotonic() < ends:
            kind = chance.choice(kinds)
            try:
                kind(chance)
            except Exception as error:
                self.wrong.append(f"{kind.__name__}: {type(error).__name__}: {error}")
            self.done[kind.__name__] += 1

    def good(self, chance: random.Random) -> None:
        place = chance.randrange(len(self._rows))
        answer = self._client("POST", "/reward", self._rows[place])
        if answer[:2] != (200, self._rewards[place]):
            self.wrong.append(f"row {place}: {answer[:2]}, not {self._rewards[place]}")

    def killed(self, chance: random.Random) -> None:
        connection = self._client.begin("POST", "/reward", chance.choice(self._rows))
        time.sleep(chance.random() * 0.05)
        assert connection.sock is not None
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def oversized(self, chance: random.Random) -> None:
        body = json.dumps({"prompt": "x", "response": "y" * chance.randrange(BODY_LIMIT, 20 * BODY_LIMIT)}).encode()
        self._expect(413, body)

    def broken(self, chance: random.Random) -> None:
        whole = json.dumps(chance.choice(self._rows)).encode()
        self._expect(400, whole[: chance.randrange(1, len(whole))])

    def slow_sender(self, chance: random.Random) -> None:
        place = chance.randrange(len(self._rows))
        body = json.dumps(self._rows[place]).encode()
        with self._raw(f"Content-Length: {len(body)}\r\n") as raw:
            for start in range(0, len(body), 100):
                raw.sendall(body[start : start + 100])
                time.sleep(0.01)
            self._read(raw, place, 1000)

    def slow_reader(self, chance: random.Random) -> None:
        place = chance.randrange(len(self._rows))
        body = json.dumps(self._rows[place]).encode()
        with self._raw(f"Content-Length: {len(body)}\r\n") as raw:
            raw.sendall(body)
            time.sleep(chance.random())
            self._read(raw, place, 10)

    def _expect(self, status: int, body: bytes) -> None:
        found = answer_of(self._client.begin("POST", "/reward", body))
        if found.status != status:
            self.wrong.append(f"{found}, not {status}")

    def _raw(self, headers: str) -> socket.socket:
        raw = socket.create_connection(self._client.address, timeout=60)
        head = "POST /reward HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        raw.sendall(f"{head}{headers}\r\n".encode())
        return raw

    def _read(self, raw: socket.socket, place: int, size: int) -> None:
        parts = []
        while part := raw.recv(size):
            parts.append(part)
            time.sleep(0.001)
        if b"".join(parts).rpartition(b"\r\n\r\n")[2] != json.dumps(self._rewards[place]).encode():
            self.wrong.append(f"row {place}: {parts}")


@pytest.mark.soak
def test_minutes_of_random_load(small_model: str) -> None:
    """Catches memory that dropped or refused requests keep, another one's reward, and a queue that stops."""
    judge = pt.Judge.load(small_model)
    rows = [{"prompt": f"Question {n % 7}?", "response": f"Answer {n}. " * (1 + n % 9)} for n in range(50)]
    labels = [row.label for row in pt.label(rows, judge, "direct")]
    rewards = [label.scores[0].reward for label in labels if isinstance(label, DirectLabel)]
    command = ["-m", "preftree", "serve", "--model", small_model, "--port", "0"]
    command += ["--dtype", "float32", "--body-limit", str(BODY_LIMIT)]
    with start_python(*command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        client = Client(process.stderr.readline().split()[2].rstrip(";"))
        load = Load(client, rows, rewards)
        ends = time.monotonic() + SECONDS
        threads = [threading.Thread(target=load.run, args=(seed, ends)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS / 3)
        warm = psutil.Process(process.pid).memory_info().rss
        for thread in threads:
            thread.join(SECONDS + 120)
            assert not thread.is_alive()
        grown = psutil.Process(process.pid).memory_info().rss / warm
        waiting = client("GET", "/health").body["waiting"]
        process.terminate()
    print(f"\n{dict(load.done)}; memory {warm / 1e6:.0f} MB, then {grown:.3f} times that")
    assert not load.wrong, load.wrong[:5]
    assert load.done["good"] > SECONDS
    assert waiting == 0
    assert grown < GROWTH
    assert process.returncode == 0
