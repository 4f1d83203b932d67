"""What the documents promise about names is true of the configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_names_every_system_in_its_first_half():
    """Expected: the files of sweeps/variant, each the name of a system that a user can choose."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    table = "\n".join(lines[: len(lines) // 2])
    names = {path.stem for path in (ROOT / "sweeps" / "variant").glob("*.yaml")}
    assert names - set(re.findall(r"`([\w.]+)`", table)) == set()


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_files_that_a_document_names_exist(document):
    """Paths of source files in backticks, from the root or from the package that the sentence is about."""
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(
        re.findall(
            r"`((?:harness|reports|baselines|inter2former|benchmarks|tests|sweeps)/[\w/.-]+\.(?:py|yaml|json))`", text
        )
    )
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_test_that_the_security_document_names_exists():
    """A promise is held by a file of tests, or by a function in the file that was named last (`…::test_x`)."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    functions = {name: set(re.findall(r"^def (test_\w+)", path.read_text(), re.M)) for name, path in files.items()}
    last, named = "", 0
    for quoted in re.findall(r"`([^`\n]*)`", text):
        file, _, function = quoted.rpartition("::") if "::" in quoted else ("", "", quoted)
        if quoted.endswith(".py") and re.search(r"(^|/)test_\w+\.py$", quoted):
            file, function = quoted, ""
        elif not re.fullmatch(r"test_\w+", function):
            continue
        if file and file != "…":
            last = file.rpartition("/")[2]
            assert last in files and ("/" not in file or (ROOT / file).exists()), quoted
        named += 1
        assert not function or function in functions[last], f"{last} has no {function}"
    assert named >= 25
