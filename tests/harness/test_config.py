"""Configuration: near misses, user folders, and files that Hydra must find."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from harness.errors import UserError
from harness.latency.options import Options
from harness.planning.config import Config, build, overlay
from harness.planning.plan import make_plan
from harness.results.measuring import Measure


def test_every_ablation_names_settings_that_its_variant_has():
    root = Config()
    for name in root.options("ablation"):
        config = root.compose([f"+ablation={name}"])
        assert config.ablation.name == name
        assert config.ablation.variants, name
        assert config.ablation.base is None or config.ablation.base in config.ablation.variants


def test_measure_has_one_file_with_every_field_and_the_others_say_what_differs():
    """Each set of settings by what makes it: two sizes for published numbers, a minute to try things."""
    fields = set(Config().compose(["measure=default"]).measure)
    assert fields == {f.name for kind in (Measure, Options) for f in dataclasses.fields(kind)} - {"options"}
    expected = {
        "default": ("full", [512], 4, 600, 40, False),
        "full": ("full", [512, 1024], 8, 3600, 100, True),
        "latency": ("full", [512, 1024], 4, 600, 40, False),
        "quick": ("quick", [512], 2, 70, 15, False),
        "none": ("none", [512], 2, 60, 15, False),
    }
    assert sorted(expected) == Config().options("measure")
    for name, values in expected.items():
        measure = Config().compose([f"measure={name}"]).measure
        assert set(measure) == fields, name
        keys = ("machine", "resolutions", "samples", "budget_s", "max_repeats", "strict")
        assert tuple(measure[key] for key in keys) == values, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"machine": "ful"}, "measure.machine='ful': Did you mean 'full'? Allowed: full, none, quick."),
        ({"latency": True, "workload": "own"}, "measure.workload='own': allowed are auto, recorded, truth."),
    ],
)
def test_a_measure_setting_out_of_range_is_named(settings, message):
    with pytest.raises(UserError) as error:
        Measure.of(settings)
    assert str(error.value) == message


def test_what_no_stage_reads_is_not_looked_at():
    """A machine with two cores counts the FLOPs of a plan for 64 threads."""
    assert Measure.of({"flops": True, "threads": [100_000]}).stages == ("flops",)


def test_plus_before_ablation_may_be_left_out():
    assert Config().compose(["ablation=dha"]) == Config().compose(["+ablation=dha"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+ablation=dah"], "unknown ablation 'dah'. Did you mean 'dha'?"),
        (["dataset=grabcutt"], "unknown dataset 'grabcutt'. Did you mean 'grabcut'?"),
        (
            ["variant=inter2former_lit"],
            "unknown variant 'inter2former_lit'. Did you mean 'inter2former_lite'?",
        ),
        (["protocol=rtim"], "unknown protocol 'rtim'. Did you mean 'ritm'?"),
        (["dataset.limt=3"], "unknown setting 'dataset.limt'. Did you mean 'dataset.limit'?"),
        (["dryrun=true"], "unknown setting 'dryrun'. Did you mean 'dry_run'?"),
        (["variant.dah=full"], "unknown setting 'variant.dah'. Did you mean 'variant.dha'?"),
        (["dha"], "arguments look like key=value"),
    ],
)
def test_misspelt_names_get_their_near_miss(overrides, message):
    with pytest.raises(UserError) as caught:
        Config().compose(overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plus_too_much_is_named():
    with pytest.raises(UserError, match=r"'variant.dha' exists already: leave out the plus of '\+variant.dha=full'"):
        Config().compose(["+variant.dha=full"])


def test_variant_on_the_command_line_keeps_its_settings():
    """`variant=NAME variant.x=…` runs NAME with x, whether or not `variants` names it again."""
    for more in ([], ["variants=[opencv_grabcut]"]):
        overrides = ["variant=opencv_grabcut", "variant.reach=0.3", "dataset.count=1", *more]
        root = Config()
        plan = make_plan(root, root.compose(overrides), root.picked(overrides, "variant"))
        assert [(v.name, v.config["reach"]) for v in plan.variants] == [("opencv_grabcut", 0.3)]


def test_missing_config_dir():
    with pytest.raises(UserError, match="no such folder"):
        Config("/does/not/exist")


def test_overlay_refuses_keys_that_the_base_lacks():
    from omegaconf import OmegaConf

    base = OmegaConf.create({"_target_": "x", "dha": "on"})
    assert overlay(base, {"dha": "bsq"}, "variant").dha == "bsq"
    with pytest.raises(UserError, match="no setting 'dah'. Did you mean 'dha'"):
        overlay(base, {"dah": "bsq"}, "variant")


def test_build_reports_the_constructors_own_words():
    with pytest.raises(UserError, match="variant 'x': .*invalid literal"):
        build({"_target_": "builtins.int", "_args_": ["seven"]}, "variant 'x'")
    with pytest.raises(UserError, match="nowhere"):
        build({"_target_": "nowhere.to.be.Found"}, "variant 'x'")


def test_configurations_are_found_from_any_folder(tmp_path):
    code = "from harness.planning.config import Config; print(Config().compose(['+ablation=dha']).ablation.base)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "hybrid"
