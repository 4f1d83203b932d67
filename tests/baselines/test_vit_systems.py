"""What holds for SegNext, InterFormer and HRSAM at any weights: cost, sizes, episodes, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines import _scan
from baselines._weights import WeightsError
from baselines.hrsam import HRSAM, HRSAMNet
from baselines.interformer import InterFormer, InterFormerNet
from baselines.segnext import SegNext, SegNextNet
from tests.baselines.sessions import Click, last_mask_decides, photograph

SYSTEMS = {
    "segnext": lambda **more: SegNext("sax1", size=224, **more),
    "interformer": lambda **more: InterFormer(**more),
    "hrsam": lambda **more: HRSAM("hrsam", size=128, **more),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request) -> tuple[str, Any]:
    return request.param, SYSTEMS[request.param]()


def gmacs(compute) -> tuple[Any, float]:
    """Return a result and the multiply-adds of its matrix products and convolutions in 1e9, counted by torch."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = compute()
    return result, counter.get_total_flops() / 2e9


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def test_segnext_costs_what_its_specification_says():
    """segnext.md: 466.3 GMACs once per image at 1024; per click 158.9 (sax2), 104.2 (sax1)."""
    with torch.device("meta"):
        net, small = SegNextNet(2, 1024), SegNextNet(1, 1024)
    assert gmacs(lambda: net.backbone(empty(1, 3, 1024, 1024)))[1] == pytest.approx(466.3, rel=1e-3)
    for model, expected in ((net, 158.9), (small, 104.2)):
        cost = gmacs(lambda model=model: model.decode(empty(1, 4096, 768), empty(1, 3, 1024, 1024)))[1]
        assert cost == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("size", "once", "click"), [(512, 112.3, 5.4), (1024, 680.7, 22.0)])
def test_interformer_costs_what_its_specification_says(size, once, click):
    """interformer.md; its 22.0 count the label table as a product with a one-hot map: size^2 * 5 * 32."""
    with torch.device("meta"):
        net = InterFormerNet()
    pyramid, cost = gmacs(lambda: net.backbone(empty(1, 3, size, size)))
    assert cost == pytest.approx(once, rel=1e-3)
    stored = net.neck.pool(pyramid)
    labels = empty(1, size, size, dtype=torch.uint8)
    cost = gmacs(lambda: net.decode(pyramid[0], stored, labels))[1]
    assert cost == pytest.approx(click, rel=1e-2)
    assert cost + size**2 * 5 * 32 / 1e9 == pytest.approx(click, abs=0.06)


@pytest.mark.parametrize(("plusplus", "once"), [(False, 450.4), (True, 626.3)])
def test_hrsam_costs_what_its_specification_says(plusplus, once, monkeypatch):
    """hrsam.md: products and convolutions without the recurrence; 1.85 GMACs per click with three clicks."""
    with torch.device("meta"):
        net, lean = HRSAMNet(plusplus), HRSAMNet(plusplus, skip_padded=True)
    monkeypatch.setattr(_scan, "cycle_scan", lambda x, *_: x)
    image = empty(1, 3, 1024, 1024)
    embedding, cost = gmacs(lambda: net.backbone(image))
    assert cost == pytest.approx(once, rel=1e-3)
    # Of 80 x 80 cells of the odd blocks 4096 are tokens (++: of 48 x 48 further ones 1024); qkv and output projection
    # of the others are saved, but for the one learned vector.
    padded = 6 * (80**2 - 64**2 + (48**2 - 32**2 if plusplus else 0)) * 4 * 768**2 / 1e9
    assert gmacs(lambda: lean.backbone(image))[1] == pytest.approx(once - padded, rel=1e-3)
    points, kinds = torch.zeros(1, 3, 2, device="meta"), torch.ones(1, 3, dtype=torch.int64, device="meta")
    previous = empty(1, 1, 256, 256)
    cost = gmacs(lambda: net.decode(embedding, embedding, points, kinds, previous))[1]
    assert cost == pytest.approx(1.85, rel=1e-2)


def test_attributes(system):
    _, segmenter = system
    assert segmenter.weights_status == "untrained"
    assert len(segmenter.weights_digest) == 16
    assert segmenter.parameters == sum(p.numel() for p in segmenter.module.parameters())
    names = {id(part) for part in segmenter.module.modules()}
    assert segmenter.parts and all(id(part) in names for part in segmenter.parts.values())


@pytest.mark.parametrize("size", [(1, 1), (7, 200), (130, 33)])
def test_every_image_size(system, size):
    _, segmenter = system
    session = segmenter.start(segmenter.encode(photograph(*size)))
    for click in (Click(size[0] - 1, size[1] - 1, True), Click(0, 0, False), None):
        scores = session.click(click)
        assert scores.shape == size and scores.dtype == np.float32 and np.isfinite(scores).all()


def test_episodes_are_deterministic_and_apart(system):
    """The same clicks give the same bits, a second session on the embedding sees nothing of the first."""
    _, segmenter = system
    embedding = segmenter.encode(photograph(60, 90))
    clicks = [Click(30, 40, True), Click(5, 80, False), None]
    first = segmenter.start(embedding)
    kept = [first.click(click) for click in clicks]
    copies = [scores.copy() for scores in kept]
    second = segmenter.start(embedding)
    for earlier, copy, click in zip(kept, copies, clicks, strict=True):
        assert (second.click(click) == copy).all()
        assert (earlier == copy).all(), "a later click changed scores that were handed out"
    assert (copies[0] != copies[1]).any()


def test_a_replaced_prediction_stands_for_the_last_answer(system):
    """Only the last mask put there decides about the next answer; the opposite mask gives another one."""
    _, segmenter = system
    last_mask_decides(segmenter)


def test_where_a_replaced_prediction_lies(system):
    """Hand counts: SegNext reads it as it is; HRSAM at a quarter of its input (scale 1, padding from 100 to 128 off the
    object); InterFormer's labels become 3 on and 1 off the mask, and 4 stays where it was clicked."""
    name, segmenter = system
    mask = np.zeros((100, 128), dtype=bool)
    mask[20:48, 32:80] = True
    session = segmenter.start(segmenter.encode(photograph(100, 128)))
    if name == "interformer":
        session.click(Click(30, 40, True))
        clicked = session.labels.numpy() == 4
        assert clicked.sum() == 81
        expected = np.ones((128, 128))
        expected[:100][mask] = 3
        expected[clicked] = 4
    elif name == "hrsam":
        expected = np.full((32, 32), -10.0)
        expected[5:12, 8:20] = 10.0
    else:
        expected = mask
    session.replace_prediction(mask)
    found = session.labels if name == "interformer" else session.previous[0, 0]
    np.testing.assert_array_equal(found.numpy(), expected)


def test_sessions_without_a_click_or_with_the_first_negative(system):
    _, segmenter = system
    embedding = segmenter.encode(photograph(40, 40))
    assert np.isfinite(segmenter.start(embedding).click(None)).all()
    assert np.isfinite(segmenter.start(embedding).click(Click(20, 20, False))).all()


def test_a_batch_equals_its_samples(system):
    """The networks take batches; windows, norms and scans stay within a sample."""
    name, segmenter = system
    net, size = segmenter.module, 224 if name == "segnext" else 128
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, size, size, generator=generator)
    labels = torch.randint(0, 5, (2, size, size), dtype=torch.uint8, generator=generator)
    prompts = torch.rand(2, 3, size, size, generator=generator)

    def compute(part: slice) -> torch.Tensor:
        if name == "hrsam":
            return net.backbone(images[part])
        if name == "segnext":
            return net.decode(net.backbone(images[part]), prompts[part])
        pyramid = net.backbone(images[part])
        return net.decode(pyramid[0], net.neck.pool(pyramid), labels[part])

    both = compute(slice(2))
    for number in range(2):
        torch.testing.assert_close(both[number], compute(slice(number, number + 1))[0], atol=2e-4, rtol=1e-4)


def test_saved_weights_give_the_same_scores(system, tmp_path):
    """Through our own file; for one system also through a wrapped .pth with foreign objects beside the weights."""
    name, segmenter = system
    image, click = photograph(50, 70), Click(20, 30, True)
    expected = segmenter.start(segmenter.encode(image)).click(click)
    files = {"untrained": tmp_path / "own.safetensors"}
    segmenter.save(str(files["untrained"]))
    if name == "interformer":  # the one whose released file has entries that follow from the architecture
        files["released"] = tmp_path / "released.pth"
        state = {f"module.{key}": value for key, value in segmenter.module.state_dict().items()}
        state["module.backbone.layers.0.attn.relative_position_index"] = torch.zeros(3, 3, dtype=torch.int64)
        torch.save({"meta": {"where": Path("x"), "epoch": np.int64(3)}, "state_dict": state}, files["released"])
    for status, file in files.items():
        loaded = SYSTEMS[name](weights=str(file), seed=5)
        assert loaded.weights_status == status
        assert loaded.weights_digest == segmenter.weights_digest
        assert loaded.encoder_key == segmenter.encoder_key
        assert (loaded.start(loaded.encode(image)).click(click) == expected).all()
        file.unlink()


def test_weights_that_do_not_fit_end_in_one_line(system, tmp_path):
    name, segmenter = system
    key = next(key for key, value in segmenter.module.state_dict().items() if value.ndim == 2)
    small = {"net.weight": torch.zeros(3), key: torch.zeros(2, 2)}
    torch.save(small, tmp_path / "other.pth")
    whole = (tmp_path / "other.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.safetensors").write_text("not weights at all")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    expected = {
        "absent.pth": "does not exist",
        ".": "is a folder",
        "cut.pth": "cannot be read",
        "text.safetensors": "cannot be read",
        "empty.pth": "no tensors",
        "other.pth": "expected keys are missing",
    }
    for file, words in expected.items():
        with pytest.raises(WeightsError, match=words) as error:
            SYSTEMS[name](weights=str(tmp_path / file))
        assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    assert key in str(error.value) and "net.weight" in str(error.value) and "(2, 2)" in str(error.value)


def test_a_weight_file_runs_no_code(tmp_path):
    """A pickle that would create a file when it is read by Python's own unpickler does not do so here."""

    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "made",)

    torch.save({"state_dict": {"a": torch.zeros(1)}, "more": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(WeightsError, match="missing"):
        InterFormer(weights=str(tmp_path / "harmful.pth"))
    assert not (tmp_path / "made").exists()


def test_variants_share_an_encoder_where_they_can():
    """sax1 and sax2 have one backbone, and equal seeds give equal values whatever else a model holds."""
    one, two = SegNext("sax1", size=224), SegNext("sax2", size=224)
    assert one.encoder_key == two.encoder_key
    assert one.weights_digest != two.weights_digest


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SegNext("sax3"), "sax1 or sax2"),
        (lambda: SegNext(size=160), "choose 512 or 1024"),
        (lambda: InterFormer("tiny"), "choose light"),
        (lambda: HRSAM("hrsam3"), "hrsam or hrsam_plusplus"),
        (lambda: HRSAM(size=100), "multiple of 16"),
        (lambda: HRSAM(channels="gbr"), "rgb or bgr"),
    ],
)
def test_unknown_settings_name_what_is_allowed(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_images_of_the_wrong_kind(system):
    _, segmenter = system
    with pytest.raises(ValueError, match=r"need \(H, W, 3\) uint8"):
        segmenter.encode(np.zeros((20, 20), np.uint8))
    with pytest.raises(ValueError, match=r"need \(H, W, 3\) uint8"):
        segmenter.encode(np.zeros((20, 20, 3), np.float32))
