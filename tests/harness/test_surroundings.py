"""What a command inherits from notebooks, clusters and containers changes neither its result nor its end.

CPU counts are those of sched_getaffinity before torch; control groups are folders written as the kernel's documentation
(cgroup-v1/cpu, cgroup-v2 "cpu.max") describes them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mask_kinds import object_mask, save_image, save_values

from harness import surroundings
from harness.latency import pinning

USER_FOLDER = Path(__file__).parent / "user_folder"
PLAIN = {k: v for k, v in os.environ.items() if k not in (*pinning.BINDING, "MPLBACKEND", "PYTHONWARNINGS")}


def run(*command: str, timeout: float = 240, **environment: str | None) -> subprocess.CompletedProcess[bytes]:
    chosen = {k: v for k, v in {**PLAIN, **environment}.items() if v is not None}
    return subprocess.run([sys.executable, *command], env=chosen, capture_output=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for i in range(2):
        save_image(root / "images" / f"é{i}.png", i, (48, 64))
        save_values(root / "masks" / f"é{i}.png", 255 * object_mask().repeat(4, 0).repeat(4, 1))
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"MPLBACKEND": "module://matplotlib_inline.backend_nowhere", "PYTHONWARNINGS": "error"}, "notebook"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONOPTIMIZE": "2"}, "bare locale"),
    ],
    ids=["notebook", "bare locale"],
)
def test_a_sweep_and_its_report_work_there(environment: dict[str, str], place: str, data: Path, tmp_path: Path):
    done = run(
        "-m", "harness.sweep", "--config-dir", str(USER_FOLDER), "variant=disc", "measure=none", "dataset=folder",
        f"dataset.root={data}", f"out={tmp_path / 'out é'}", "tracking.enabled=false", "executor.name=local",
        IS_BENCH_CACHE=str(tmp_path / "cache"), **environment,
    )  # fmt: skip
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0 and "Traceback" not in text and "no report" not in text, text
    assert (tmp_path / "out é" / "report" / "index.html").stat().st_size > 10_000


def test_a_library_s_user_with_such_a_backend_can_import_reports():
    code = "import reports.plots.style, os; print(os.environ.get('MPLBACKEND'))"
    done = run("-c", code, MPLBACKEND="module://matplotlib_inline.backend_nowhere")
    assert done.returncode == 0 and done.stdout.split()[-1] == b"None", done.stderr
    assert run("-c", code, MPLBACKEND="svg").stdout.split()[-1] == b"svg"


def test_a_user_without_home_and_passwd_entry(data: Path, tmp_path: Path):
    """As `docker run --user 54321`: the look-up in passwd fails, and there is no HOME."""
    code = (
        "import os, pwd\n"
        "def unknown(_): raise KeyError('getpwuid(): uid not found')\n"
        "pwd.getpwuid = unknown\n"
        "from harness import surroundings\n"
        "import getpass, pathlib\n"
        "from harness.datasets.folder import Folder\n"
        f"print(getpass.getuser(), pathlib.Path.home(), Folder({str(data)!r}).digest())"
    )
    none = dict.fromkeys(("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME", "IS_BENCH_CACHE"))
    done = run("-c", code, TMPDIR=str(tmp_path), **none)
    assert done.returncode == 0, done.stderr
    user, home, digest = done.stdout.decode().split()
    assert user == f"uid{os.getuid()}" and Path(home).parent == tmp_path and len(digest) == 32
    assert list(Path(home).rglob("files.sqlite"))


@pytest.mark.parametrize("delay", [0.15, 0.5, 1.2])
def test_ctrl_c_while_importing_ends_in_one_line(delay: float):
    code = (
        "from harness import surroundings; print('up', flush=True); import torch, pandas, mlflow, time; time.sleep(30)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.argv = ['is-sweep']; {code}"],
        env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.decode().splitlines()[-1:] == ["stopped."] and b"Traceback" not in error


INTERRUPTED_AT = """
import os, signal, sys, time
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)  # the interrupt comes at the next instruction
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [
        *((("-m", "harness.sweep"), name) for name in ("harness.surroundings", "harness.latency", "yaml")),
        *((("-m", "harness.bench"), name) for name in ("harness.bench", "harness.errors")),
        *((("-m", "reports"), name) for name in ("harness.surroundings", "reports.__main__")),
        (("-mharness.sync",), "harness.surroundings"),
        (("is-sweep",), "harness.surroundings"),
    ],
)  # fmt: skip
def test_ctrl_c_while_the_first_modules_are_imported(command: tuple[str, ...], module: str, tmp_path: Path):
    """The interrupt comes exactly when Python looks for `module`."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_AT)
    (tmp_path / "is-sweep").write_text("from harness.sweep import main\nmain()\n")  # as pip writes console scripts
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, *(part.replace("is-sweep", str(tmp_path / "is-sweep")) for part in command)],
        env={**PLAIN, "PYTHONPATH": path, "INTERRUPTED_AT": module}, capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.decode().split("\n")[0]) == (130, "stopped."), done.stderr


def test_ctrl_c_that_a_module_turns_into_an_error_of_its_own():
    """As numpy does, whose C part says ImportError where it was interrupted."""
    code = (
        "import sys; sys.argv = ['is-sweep']; import harness, os, signal, time\n"
        "try:\n os.kill(os.getpid(), signal.SIGINT); time.sleep(1)\nexcept KeyboardInterrupt: pass\n"
        "raise ImportError('numpy failed to import')"
    )
    done = run("-c", code)
    assert (done.returncode, done.stderr) == (130, b"stopped.\n")


def test_a_program_that_imports_the_package_keeps_its_own_way_of_ending():
    look = "(sys.excepthook, signal.getsignal(signal.SIGINT))"
    done = run("-c", f"import signal, sys; before = {look}; import harness; print({look} == before)")
    assert done.stdout == b"True\n", done.stderr


@pytest.mark.parametrize(
    "binding", [{"OMP_PROC_BIND": "true"}, {"GOMP_CPU_AFFINITY": "0"}, {"OMP_PLACES": "{0}", "OMP_PROC_BIND": "close"}]
)
def test_the_cpus_are_those_before_openmp_was_loaded(binding: dict[str, str]):
    code = (
        "from harness import surroundings as s; p = s.pinning; a = p.available_cpus(), p.all_threads();"
        "import torch; b = p.available_cpus(), p.all_threads(); print(a == b, p.remarks())"
    )
    done = run("-c", code, **binding)
    assert done.stdout.decode().startswith("True ['"), done.stderr
    assert all(f"{name}={value}" in done.stdout.decode() for name, value in binding.items())


def test_children_start_without_what_binds_threads():
    inherited = dict.fromkeys(pinning.BINDING, "1") | {"PYTHONWARNINGS": "error", "KEPT": "x"}
    made = pinning.environment(2, inherited)
    assert made["KEPT"] == "x" and made["OMP_NUM_THREADS"] == "2" == made["MKL_NUM_THREADS"]
    assert not set(made) & {*pinning.BINDING, "PYTHONWARNINGS"}


def test_an_affinity_that_the_user_chose_is_kept(monkeypatch):
    monkeypatch.setattr(pinning, "_AT_FIRST", frozenset({0, 1, 2}))
    monkeypatch.setattr(pinning, "_affinity", lambda: frozenset({1}))
    for name in pinning.BINDING:
        monkeypatch.delenv(name, raising=False)
    assert pinning.usable_affinity() == {1}
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert pinning.usable_affinity() == {0, 1, 2}


def groups(root: Path, own: str, files: dict[str, str]) -> float | None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "self").write_text(own)
    return pinning.quota(root, root / "self")


@pytest.mark.parametrize(
    ("own", "files", "granted"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"cpu.max": "max 100000\n", "a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/host/path\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("3:cpu,cpuacct:/d\n", {"cpu,cpuacct/d/cpu.cfs_quota_us": "300000\n",
                               "cpu,cpuacct/d/cpu.cfs_period_us": "100000\n"}, 3.0),
        ("3:cpuacct,cpu:/d\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("3:cpuset:/\n", {}, None),
        ("nonsense\n", {"cpu.max": "oops"}, None),
    ],
)  # fmt: skip
def test_the_quota_of_control_groups(own: str, files: dict[str, str], granted: float | None, tmp_path: Path):
    assert groups(tmp_path, own, files) == granted


def test_all_threads_respect_the_quota_and_say_so(monkeypatch):
    monkeypatch.setattr(pinning, "available_cpus", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(pinning, "_core", lambda cpu: ("", str(cpu)))
    for granted, threads in ((None, 4), (2.5, 2), (0.5, 1), (8.0, 4)):
        monkeypatch.setattr(pinning, "quota", lambda granted=granted: granted)
        assert pinning.all_threads() == threads == len(pinning.pick_cpus(threads))
        if granted is not None and granted < 4:
            assert f"grants {granted:g} of 4 CPUs: `all` means {threads} threads" in pinning.remarks()[0]
            with pytest.raises(ValueError, match=f"grants {granted:g} CPUs"):
                pinning.pick_cpus(3)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_job_of_the_processes_executor_dies_with_its_sweep():
    watcher = "from harness.executors.job import _end_with; import sys, time; _end_with(int(sys.argv[1]));"
    sweep = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    job = subprocess.Popen([sys.executable, "-c", f"{watcher} time.sleep(60)", str(sweep.pid)], env=PLAIN)
    time.sleep(1.5)
    assert job.poll() is None, "it lives while its sweep does"
    sweep.kill()  # not waited for: a zombie is dead, too
    assert job.wait(30) == 1
    sweep.wait()


def test_streams_show_what_they_can(tmp_path: Path):
    code = (
        "import sys; sys.argv = ['is-doctor']; from harness import surroundings; print('– é', 'caf' + chr(0xdce9)); "
        "print('–', file=sys.stderr)"
    )
    done = run("-c", code, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 0 and done.stdout == b"\\u2013 \\xe9 caf\\udce9\n" and done.stderr == b"\\u2013\n"
    assert not surroundings.is_command(), "a test run is none"
