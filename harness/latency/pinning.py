"""Pinning a measuring process to its CPUs and threads. Imports nothing that starts threads: it runs before torch.

Order matters: libgomp and MKL read their environment and the affinity mask when they are loaded, inter-op threads can
be set once per process, and OpenCV has a pool of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

BINDING = (
    "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_HW_SUBSET", "OMP_THREAD_LIMIT",
    "KMP_ALL_THREADS", "KMP_DEVICE_THREAD_LIMIT", "OMP_MAX_ACTIVE_LEVELS", "OMP_WAIT_POLICY", "OMP_SCHEDULE",
    "KMP_BLOCKTIME", "KMP_LIBRARY", "MKL_DOMAIN_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "GOTO_NUM_THREADS",
)  # fmt: skip
"""What a cluster or a notebook may have set for other programs: it binds threads to CPUs, or changes how many there are
and how they wait. Children start without them; they pin themselves."""

_KEPT = 1 << 32
"""Bytes of freed memory that the C library keeps."""


def _affinity() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


_AT_FIRST = _affinity()
"""CPUs of this process before OpenMP was loaded, which with OMP_PROC_BIND leaves the main thread only one of them."""


def usable_affinity() -> frozenset[int]:
    """CPUs that this process may use, also after OpenMP bound its main thread."""
    now = _affinity()
    bound = now < _AT_FIRST and any(os.environ.get(name) for name in BINDING)
    return _AT_FIRST if bound else now


def quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPUs' worth of time that the control groups of this process grant (v1 and v2); None: no limit, or unknown.

    A container with `--cpus 2` sees all CPUs of its host; more threads than it may run are stopped for a part of
    every tenth of a second.
    """
    grants = []
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                tops = [root, root / "unified"]
            elif "cpu" in controllers.split(","):
                tops = [root / controllers, root / "cpu"]
            else:
                continue
            # The path may be that of the host, which does not exist inside of a container.
            for top in tops:
                parts = [p for p in path.split("/") if p and p != ".."]
                grants += [g for i in range(len(parts) + 1) if (g := _grant(top.joinpath(*parts[:i]))) is not None]
    return min(grants, default=None)


def _grant(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        granted, period = (folder / "cpu.max").read_text().split()
        return None if granted == "max" else int(granted) / int(period)
    with contextlib.suppress(OSError, ValueError):
        granted = (folder / "cpu.cfs_quota_us").read_text()
        return int(granted) / int((folder / "cpu.cfs_period_us").read_text()) if int(granted) > 0 else None
    return None


def remarks() -> list[str]:
    """What of this process's surroundings changes how it is measured, one sentence each."""
    sentences = []
    granted = quota()
    if granted is not None and granted < len(available_cpus()):
        sentences.append(
            f"the control group grants {granted:g} of {len(available_cpus())} CPUs: `all` means {all_threads()} threads"
        )
    inherited = [f"{name}={os.environ[name]}" for name in BINDING if os.environ.get(name)]
    if inherited:
        sentences.append(f"measured without {', '.join(inherited)}: the children pin their threads themselves")
    return sentences


def available_cpus() -> list[int]:
    """CPUs that this process may use, one per physical core first, then their hyper-thread siblings."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    allowed = sorted(usable_affinity())
    firsts: list[int] = []
    siblings: list[int] = []
    seen: set[tuple[str, str]] = set()
    for cpu in allowed:
        core = _core(cpu)
        (siblings if core in seen else firsts).append(cpu)
        seen.add(core)
    return firsts + siblings


def all_threads() -> int:
    """What `threads: all` means: physical cores that this process may use, and that its control group grants."""
    cores = len({_core(cpu) for cpu in available_cpus()})
    granted = quota()
    return max(1, cores if granted is None else min(cores, int(granted + 1e-9)))


def pick_cpus(threads: int) -> list[int]:
    """The CPUs for so many threads, distinct physical cores first.

    Raises:
        ValueError: more threads than CPUs; such a measurement would time the scheduler.
    """
    cpus = available_cpus()
    if not 1 <= threads <= len(cpus):
        raise ValueError(f"threads={threads}: this process may use {len(cpus)} CPUs. Give 1..{len(cpus)} or `all`.")
    granted = quota()
    if granted is not None and threads > max(1.0, granted):
        raise ValueError(
            f"threads={threads}: the control group (container, cluster job) grants {granted:g} CPUs, and more threads "
            f"would be stopped in turn. Give 1..{max(1, int(granted))} or `all`."
        )
    return cpus[:threads]


def environment(threads: int, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child with so many threads."""
    dropped = {*BINDING, "PYTHONWARNINGS", "MPLBACKEND"}
    variables = {k: v for k, v in base.items() if k not in dropped} | {name: str(threads) for name in _POOLS}
    # Torch and OpenCV spin for a while after a parallel region; children wait side by side, so they must sleep
    # instead.
    variables.setdefault("GOMP_SPINCOUNT", "10000")
    # Without these glibc gives large buffers back to the kernel now and then, and a call that must fault them in again
    # takes up to a quarter longer; which process does so is chance, and would pass for a difference between variants.
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        variables.setdefault(name, str(_KEPT))
    variables["OMP_DYNAMIC"] = "FALSE"
    variables["MKL_DYNAMIC"] = "FALSE"
    variables["TOKENIZERS_PARALLELISM"] = "false"
    return variables


def pin(cpus: Sequence[int]) -> None:
    """Restrict this process (and every thread it will start) to these CPUs. Call before torch is imported."""
    import sys

    if "torch" in sys.modules or "numpy" in sys.modules:
        raise RuntimeError("pin() must run before torch and numpy are imported: their thread pools exist already")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(cpus))


def set_threads(threads: int) -> None:
    """Intra-op threads of torch, one inter-op thread, and OpenCV's pool. Call once, right after the imports."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    cv2.setNumThreads(threads)


def _core(cpu: int) -> tuple[str, str]:
    """(socket, core) of a CPU; the CPU itself where the kernel does not tell."""
    folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        return (folder / "physical_package_id").read_text().strip(), (folder / "core_id").read_text().strip()
    except OSError:
        return "", str(cpu)
