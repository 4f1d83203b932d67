"""What users write: paths with any character, settings in any order, YAML files of every kind of wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mask_kinds import object_mask, save_image, save_values

from harness import cli, doctor
from harness.errors import UserError
from harness.planning.config import Config
from harness.planning.overrides import quoted, readable
from harness.planning.plan import make_plan

USER_FOLDER = Path(__file__).parent / "user_folder"
TEXTS = [
    "My Data (1)", "run=1,a", "数据集", "user's", "a#b%c", "x[final]", "2024", "007", "1e5", "true", "~x", "$HOME",
    "cost$5", "a${b", "{x}", "a'b\"c", "back\\slash", "end\\", "q\\'w", " lead", "trail ", "a:b", "*", "!x", "@y", "NA",
    "nan", "[a]", "'x", "x;y", "<a>", "`b`", "é", "-1", "0x10", "1_000", "2024-01-01", "inf", "yes",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_paths_and_names_are_taken_as_they_are(text: str):
    given = [f"dataset.root=/d/{text}", f"out={text}", f"dataset.name={text}", f"+datasets.mine.root={text}"]
    config = Config().compose(["dataset=folder", *given])
    assert (config.dataset.root, config.out, config.dataset.name) == (f"/d/{text}", text, text)
    assert config.datasets.mine.root == text
    assert Config().compose([f"out={text}", f"init={text}"], primary="train").init == text


def test_hydra_s_own_ways_still_work(monkeypatch):
    monkeypatch.setenv("WHERE", "/w (1)")
    config = Config().compose(
        [
            "dataset=folder",
            "dataset.root='quoted (1)'",
            'out="x"',
            "dataset.name=null",
            "dataset.images=${oc.env:WHERE}/i",
        ]
    )
    assert (config.dataset.root, config.out, config.dataset.name) == ("quoted (1)", "x", None)
    assert config.dataset.images == "/w (1)/i"
    config = Config().compose(["measure.threads=[1,all]", "dataset.limit=3", "report=false", "dataset.seed=-1"])
    assert (list(config.measure.threads), config.dataset.limit, config.report) == ([1, "all"], 3, False)
    assert readable("variants=[a,b]") == "variants=[a,b]" and quoted("a'b") == '"a\'b"'
    with pytest.raises(UserError):
        Config().compose(["measure.threads=[1,2"])


@pytest.mark.parametrize("name", ["user's cfg", "a (1)", "x=1,y", "数", "[b]", "a#b%c", "q\"'", "${x}"])
def test_a_config_dir_may_have_any_name(name: str, tmp_path: Path, monkeypatch):
    shutil.copytree(USER_FOLDER / "variant", tmp_path / name / "variant")
    root = Config(tmp_path / name)
    assert root.load("variant", "disc")["_target_"] and root.compose(["variant=disc"]).variant["_target_"]


def test_a_doctor_finds_such_a_folder(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "My Data (1), [final] = user's $x"
    save_image(root / "images" / "a.png")
    save_values(root / "masks" / "a.png", object_mask())
    assert doctor.run(["dataset=folder", f"dataset.root={root}"]) == 0
    assert "1 usable of 1" in capsys.readouterr().out


@pytest.mark.parametrize("place", [0, 1, 2])
def test_options_stand_anywhere_between_the_settings(place: int):
    settings = ["a=1", "b=2"]
    arguments = [*settings[:place], "--config-dir", "D", *settings[place:]]
    parsed = cli.parser("x", "").parse_args(arguments)
    assert parsed.overrides == settings and parsed.config_dir == "D"


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    return "\n".join([*lines, *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])


FILES = {
    "broken": (b"_target_: [a\nb: {", "cannot be read as YAML"),
    "tabs": (b"a:\n\t- b\n", "cannot be read as YAML"),
    "binary": (bytes(range(256)), "is no text in UTF-8"),
    "utf-16": ("_target_: x".encode("utf-16"), "is no text in UTF-8"),
    "control characters": (b"a: \x00\x01", "cannot be read as YAML"),
    "python object": (b"_target_: !!python/object/apply:os.system ['touch /tmp/never']", "tag !!python/object"),
    "own tag": (b"_target_: !mine x", "tag !mine in line 1"),
    "empty": (b"", "is empty"),
    "comment": (b"# nothing\n", "is empty"),
    "null": (b"null", "scalar"),
    "list": (b"- _target_: x\n", "holds a sequence"),
    "text": (b"hello", "holds a scalar"),
    "alias bomb": (bomb().encode(), "stand for more than 100000 values"),
    "alias of itself": (b"a: &a [*a]", "cannot be read as YAML"),
    "unknown alias": (b"a: *b", "cannot be read as YAML"),
    "two documents": (b"a: 1\n---\nb: 2\n", "cannot be read as YAML"),
    "nested": (b"a: " + b"[" * 5000 + b"]" * 5000, "cannot be read as YAML"),
    "huge": (b"a: 1\n" * 300_000, "larger than 1 MiB"),
    "merge of no mapping": (b"<<: [1, 2]\n_target_: bad.Disc\n", "cannot be read as YAML"),
    "key twice": (b"_target_: bad.Disc\nradius: 1\nradius: 2\n", "cannot be read as YAML"),
    "no number": (b"_target_: bad.Disc\nradius: !!int x\n", "cannot be read as YAML"),
    "list as key": (b"_target_: bad.Disc\n? [a, b]\n: 1\n", "keys that are no text; put them in quotes"),
    "NaN as key": (b".nan: 1\n_target_: bad.Disc\n", "keys that are no text; put them in quotes"),
    "number beside text": (b"_target_: bad.Disc\nsizes: {1: 2, a: 3}\n", "in line 2 has keys that are no text"),
    "half an interpolation": (b"_target_: bad.Disc\nradius: ${\n", "cannot be read as YAML"),
    "no class": (b"size: 3\n", "names no class"),
    "a class that is no segmenter": (
        b"_target_: collections.OrderedDict\n",
        "is no segmenter, it has no method encode",
    ),
    "a number as class": (b"_target_: 5\n", "names no class"),
    "unknown interpolation": (b"_target_: bad.Disc\nsize: ${nowhere.x}\n", "nowhere"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("given", ["variant=bad", "variants=[bad]"])
def test_a_bad_file_of_the_user_is_named_in_one_line(kind: str, given: str, tmp_path: Path):
    content, message = FILES[kind]
    (tmp_path / "variant").mkdir()
    (tmp_path / "variant" / "bad.yaml").write_bytes(content)
    root = Config(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        overrides = ["dataset=scenes", "dataset.count=1", given]
        make_plan(root, root.compose(overrides), root.picked(overrides, "variant"))
    assert "bad" in str(error.value) and "\n" not in str(error.value)
    assert Config(tmp_path).compose(["variant=inter2former_lite"]), "others are not spoilt"


def test_a_bad_file_is_found_behind_a_good_one(tmp_path: Path):
    (tmp_path / "variant").mkdir()
    (tmp_path / "variant" / "good.yaml").write_text("defaults: [bad, _self_]\n_target_: x.Y\n")
    (tmp_path / "variant" / "bad.yaml").write_text(bomb())
    with pytest.raises(UserError, match="bad.yaml: its aliases"):
        Config(tmp_path).load("variant", "good")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("variants=[nan]", "unknown variant 'nan'"),
        ("variants=[null]", "unknown variant 'None'"),
        ("variants=5", "unknown variant '5'"),
        ("variants=[[a]]", "unknown variant"),
        ("datasets=[grabcut]", "names each data set with its settings"),
        ("datasets={grabcut: 5}", "names each data set with its settings"),
        ("ablation.variants=7", "names each variant with its settings"),
        ("+ablation.variants.a=7", "names each variant with its settings"),
        ("dataset._target_=collections.OrderedDict", "."),
        ("dataset._target_=5", "."),
        ("protocol._target_=collections.OrderedDict", "."),
    ],
)
def test_settings_of_the_wrong_shape_are_the_users(given: str, message: str):
    root = Config()
    with pytest.raises(UserError, match=message) as error:
        make_plan(root, root.compose(["dataset.count=1", "variants=[inter2former_lite]", given]))
    assert "\n" not in str(error.value)


def test_the_command_ends_with_2_and_one_line(tmp_path: Path):
    (tmp_path / "variant").mkdir()
    (tmp_path / "variant" / "bad.yaml").write_text(bomb())
    done = subprocess.run(
        [sys.executable, "-m", "harness.sweep", "variant=bad", "--config-dir", str(tmp_path), "dry_run=true"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "bad.yaml: its aliases" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
