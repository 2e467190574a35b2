"""A hub on loopback: enough of the Hugging Face hub's HTTP interface for huggingface_hub to find and fetch files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/(.+))?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class HubRepository:
    """Files by name, at one commit. gated: 403 for everybody. broken: the name of a file that breaks off half-way."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    broken: str | None = None

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass
class Hub:
    """repositories: by "models/org/name" or "datasets/org/name". asked: paths of all requests so far."""

    cache: Path
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, files: dict[str, bytes] | Path, **about: object) -> HubRepository:
        """files: by name, or a directory of them."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        made = HubRepository(files, **about)  # type: ignore[arg-type]
        self.repositories[name] = made
        return made

    @property
    def fetched(self) -> list[str]:
        """Names of the files that were asked for since the last look."""
        found = {match[4] for path in self.asked if (match := _FILE.fullmatch(path))}
        self.asked.clear()
        return sorted(found)


@contextmanager
def hub_stand_in(cache: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub, which is the one that this process knows, with an empty cache."""
    hub = Hub(cache)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    patch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    patch.setenv("HF_HUB_CACHE", str(cache))
    patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    patch.delenv("HF_HUB_OFFLINE", raising=False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        if found := _API.fullmatch(path):
            self._about(f"{found[1]}/{found[2]}", found[3] or "main")
        elif found := _FILE.fullmatch(path):
            self._file(f"{'datasets' if found[1] else 'models'}/{found[2]}", found[3], found[4], with_body)
        else:
            self._refuse(404, "EntryNotFound")

    def _about(self, name: str, revision: str) -> None:
        repository = self._repository(name, revision)
        if repository is not None:
            about = {
                "id": name.partition("/")[2],
                "sha": repository.commit,
                "siblings": [{"rfilename": one} for one in repository.files],
            }
            self._send(json.dumps(about).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, file: str, with_body: bool) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if repository.gated:
            self._refuse(403, "GatedRepo")
        elif file not in repository.files:
            self._refuse(404, "EntryNotFound")
        else:
            body = repository.files[file]
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            headers = {"ETag": etag, "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
            begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            half = len(body) // 2 if with_body and repository.broken == file else None
            self._send(body, headers, int(begin[1]) if begin else 0, half, with_body)

    def _repository(self, name: str, revision: str) -> HubRepository | None:
        """None where an error was sent."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound")
        elif revision not in (*repository.revisions, repository.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            return repository
        return None

    def _send(
        self, body: bytes, headers: dict[str, str], begin: int = 0, half: int | None = None, with_body: bool = True
    ) -> None:
        self.send_response(206 if begin else 200)
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        for key, value in {**headers, "Content-Length": str(len(body) - begin)}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body[begin : half if half is not None else None])
        if half is not None:
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        for key, value in {"X-Error-Code": code, "X-Error-Message": code, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()
