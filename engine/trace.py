"""A trace of the first calls of a run, for people who look where the time goes."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity, profile

from preftree.engine.errors import OutputError

# Enough to see batches overlap; a trace grows by some megabytes a forward pass.
TRACED_CALLS = 8


class Trace:
    """Records torch's operations and, on a GPU, its kernels until `TRACED_CALLS` calls are done or the context ends.

    Then `path` holds a trace in Chrome's format, for ui.perfetto.dev or chrome://tracing; compressed where the name
    ends in .gz. Ranges are named as in `preftree.engine.profiling`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = TRACED_CALLS
        # The library would announce on stderr that it starts and stops.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profiler: profile | None = profile(activities=activities)

    def __enter__(self) -> Trace:
        assert self._profiler is not None
        self._profiler.start()
        return self

    def step(self) -> None:
        """One more call is done."""
        self._left -= 1
        if self._left == 0:
            self.stop()

    def stop(self) -> None:
        """Write the file. Later calls do nothing. Raises OutputError when it cannot be written."""
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        # The library looks at the end of the name, and what it cannot write it may only log.
        made = self._path.with_name(f".{os.getpid()}-{self._path.name}")
        try:
            profiler.export_chrome_trace(str(made))
            made.replace(self._path)
        except (OSError, RuntimeError) as error:
            raise OutputError(f"cannot write {self._path}: {getattr(error, 'strerror', None) or error}") from None
        finally:
            made.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
