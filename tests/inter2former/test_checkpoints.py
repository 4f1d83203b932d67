"""Weight files: both layouts there and back, strictness, damaged and foreign files, digests."""

from __future__ import annotations

import collections
import contextlib
import pickle
import sys
import types

import pytest
import torch
from goldens import GOLDENS, rule_state_dict
from torch import nn

from inter2former.checkpoints import (
    RELEASED,
    TRAINED_HERE,
    Checkpoint,
    CheckpointError,
    compare,
    digest,
    load,
    read,
    save,
)
from inter2former.edges import CannyNet


class Model(nn.Module):
    """A stand-in with a scalar counter, as the released layout has, and a real edge detector."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.neck = nn.Linear(3, 2)
        self.edge_detector = CannyNet((8, 8, 4, 4), 1)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(1)
    return Model()


def same(model: nn.Module, state) -> bool:
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def refused(path, model=None, **options) -> str:
    """Return the message with which a file is refused; it must be one line and name the file."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint = read(path)
        if model is not None:
            load(model, checkpoint, **options)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and len(message) < 900
    assert "backbone.*" in message and ".safetensors" in message
    return message


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "meta": {"epoch": 3}},
        lambda state: {"model": state},
        lambda state: {"state_dict": {"module." + name: value for name, value in state.items()}},
        lambda state: collections.OrderedDict(state),
    ],
)
def test_pth_plain_and_wrapped(wrap, model, tmp_path):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(wrap(state), tmp_path / "weights.pth")
    checkpoint = read(tmp_path / "weights.pth")
    other = Model()
    load(other, checkpoint)
    assert same(other, state) and checkpoint.status == RELEASED and checkpoint.config is None


def test_safetensors_keep_configuration_and_status(model, tmp_path):
    config = {"preset": "lite", "head": [8, 8, 4, 4], "dlu": "on"}
    save(tmp_path / "weights.safetensors", model, config, extra={"note": "cracks"})
    checkpoint = read(tmp_path / "weights.safetensors")
    assert checkpoint.config == config and checkpoint.status == TRAINED_HERE and checkpoint.extra == {"note": "cracks"}
    other = Model()
    load(other, checkpoint)
    assert same(other, model.state_dict()) and digest(other) == digest(model)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_parts_that_come_from_elsewhere_can_be_left_out(model, tmp_path):
    save(tmp_path / "weights.safetensors", model, {}, omit=("neck.",))
    checkpoint, other = read(tmp_path / "weights.safetensors"), Model()
    kept = other.neck.weight.clone()
    assert "2 missing (neck.weight, neck.bias)" in refused(tmp_path / "weights.safetensors", Model())
    load(other, checkpoint, omitted=("neck.",))
    assert torch.equal(other.neck.weight, kept)
    assert torch.equal(other.edge_detector.conv1.weight, model.edge_detector.conv1.weight)


def test_report_names_every_kind_of_difference(model):
    state = dict(model.state_dict())
    del state["neck.bias"]
    state["neck.weight"] = torch.zeros(5, 5)
    state["head.weight"] = torch.zeros(1)
    state["step"] = torch.zeros(())
    state["edge_detector.conv1.bias"] = torch.full((4,), torch.nan)
    state["edge_detector.canny.sobh.weight"] = torch.ones(1, 1, 3, 3)
    found = compare(model, state)
    assert found.missing == ("neck.bias",) and found.unexpected == ("head.weight",)
    assert found.misshapen == ("neck.weight 5x5 instead of 2x3",)
    assert found.invalid == (
        "step of type float32",
        "edge_detector.canny.sobh.weight is not the fixed filter",
        "edge_detector.conv1.bias holds NaN or infinity",
    )
    text = found.describe()
    for part in ("1 missing (neck.bias)", "1 unexpected (head.weight)", "1 misshapen", "3 invalid"):
        assert part in text
    assert not compare(model, model.state_dict())


def test_a_file_that_does_not_fit_leaves_the_model_alone(model, tmp_path):
    state = {name: value + 1 for name, value in model.state_dict().items() if name != "neck.bias"}
    torch.save(state, tmp_path / "weights.pth")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = refused(tmp_path / "weights.pth", model, hint="dha=vq needs it")
    assert "1 missing (neck.bias)" in message and "dha=vq needs it" in message
    assert same(model, before)


def test_unused_entries_must_be_announced(model, tmp_path):
    torch.save({**model.state_dict(), "neck.codebook": torch.zeros(3)}, tmp_path / "weights.pth")
    assert "1 unexpected (neck.codebook)" in refused(tmp_path / "weights.pth", model)
    load(model, read(tmp_path / "weights.pth"), unused=("neck.codebook",))


def test_truncated_and_corrupt_files(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    save(tmp_path / "whole.safetensors", model, {})
    for suffix in (".pth", ".safetensors"):
        content = (tmp_path / f"whole{suffix}").read_bytes()
        for name, damaged in (
            ("half", content[: len(content) // 2]),
            ("start", content[:20]),
            ("empty", b""),
            ("text", b"not weights at all, just words " * 50),
            ("page", b"<!DOCTYPE html><html>404</html>"),
            ("head", b"\xff" * 64 + content[64:]),
        ):
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(damaged)
            assert "damaged" in refused(path)


def test_absent_files_and_folders(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.pth")
    assert "is a folder" in refused(tmp_path)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], 7, {"state_dict": {}}])
def test_files_without_weights(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    assert "no state dict inside" in refused(tmp_path / "other.pth")


def test_code_in_a_file_never_runs(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Trap()}, tmp_path / "trap.pth")
    with contextlib.suppress(CheckpointError):
        read(tmp_path / "trap.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Trap()))
    refused(tmp_path / "raw.pth")
    assert not (tmp_path / "ran").exists()


def test_objects_of_training_frameworks_are_skipped(model, tmp_path):
    # A released file may hold histories and configurations of a framework that is not installed here.
    framework = types.ModuleType("absent_framework")

    class History:
        def __init__(self):
            self.values = [1, 2]

    History.__module__, History.__qualname__ = "absent_framework", "History"
    framework.History = History
    sys.modules["absent_framework"] = framework
    try:
        torch.save({"state_dict": model.state_dict(), "message_hub": {"loss": History()}}, tmp_path / "weights.pth")
    finally:
        del sys.modules["absent_framework"]
    other = Model()
    load(other, read(tmp_path / "weights.pth"))
    assert same(other, model.state_dict())


def test_half_precision_files_load_as_float32(model):
    state = {n: v.half() if v.is_floating_point() else v for n, v in model.state_dict().items()}
    state |= {n: v for n, v in model.state_dict().items() if ".canny." in n}
    load(model, Checkpoint("memory", state, RELEASED, None, {}))
    assert model.neck.weight.dtype == torch.float32


def test_digest_tells_weights_apart(model):
    state = dict(model.state_dict())
    base = digest(state)
    assert len(base) == 16 and int(base, 16) >= 0
    assert digest(dict(reversed(state.items()))) == base
    assert digest({**state, "neck.bias": state["neck.bias"] + 1e-7}) != base
    assert digest({**state, "neck.weight": state["neck.weight"].reshape(3, 2)}) != base
    assert digest({("x" + n): v for n, v in state.items()}) != base


def test_wrong_suffix_is_refused(model, tmp_path):
    with pytest.raises(CheckpointError, match="safetensors"):
        save(tmp_path / "weights.pth", model, {})


def test_released_layout_golden(tmp_path):
    # state_dict_spec.json: 432 entries; the rule fills them.
    from inter2former.build import build
    from inter2former.config import make_config

    spec = GOLDENS.read_json("state_dict_spec.json")
    model, _ = build(make_config("vit_b"))
    state = rule_state_dict()
    torch.save({"state_dict": state}, tmp_path / "released.pth")
    load(model, read(tmp_path / "released.pth"))
    assert len(state) == spec["count"] == len(model.state_dict())
    assert list(model.state_dict()) == [name for name, *_ in spec["state_dict"]]
    for part, count in spec["parameters"].items():
        assert sum(p.numel() for p in getattr(model, part).parameters()) == count, part


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"blocks": 10**9}, "blocks=1000000000 is not a whole number from 1 to 16"),
        ({"dim": 10**9}, "dim=1000000000 is not a whole number from 1 to 1024"),
        ({"experts": 0}, "experts=0 is not a whole number from 1 to 64"),
        ({"code_bits": 60}, "code_bits=60 is not a whole number from 1 to 12"),
        ({"hidden": True}, "hidden=True is not a whole number"),
        ({"edge_blocks": "x" * 10_000}, "edge_blocks=xxx"),
        ({"head": [96, 32, 16]}, "head=(96, 32, 16) is not four whole numbers from 1 to 1024"),
        ({"stem": 96}, "stem=96 is not four whole numbers"),
        ({"multiple": 0}, "multiple=0 is not a whole number from 1 to 4096"),
        ({"coarse_threshold": "x"}, "coarse_threshold=x is no number"),
    ],
)
def test_sizes_in_a_file_have_limits(tmp_path, sizes, told):
    """A file of a few bytes must not ask for a network that fills the memory."""
    from inter2former.config import ConfigError
    from inter2former.segmenter import Inter2FormerSegmenter

    path = tmp_path / "weights.safetensors"
    save(path, nn.Linear(1, 1), {"preset": "lite", **sizes})
    with pytest.raises(ConfigError) as caught:
        Inter2FormerSegmenter(preset="lite", weights=str(path))
    assert told in str(caught.value) and len(str(caught.value)) < 300
