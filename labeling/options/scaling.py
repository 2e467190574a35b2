"""Several workers on a Ray cluster, and what they may run on."""

from __future__ import annotations

from typing import ClassVar

from preftree.labeling.options.option import Options, option, options
from preftree.labeling.values import Bare, cluster_address, switch, whole

_RAY = ("ray",)


@options
class HardwareOptions(Options):
    """Of what makes labels."""

    SECTION: ClassVar[str] = "workers"

    same_hardware: bool = option(
        "fail where answers were computed on different hardware or versions (default: a warning)",
        switch,
        default=False,
    )


@options
class ScalingOptions(HardwareOptions):
    """Workers on a Ray cluster."""

    SECTION: ClassVar[str] = "workers"

    ray: str | None = option(
        "judge on a Ray cluster: auto (also without ADDRESS: the one that runs here, else one is started on this "
        "machine), local (always started here), HOST:PORT or ray://HOST:PORT; --out must be a directory that all "
        "machines share, or a URL",
        Bare(cluster_address, "auto"),
        "ADDRESS",
        excludes="worker",
        default=None,
    )
    workers: int | None = option(
        "processes that each load the model once (default: as many as the cluster has GPUs for, else CPUs)",
        whole(1, 100_000),
        "N",
        requires=_RAY,
        default=None,
    )
    gpus_per_worker: int | None = option(
        "GPUs of a worker (default: 1 where the cluster has any, else 0)",
        whole(0, 1024),
        "N",
        requires=_RAY,
        default=None,
    )
    cpus_per_worker: int = option("CPU cores, and threads, of a worker", whole(1, 4096), "N", requires=_RAY, default=1)
