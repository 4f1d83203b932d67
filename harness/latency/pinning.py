"""Pinning a measuring process to its CPUs and threads. Imports nothing that starts threads: it runs before torch.

Order matters: libgomp and MKL read their environment and the affinity mask when they are loaded, inter-op threads can
be set once per process, and OpenCV has a pool of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

_KEPT = 1 << 32
"""Bytes of freed memory that the C library keeps."""


def available_cpus() -> list[int]:
    """CPUs that this process may use, one per physical core first, then their hyper-thread siblings."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    allowed = sorted(os.sched_getaffinity(0))
    firsts: list[int] = []
    siblings: list[int] = []
    seen: set[tuple[str, str]] = set()
    for cpu in allowed:
        core = _core(cpu)
        (siblings if core in seen else firsts).append(cpu)
        seen.add(core)
    return firsts + siblings


def all_threads() -> int:
    """What `threads: all` means: physical cores that this process may use."""
    cpus = available_cpus()
    return max(1, len({_core(cpu) for cpu in cpus}))


def pick_cpus(threads: int) -> list[int]:
    """The CPUs for so many threads, distinct physical cores first.

    Raises:
        ValueError: more threads than CPUs; such a measurement would time the scheduler.
    """
    cpus = available_cpus()
    if not 1 <= threads <= len(cpus):
        raise ValueError(f"threads={threads}: this process may use {len(cpus)} CPUs. Give 1..{len(cpus)} or `all`.")
    return cpus[:threads]


def environment(threads: int, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child with so many threads."""
    made = {**base, **{name: str(threads) for name in _POOLS}}
    # Torch and OpenCV spin for a while after a parallel region; children wait side by side, so they must sleep
    # instead.
    made.setdefault("GOMP_SPINCOUNT", "10000")
    # Without these glibc gives large buffers back to the kernel now and then, and a call that must fault them in again
    # takes up to a quarter longer; which process does so is chance, and would pass for a difference between variants.
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        made.setdefault(name, str(_KEPT))
    made["OMP_DYNAMIC"] = "FALSE"
    made["MKL_DYNAMIC"] = "FALSE"
    made["TOKENIZERS_PARALLELISM"] = "false"
    return made


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
