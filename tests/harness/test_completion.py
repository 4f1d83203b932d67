"""Completion: what is offered is what Hydra accepts, bash shows it, and it takes no heavy import."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from harness import bench
from harness.completion import SCRIPTS, candidates
from harness.planning.config import Config

COMMANDS = list(bench.COMMANDS)


def offered(line: str) -> list[str]:
    return candidates(line.split(" "), COMMANDS)


def test_commands_and_their_beginnings():
    assert offered("") == COMMANDS
    assert offered("sw") == ["sweep"]
    assert offered("completion z") == ["zsh"]


@pytest.mark.parametrize("group", ["ablation", "variant", "dataset", "protocol", "measure"])
def test_every_option_of_a_group_is_offered(group):
    plus = "+" if group == "ablation" else ""
    assert offered(f"sweep {plus}{group}=") == [f"{plus}{group}={name}" for name in Config().options(group)]


def test_beginnings_and_lists_of_variants():
    assert offered("sweep +ablation=dh") == ["+ablation=dha"]
    assert offered("sweep variants=[opencv_grabcut,geo") == ["variants=[opencv_grabcut,geodesic"]
    assert offered("sweep variants=opencv") == ["variants=[opencv_grabcut"]
    assert offered("sweep +abl") == ["+ablation="]


def test_settings_are_those_of_the_chosen_options():
    assert "variant.iterations=" in offered("sweep variant=opencv_grabcut variant.")
    assert "variant.dha=" in offered("sweep variant.") and "variant.iterations=" not in offered("sweep variant.")
    assert {"dataset.root=", "dataset.limit="} <= set(offered("sweep dataset=folder dataset."))
    assert "tracking.uri=" in offered("sweep tracking.") and "tracking." in offered("sweep tr")
    assert "measure.budget_s=" in offered("sweep measure.b")
    assert {"plan=", "seeds=", "validation."} <= set(offered("train "))


@pytest.mark.parametrize("choice", ["", "variant=opencv_grabcut ", "dataset=folder ", "measure=full "])
def test_every_setting_that_is_offered_is_one(choice):
    """Each offered key is composed by Hydra, to the value that it has already."""
    whole = Config().compose(choice.split())
    for group in ("variant", "dataset", "measure", "tracking", "executor", "protocol"):
        for word in offered(f"sweep {choice}{group}."):
            key = word.rstrip("=.").split(".")
            node = whole
            for part in key:
                assert part in node, word
                node = node[part]


def test_a_folder_of_the_users_own_counts(tmp_path):
    (tmp_path / "variant").mkdir()
    (tmp_path / "variant" / "mine.yaml").write_text("_target_: mine.Model\nwidth: 3\n")
    (tmp_path / "variant" / "broken.yaml").write_text("a: [")
    assert offered(f"sweep --config-dir {tmp_path} variant=mi") == ["variant=mine"]
    assert offered(f"sweep --config-dir={tmp_path} variant=mine variant.") == ["variant.width="]
    assert offered(f"sweep --config-dir={tmp_path} variant=broken variant.") == []
    assert offered("sweep --config-dir=/no/such variant=mi") == []


def test_nothing_heavy_is_imported():
    program = "import sys; from harness import bench; sys.argv[1:] = ['complete', '--', 'sweep', '+ablation=']\n"
    program += "try: bench.main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "+ablation=dha" in done.stdout.splitlines()
    assert {"torch", "hydra", "omegaconf", "numpy", "pandas", "rich", "mlflow"}.isdisjoint(done.stderr.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("is-bench sw", ["sweep"]),
        ("is-bench sweep +ablation=dh", ["dha"]),  # bash breaks words at the equals sign
        ("is-bench sweep variant=opencv_grabcut variant.iter", ["variant.iterations="]),
        ("is-bench sweep out=", []),  # the shell's own files
    ],
)
def test_bash_completes(line, expected, tmp_path):
    command = tmp_path / "is-bench"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness.bench "$@"\n')
    command.chmod(0o755)
    script = SCRIPTS["bash"].replace('"${words[0]}"', str(command))
    asked = f"COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _is_bench; echo ${{#COMPREPLY[@]}} ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(expected)), *expected], done.stderr


def test_scripts_are_printed_and_an_unknown_shell_is_named(capsys, monkeypatch):
    for arguments, code in ((["completion", "fish"], 0), (["completion", "fihs"], 2), (["completion"], 0)):
        monkeypatch.setattr(sys, "argv", ["is-bench", *arguments])
        with pytest.raises(SystemExit) as end:
            bench.main()
        assert end.value.code == code
    shown = capsys.readouterr()
    assert SCRIPTS["fish"] in shown.out and "~/.bashrc" in shown.out
    assert "unknown shell 'fihs'" in shown.err and "fish" in shown.err
