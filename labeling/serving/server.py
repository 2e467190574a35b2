"""`preftree serve`: opens what the options name, and listens until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import socket
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.options.serving import ServeOptions
from preftree.labeling.yaml_file import read_text

if TYPE_CHECKING:
    import uvicorn

_CONNECTIONS = 2048
_SPARE_SECONDS = 5  # beyond the deadline, for answers that are on their way when the server stops
_RUBRIC_FIELDS = ("rubric", "label")
_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


@dataclass
class Listening:
    """A server that is about to run.

    Attributes:
        server: of uvicorn; `should_exit` ends it.
        socket: where it listens.
    """

    server: uvicorn.Server
    socket: socket.socket

    @property
    def url(self) -> str:
        """Where clients find it."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Until a signal, or `should_exit`; requests that were taken are answered first."""
        # uvicorn raises the signal that ended it again.
        with suppress(KeyboardInterrupt):
            asyncio.run(self.server.serve([self.socket]))


def serve(options: ServeOptions) -> str:
    """Runs the server; returns where it was. Raises PreftreeError for whatever keeps it from starting."""
    check_installed()
    listening = listen(options)
    logger, url = logging.getLogger("preftree"), listening.url
    logger.info(f"listening at {url}; Ctrl-C stops it")
    listening.run()
    logger.info("stopped; every request that was taken is answered")
    return url


def check_installed() -> None:
    """Raises InputError where the extra is missing."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise InputError(f"preftree serve needs {', '.join(missing)}: pip install 'preftree[serve]'")


def listen(options: ServeOptions, judge: AnyJudge | None = None) -> Listening:
    """Binds, loads the model unless there is a judge, and scores a first sample. Raises PreftreeError."""
    import uvicorn

    from preftree.labeling.serving import judging
    from preftree.labeling.serving.app import build_app
    from preftree.labeling.serving.batcher import Limits
    from preftree.labeling.serving.guard import Guard
    from preftree.labeling.serving.service import Service
    from preftree.labeling.serving.texts import Markup

    if options.rubric_column not in (None, *_RUBRIC_FIELDS):
        raise UsageError(f"--rubric-column must be a field of requests, {' or '.join(_RUBRIC_FIELDS)}")
    in_force, principles = judging.opened(options), judging.Principles(options)
    token = _token(options)
    bound = _bound(options.host, options.port)
    if token is None and not _is_loopback(bound):
        logging.getLogger("preftree").warning(
            f"anybody who reaches {options.host} can use this server; --token-file asks for a token"
        )
    judge = judge or load_judge(options)
    judging.check_calibration(in_force, options, judge)
    limits = Limits(options.window / 1000, judge.window_tokens, options.batch_requests, options.queue_tokens)
    service = Service(judge, in_force, principles, limits, options.deadline)
    service.warm_up()
    app = build_app(service, Markup.of_judge(judge, options.strip, options.split))
    guard = Guard(
        app,
        service.metrics,
        frozenset(app.openapi()["paths"]),
        body_limit=options.body_limit,
        seconds=options.deadline,
        token=token,
    )
    config = uvicorn.Config(
        guard,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=math.ceil(options.deadline) + _SPARE_SECONDS,
    )
    return Listening(uvicorn.Server(config), bound)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
        # Connections inherit it. asyncio sets it for sockets of its own only, and an answer is sent in two parts: the
        # second would wait 40 ms for the client to acknowledge the first.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return bound
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot listen at {host} port {port}: {reason}; name another with --host, --port") from None


def _is_loopback(bound: socket.socket) -> bool:
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def _token(options: ServeOptions) -> str | None:
    if options.token_file is None:
        return None
    token = read_text(Path(options.token_file), f"token file {options.token_file}").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"{options.token_file}: must hold a token, one line of ASCII without spaces")
    return token
