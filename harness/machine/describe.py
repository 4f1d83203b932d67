"""What machine the numbers come from: CPU, caches, memory, versions, commit, and measured peaks per thread count."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from harness.latency import energy, pinning

_PACKAGES = (
    "torch", "numpy", "scipy", "pandas", "opencv-python-headless", "transformers", "mlflow", "hydra-core",
    "scikit-image", "scikit-learn", "safetensors",
)  # fmt: skip
_INSTRUCTIONS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_bf16", "amx_int8", "neon", "asimd", "sve", "bf16",
)  # fmt: skip


_PASSING = ("load_average", "frequency_mhz", "peaks", "quick", "id", "earlier", "schema", "energy")


def describe(quick: bool = True, peaks: bool = True) -> dict[str, Any]:
    """Everything about the machine that a reader of a latency needs.

    Args:
        quick: measure the peaks for one and all threads, a second each; otherwise for 1..all threads, with care.
        peaks: False leaves the measured peaks out (nothing is computed).

    Returns:
        JSON-ready dictionary; `id` is its `identity`; `peaks` maps a thread count (as text) to fp32_gflops,
        bf16_gflops and copy_gb_per_s.
    """
    information = _cpuinfo()
    flags = set((information.get("flags") or information.get("Features") or "").split())
    memory = psutil.virtual_memory()
    described: dict[str, Any] = {
        "cpu_model": information.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "cpus_usable": len(pinning.available_cpus()),
        "cores_usable": pinning.all_threads(),
        "cpu_quota": pinning.quota(),
        "frequency_mhz": _frequency(information),
        "caches": _caches(),
        "instruction_sets": [name for name in _INSTRUCTIONS if name in flags],
        "virtual": "hypervisor" in flags,
        "memory_gb": round(memory.total / 2**30, 1),
        "energy": energy.find().note,
        "kernel": platform.release(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "torch": _torch(),
        "commit": commit(),
        "load_average": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }
    described["node"] = platform.node()
    described["id"] = identity(described)
    if peaks:
        described["peaks"] = measured_peaks(quick)
    return described


def identity(described: Mapping[str, Any]) -> str:
    """Short digest of a description, without the peaks and what changes from minute to minute (load, clock rate, who
    may read the energy).

    Another commit, another version of a package, another node: another id.
    """
    lasting = {key: value for key, value in described.items() if key not in _PASSING}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:12]


def same_hardware(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether peaks measured under one description hold under the other."""
    return all(one.get(key) == other.get(key) for key in ("node", "cpu_model", "cores_usable", "memory_gb", "torch"))


def load_average() -> float:
    """Load of the last minute; -1 where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1.0


def measured_peaks(quick: bool = True) -> dict[str, dict[str, float]]:
    """Matrix-product peaks and copy bandwidth per thread count, each measured in a pinned child of its own.

    A child that fails leaves an `error` instead of numbers.
    """
    most = pinning.all_threads()
    counts = sorted({1, most} if quick else set(range(1, most + 1)))
    return {str(threads): _peaks_of(threads, quick) for threads in counts}


def commit() -> str:
    """Git commit of the checkout that runs, with `+` if it has changes; "" outside a checkout."""
    here = Path(__file__).resolve().parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    return ""


def _peaks_of(threads: int, quick: bool) -> dict[str, Any]:
    cpus = ",".join(map(str, pinning.pick_cpus(threads)))
    command = [sys.executable, "-m", "harness.machine.peaks", cpus, "quick" if quick else "full"]
    try:
        done = subprocess.run(
            command,
            env=pinning.environment(threads, os.environ),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _cpuinfo() -> dict[str, str]:
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}
    return {}


def _frequency(information: dict[str, str]) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").read_text()) / 1e3
    with contextlib.suppress(KeyError, ValueError):
        return float(information["cpu MHz"])
    return None


def _caches() -> dict[str, str]:
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = ((folder / f).read_text().strip() for f in ("level", "type", "size"))
            sizes[f"L{level} {kind.lower()}"] = size
    return sizes


def _torch() -> dict[str, Any]:
    import torch

    lines = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    return {
        "version": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "blas": next((line for line in lines if "MKL" in line or "OpenBLAS" in line), "unknown"),
        "onednn": next((line for line in lines if "MKL-DNN" in line or "oneDNN" in line), "none"),
        "parallel": next(
            (line for line in torch.__config__.parallel_info().splitlines() if "ATen parallel backend" in line), ""
        ),
        "threads_default": torch.get_num_threads(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()
