"""What a command inherits from where it is started, put right before anything heavy is imported.

Notebooks, clusters and containers leave things in the environment that were meant for other programs. The first import
of every command; imports nothing itself but the standard library's small parts and `harness.latency.pinning`, which
remembers the CPUs before OpenMP binds this process to one of them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import warnings

from harness.interrupts import end_quietly, is_command
from harness.latency import pinning

__all__ = ["is_command", "pinning", "prepare", "readable_streams", "usable_backend"]


def prepare() -> None:
    """Everything below; does nothing to a process that is no command, but gives it a home."""
    _home()
    if not is_command():
        return
    end_quietly()
    # Warnings of libraries are not the user's; PYTHONWARNINGS=error would turn their deprecations into crashes.
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.resetwarnings()
        sys.warnoptions[:] = []
        os.environ.pop("PYTHONWARNINGS", None)
    os.environ["MPLBACKEND"] = "Agg"  # no command opens a window, and a notebook's back end is not importable
    _utf8()
    readable_streams()


def usable_backend() -> None:
    """Drop MPLBACKEND if it names a module that is not there: matplotlib would refuse to be imported."""
    kind, _, module = os.environ.get("MPLBACKEND", "").partition("module://")
    if not kind and module and importlib.util.find_spec(module.partition(".")[0]) is None:
        os.environ.pop("MPLBACKEND")


def readable_streams() -> None:
    """A terminal or file that cannot show a character gets its escape, not an exception."""
    for stream in (sys.stdout, sys.stderr):
        encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
        # UTF-8 itself cannot show the odd bytes of file names.
        if hasattr(stream, "reconfigure") and (encoding != "utf8" or stream.errors == "strict"):
            stream.reconfigure(errors="backslashreplace")


def _utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has another encoding: files are UTF-8 everywhere here."""
    encoding = sys.getfilesystemencoding() if os.name != "posix" else _locale()
    if encoding.lower().replace("-", "") == "utf8" or sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _locale() -> str:
    import locale

    return locale.getpreferredencoding(False)


def _home() -> None:
    """A container's user may have no HOME and no entry in passwd; libraries ask for both when they are imported."""
    user = f"uid{os.getuid()}" if hasattr(os, "getuid") else "user"
    if os.path.expanduser("~") == "~":
        folder = os.path.join(tempfile.gettempdir(), f"interactive-segmentation-bench-{user}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        # Somebody else may have made a folder of this name first.
        os.environ["HOME"] = folder if os.stat(folder).st_uid == os.getuid() else tempfile.mkdtemp()
    try:
        import pwd

        pwd.getpwuid(os.getuid())
    except (ImportError, KeyError):
        os.environ.setdefault("USER", user)
        os.environ.setdefault("LOGNAME", user)


prepare()
