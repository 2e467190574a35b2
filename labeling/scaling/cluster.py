"""The connection to a Ray cluster, and the actors that run on it. The only module that imports Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import InputError, OutputError, PreftreeError, UsageError
from preftree.labeling.options.scaling import ScalingOptions
from preftree.labeling.scaling.worker import Setting, Worker
from preftree.labeling.terminal import count, one_line

SECONDS_TO_ANSWER = 15.0
_MISSING = "--ray needs the package ray: pip install 'preftree[ray]'"
# A cluster that `ray start` makes asks for a token where one is in ~/.ray, and Ray does not offer it unless told to.
_TOKEN = "does it ask for a token (RAY_AUTH_MODE=token)?"
# Ray reports the use of clusters to its makers unless told otherwise, and warns of changes that do not matter here.
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Lost(Exception):
    """A worker that is not there any more, or whose engine broke. The message says why."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to. Made by `connected`.

    Attributes:
        ray: the module.
        workers: how many are wanted.
        needs: what each takes: "num_cpus" and "num_gpus".
    """

    ray: Any
    workers: int
    needs: dict[str, int]

    def start(self, setting: Setting) -> Any:
        """An actor; it begins once a machine has room for it. Its `stop` is heard while it judges."""
        actor = self.ray.remote(concurrency_groups={"control": 1}, **self.needs)(Worker)
        return actor.remote(setting)

    def stop(self, actor: Any) -> None:
        """See `Worker.stop`. Does not wait."""
        actor.stop.options(concurrency_group="control").remote()

    def kill(self, actor: Any) -> None:
        self.ray.kill(actor)

    def wait(self, references: Sequence[Any], seconds: float) -> Any | None:
        """The first of these calls that is done; None where none is."""
        done, _ = self.ray.wait(list(references), num_returns=1, timeout=seconds)
        return done[0] if done else None

    def result(self, reference: Any) -> Any:
        """Of a call that is done. Raises PreftreeError as the worker did, and Lost for everything else."""
        from ray.exceptions import RayError, RayTaskError

        try:
            return self.ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, PreftreeError):
                raise error.cause from None
            raise Lost(f"{type(error.cause).__name__}: {one_line(str(error.cause))}"[:300]) from None
        except RayError as error:
            raise Lost(_reason(str(error))) from None


@contextmanager
def connected(options: ScalingOptions) -> Iterator[Cluster]:
    """Raises PreftreeError where there is no Ray, no cluster, or one that is too small."""
    os.environ.update({name: os.environ.get(name, value) for name, value in _VARIABLES.items()})
    try:
        import ray
    except ImportError:
        raise InputError(_MISSING) from None
    was_there = ray.is_initialized()
    if not was_there:
        _connect(ray, options.ray or "auto")
    try:
        yield Cluster(ray, *_sized(ray.cluster_resources(), options))
    finally:
        if not was_there:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Raises OutputError where there is no cluster, or none that takes this process."""
    known: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _nothing_on_stderr():
            if address == "auto":
                ray.init(**known)
            elif address == "local":
                ray.init(address, **known)
            else:
                _connect_elsewhere(ray, address, known)
    except OutputError:
        raise
    except Exception as error:
        with suppress(Exception):
            ray.shutdown()
        said = one_line(str(error).strip().partition("\n")[0])[:300] or type(error).__name__
        hint = f"; {_TOKEN}" if isinstance(error, ConnectionError) else ""
        raise OutputError(f"cannot use the Ray cluster ({address}): {said}{hint}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's would end the process


def _connect_elsewhere(ray: Any, address: str, known: dict[str, Any]) -> None:
    """In a thread, as nothing limits how long Ray tries; one that hangs ends with the process.

    What is started on this machine must be started by a thread that stays: Linux ends it with that.
    """
    silent = OutputError(
        f"no Ray cluster answers at {address} within {SECONDS_TO_ANSWER:.0f} s; is it running (ray status), does a "
        f"firewall let this machine through, and {_TOKEN}"
    )
    _check_reachable(address, silent)
    failed: list[Exception] = []

    def connect() -> None:
        try:
            ray.init(address, **known)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    if thread.is_alive():
        raise silent
    for error in failed:
        raise error


@contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    """Where something answers that takes no call, Ray says so each second, past Python and whatever its settings."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_reachable(address: str, silent: OutputError) -> None:
    """Before Ray tries, which writes to stderr itself. Raises OutputError, `silent` where nothing comes back."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()
    except TimeoutError:
        raise silent from None
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise OutputError(f"no Ray cluster answers at {address}: {said}; is it running (ray status)?") from None


def _sized(there: dict[str, float], options: ScalingOptions) -> tuple[int, dict[str, int]]:
    """How many workers, and what each needs. there: the cluster's resources."""
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    of_worker = options.gpus_per_worker
    if of_worker is None:
        named = str(getattr(options, "devices", None) or getattr(options, "device", "auto"))
        of_worker = len(named.split(",")) if gpus and not named.startswith("cpu") else 0
    needs = {"num_cpus": options.cpus_per_worker, "num_gpus": of_worker}
    room = min(cpus // options.cpus_per_worker, gpus // of_worker if of_worker else cpus)
    workers = options.workers or max(room, 1)
    for noun, each, has, flag in (
        ("GPU", of_worker, gpus, "--gpus-per-worker"),
        ("CPU", options.cpus_per_worker, cpus, "--cpus-per-worker"),
    ):
        if workers * each > has:
            verb = "needs" if workers == 1 else "each need"
            raise UsageError(
                f"{count(workers, 'worker')} with {count(each, noun)} {verb} {count(workers * each, noun)}, and the "
                f"cluster has {count(has, noun)}; use fewer --workers, a lower {flag}, or more machines"
            )
    return workers, needs


def _reason(said: str) -> str:
    """What Ray says of a death in several lines, as one."""
    for known, short in (
        ("running low on memory", "its machine ran out of memory"),
        ("node was terminated", "its machine is gone"),
        ("node has died", "its machine is gone"),
        ("node died", "its machine is gone"),
    ):
        if known.lower() in said.lower():
            return short
    return "its process died (killed where memory ran out, or crashed)"
