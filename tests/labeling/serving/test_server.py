"""The server under load and under bad clients: the bits of its rewards, its limits, and how it ends."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import preftree as pt
from preftree.engine.errors import InputError, UsageError
from preftree.labeling.methods.score_labels import DirectLabel
from preftree.labeling.options.serving import ServeOptions
from preftree.labeling.serving import server
from tests.labeling.serving.fakes import Client, FakeJudge, answer_of, serving
from tests.processes import printed, start_python

ASKED = {"prompt": "What is 2 + 2?", "response": "4"}


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def waiting(client: Client) -> int:
    found = client("GET", "/health").body["waiting"]
    assert isinstance(found, int)
    return found


def test_the_same_bits_alone_together_and_in_the_library(small_model: str) -> None:
    """Catches a reward that depends on what else is in the batch, or on the path that it came by."""
    judge = pt.Judge.load(small_model)
    rows = [
        {"prompt": f"Question {number % 8}?", "response": f"Answer {number}. " * (1 + number % 5)}
        for number in range(64)
    ]
    labels = [row.label for row in pt.label(rows, judge, "direct")]
    expected = [label.scores[0].reward for label in labels if isinstance(label, DirectLabel)]
    with serving(judge, window=20) as client:

        def asked(row: dict[str, str]) -> Any:
            return client("POST", "/reward", row).body

        alone = [asked(row) for row in rows[:4]]
        with ThreadPoolExecutor(64) as pool:
            together = list(pool.map(asked, rows))
        usage = {line.split()[0]: line.split()[-1] for line in client("GET", "/metrics").body.splitlines()}
    assert alone == expected[:4]
    assert together == expected
    assert float(usage["preftree_batch_jobs_count"]) < 4 + 64


def test_a_request_is_judged_by_the_principles_that_it_came_under() -> None:
    """Catches principles that are replaced for requests that wait."""
    judge = FakeJudge()
    with serving(judge, method="principled", under=(("concise",),)) as client:
        before, digest = client("POST", "/reward", ASKED).body, client("GET", "/principles").body["sha256"]
        assert judge.begun.acquire(timeout=20)
        judge.gate.clear()
        first = client.begin("POST", "/reward", ASKED | {"response": "5"})
        assert judge.begun.acquire(timeout=20)
        second = client.begin("POST", "/reward", ASKED)
        until(lambda: waiting(client) == 1)
        assert client("PUT", "/principles", {"sets": [["honest"]]}).status == 200
        judge.gate.set()
        answers = answer_of(first), answer_of(second)
        assert answers[1].body == before != client("POST", "/reward", ASKED).body
        assert [answer.headers["x-preftree-principles"] for answer in answers] == [digest] * 2


def test_what_a_client_has_left_is_dropped() -> None:
    """Catches a forward pass for nobody."""
    judge = FakeJudge()
    with serving(judge) as client:
        judge.gate.clear()
        first = client.begin("POST", "/reward", ASKED)
        assert judge.begun.acquire(timeout=20)
        gone = client.begin("POST", "/reward", {"prompt": "What is 2 + 2?", "responses": ["a", "b"]})
        until(lambda: waiting(client) == 2)
        gone.close()
        until(lambda: waiting(client) == 0)
        judge.gate.set()
        assert answer_of(first).status == 200
        assert "preftree_dropped_total 1.0" in client("GET", "/metrics").body
    assert sum(judge.calls) == 1 + 1  # the warm-up, and the first


def test_a_full_queue_and_a_deadline() -> None:
    """Catches clients that wait forever, and a failure that looks like a reward."""
    judge = FakeJudge()
    with serving(judge, queue_tokens=10, deadline=1.0) as client:
        judge.gate.clear()
        first = client.begin("POST", "/reward", ASKED)
        assert judge.begun.acquire(timeout=20)
        second = client.begin("POST", "/reward", ASKED)
        until(lambda: waiting(client) == 1)
        full = client("POST", "/reward", ASKED)
        assert (full.status, "the queue is full" in full.error[1]) == (503, True)
        assert int(full.headers["retry-after"]) >= 1
        late = [answer_of(first), answer_of(second)]
        judge.gate.set()
        assert [(answer.status, answer.error[1]) for answer in late] == [
            (504, "no answer within 1 s; the server has too much to do")
        ] * 2
        assert client("POST", "/reward", ASKED).status == 200


@pytest.mark.parametrize("is_chunked", [False, True])
def test_bodies_beyond_the_limit(is_chunked: bool) -> None:
    """Catches a body that fills memory, whether or not its length is announced, and a client that never sees why."""
    with serving(FakeJudge(), body_limit=10_000) as client:
        body = json.dumps(ASKED | {"response": "x" * 2_000_000}).encode()
        connection = client.connection()
        parts = iter([body[:5_000], body[5_000:]]) if is_chunked else body
        connection.request("POST", "/reward", parts, {"Content-Type": "application/json"}, encode_chunked=is_chunked)
        answer = answer_of(connection)
        assert (answer.status, answer.error[1][:35]) == (413, "the body has more than 10,000 bytes")
        assert client("POST", "/reward", ASKED).status == 200


def test_a_body_that_does_not_arrive() -> None:
    """Catches a connection that is kept for a client that sends nothing."""
    with serving(FakeJudge(), deadline=0.2) as client, socket.create_connection(client.address, timeout=20) as raw:
        raw.sendall(b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert raw.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_token(tmp_path: Path) -> None:
    """Catches a route that asks for no token, and one that load balancers cannot see."""
    (tmp_path / "token").write_text("secret\n")
    with serving(FakeJudge(), token_file=str(tmp_path / "token")) as client:
        host, port = client.address
        good = Client(f"http://{host}:{port}", Authorization="Bearer secret")
        assert good("POST", "/reward", ASKED).status == 200
        assert client("GET", "/health").status == 200
        for bad in (client, Client(f"http://{host}:{port}", Authorization="Bearer secres")):
            for path in ("/reward", "/metrics", "/openapi.json", "/principles"):
                assert bad("GET", path).status == 401


def test_stopping_answers_what_was_taken() -> None:
    """Catches a shutdown that drops requests."""
    judge = FakeJudge()
    with serving(judge) as client:
        judge.gate.clear()
        asked = [client.begin("POST", "/reward", ASKED)]
        assert judge.begun.acquire(timeout=20)
        asked += [client.begin("POST", "/reward", ASKED) for _ in range(2)]
        until(lambda: waiting(client) == 2)
        threading.Timer(0.5, judge.gate.set).start()
    answers = [answer_of(one) for one in asked]
    assert [answer.status for answer in answers] == [200] * 3


def test_who_can_reach_it(caplog: pytest.LogCaptureFixture) -> None:
    """Catches a server that is open to the network without a word, and a default that is."""
    assert ServeOptions().host == "127.0.0.1"
    with caplog.at_level(logging.WARNING, "preftree"):
        server.listen(ServeOptions(port=0), FakeJudge()).socket.close()  # type: ignore[arg-type]
        assert not caplog.messages
        server.listen(ServeOptions(port=0, host="0.0.0.0"), FakeJudge()).socket.close()  # type: ignore[arg-type]
    assert caplog.messages == ["anybody who reaches 0.0.0.0 can use this server; --token-file asks for a token"]


def test_what_keeps_it_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback, and a model that is loaded before its port is known to be free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen at 127.0.0.1 port {port}: .*; name another"):
            server.listen(ServeOptions(port=port))
    (tmp_path / "token").write_text("two words\n")
    with pytest.raises(InputError, match="must hold a token"):
        server.listen(ServeOptions(token_file=str(tmp_path / "token")))
    with pytest.raises(UsageError, match="--comparisons"):
        server.listen(ServeOptions(comparisons=4))
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "fastapi" else name)
    with pytest.raises(InputError, match=r"^preftree serve needs fastapi: pip install 'preftree\[serve\]'$"):
        server.serve(ServeOptions())


def test_answers_are_not_held_back() -> None:
    """Catches a second packet that waits 40 ms for the client's delayed acknowledgement of the first."""
    with serving(FakeJudge()) as client:
        connection = client.connection()
        seconds = []
        for _ in range(60):  # the first are acknowledged at once
            began = time.perf_counter()
            connection.request("POST", "/reward", json.dumps(ASKED), {"Content-Type": "application/json"})
            connection.getresponse().read()
            seconds.append(time.perf_counter() - began)
        connection.close()
    assert min(seconds[-20:]) < 0.03


def test_the_command(small_model: str) -> None:
    """Catches a command that cannot be stopped, or does not say where it listens."""
    command = ("-m", "preftree", "serve", "--model", small_model, "--port", "0")
    process = start_python(*command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("listening at http://127.0.0.1:")
    client = Client(said.split()[2].rstrip(";"))
    assert -1 <= client("POST", "/reward", ASKED).body <= 1
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "stopped; every request that was taken is answered\n")


def test_other_commands_need_no_server() -> None:
    """Catches a command line that imports FastAPI, which takes longer than all the rest of the start."""
    code = "import sys, preftree.labeling.cli; sys.exit(bool({'fastapi', 'uvicorn', 'pydantic'} & sys.modules.keys()))"
    printed("-c", code)
