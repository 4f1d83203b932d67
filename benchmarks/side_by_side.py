"""Times each system's encode and click against its reference implementation, alternating in one process.

    python benchmarks/side_by_side.py [--threads 1] [--rounds 15] [--only mobilesam,sam2_1_hiera_tiny] [--json FILE]

The reference of SAM 2.1 is transformers' own `Sam2Model`; of the others the plain transcription that the tests hold the
network to, run in float32 on the same weights. To reach: click at most 1.1 of it, encode at most 1.0. Printed: the
median of the ratios within rounds with its 95 % interval. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "baselines"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import focalclick_reference
import transcriptions_sam as plain
from transcriptions_simpleclick import simpleclick

from baselines import _segformer, focalclick
from baselines._sam2_build import SAM2
from baselines._simpleclick_net import LAYOUTS
from baselines.efficientsam import EfficientSam
from baselines.focalclick import FocalClick
from baselines.mobilesam import MobileSam
from baselines.sam import ARCHITECTURES, Sam
from baselines.sam2 import Sam2
from baselines.simpleclick import SimpleClick
from harness.latency.stats import Interval, ratio_interval

_position = plain.position
_grid = plain.grid_position
_codes: dict[int, Tensor] = {}
_MATRIX = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def position(points: Tensor, state: dict[str, Tensor]) -> Tensor:
    """The transcription's code of points, in the numbers that the weights have."""
    return _position(points.to(state[_MATRIX].dtype), state)


def grid_position(side: int, state: dict[str, Tensor]) -> Tensor:
    """The transcription's code of the grid, kept: it belongs to the encoding, which no click should pay for."""
    if side not in _codes:
        _codes[side] = _grid(side, state)
    return _codes[side]


plain.position, plain.grid_position = position, grid_position

LIMITS = {"encode": 1.0, "click": 1.1}
Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """One piece of work, done by ours and by the reference; `what` is encode or click."""

    system: str
    what: str
    ours: Work
    reference: Work


def image_of(size: int) -> Tensor:
    """A normalised network input (1, 3, size, size)."""
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def simpleclick_pairs(variant: str) -> Iterator[Pair]:
    """One forward of image and mirror image at 448; nothing is encoded before."""
    net = SimpleClick(variant).module
    state, layout = dict(net.state_dict()), LAYOUTS[variant]
    image, maps = image_of(448).repeat(2, 1, 1, 1), torch.rand(2, 3, 448, 448)
    depth, heads = len(net.backbone.blocks), layout.heads
    group = 6 if depth == 12 else depth // 4
    whole = tuple(range(group, depth + 1, group))
    reference = lambda: simpleclick(image, maps, state, heads, whole)  # noqa: E731
    yield Pair(f"simpleclick_{variant}", "click", lambda: net(image, maps), reference)


def focalclick_pairs(model: str) -> Iterator[Pair]:
    """The coarse network of one click at 256; the refiner's transcription loops in Python and is no measure."""
    net = FocalClick(model).module
    prefix = "feature_extractor."
    state = {k.removeprefix(prefix): v for k, v in net.state_dict().items() if k.startswith(prefix)}
    image, prompts = image_of(256), torch.rand(1, 3, 256, 256)
    depths = _segformer.SIZES[focalclick.ARCHITECTURES[model].backbone].depths

    def reference() -> None:
        logits, _ = focalclick_reference.segformer(state, image, prompts, depths)
        focalclick_reference.resize(logits, 256, True)

    yield Pair(f"focalclick_{model}", "click", lambda: net.coarse(image, prompts), reference)


def sam_pairs(name: str) -> Iterator[Pair]:
    """MobileSAM or SAM ViT-B at 1024: the image encoder, and a third click with the last mask."""
    owner = MobileSam() if name == "mobilesam" else Sam("vit_b")
    net = owner.module
    state = official(dict(net.state_dict()))
    image, previous = image_of(1024), torch.randn(1, 1, 256, 256)
    if name == "mobilesam":
        yield Pair(name, "encode", lambda: net.encode(image), lambda: plain.tinyvit(image, state))
    else:
        sizes = ARCHITECTURES["vit_b"]
        reference = lambda: plain.sam_encoder(image, state, sizes.heads, sizes.whole)  # noqa: E731
        yield Pair(name, "encode", lambda: net.encode(image), reference)
    encoded = net.encode(image)
    places = torch.tensor([[100.0, 200.0], [300.0, 400.0], [500.0, 60.0]])
    kinds = torch.tensor([1, 0, 1])

    def transcribed() -> None:
        sparse, dense = plain.sam_prompts(places.flip(1), kinds, previous, 64, state)
        plain.sam_decoder(encoded.image, sparse.float(), dense, state)

    yield Pair(name, "click", lambda: net.decode(encoded, places[None], kinds[None], previous), transcribed)


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries under the released names, which the transcription has."""
    from sam_tiny import official_name

    return {official_name(key): value for key, value in state.items()}


def efficientsam_pairs(model: str) -> Iterator[Pair]:
    """Encoder at 1024, and a click of three points."""
    net = EfficientSam(model).module
    state, image = dict(net.state_dict()), image_of(1024)
    name = f"efficientsam_{model}"
    yield Pair(name, "encode", lambda: net.image_encoder(image), lambda: plain.efficient_encoder(image, state))
    embedding, code = net.image_encoder(image), net.prompt_encoder.pe_layer.grid(64, 64)
    clicks = [(10.5, 20.25, 1), (3.0, 60.0, 0), (44.0, 33.0, 1)]
    points, labels = torch.full((1, 6, 2), -1.0), torch.full((1, 6), -1)
    for number, (x, y, label) in enumerate(clicks):
        points[0, number], labels[0, number] = torch.tensor([y, x]), label
    ours = lambda: net.decode(embedding, code, points, labels)  # noqa: E731

    def transcribed() -> None:
        plain.efficient_decoder(embedding, plain.efficient_points(clicks, 1024, state).float(), state)

    yield Pair(name, "click", ours, transcribed)


def sam2_pairs(model: str) -> Iterator[Pair]:
    """Image features at 1024, and a third click with the last mask, by `Sam2Model`'s own call."""
    owner = Sam2(model)
    net, image = owner.module, image_of(SAM2.size)
    name = f"sam2_1_{model}"
    yield Pair(name, "encode", lambda: net.get_image_embeddings(image), lambda: net.get_image_features(image))
    from baselines.sam2 import Embedding

    *fine, coarse = net.get_image_embeddings(image)
    embedding = Embedding(tuple(fine), coarse, net.get_image_wide_positional_embeddings(), 256, 256)
    previous = torch.randn(1, 1, 256, 256)
    points = torch.tensor([[[[100.0, 200.0], [300.0, 400.0], [500.0, 60.0]]]])
    labels = torch.tensor([[[1, 0, 1]]])
    session = owner.start(embedding)
    session.points, session.labels = [(100.0, 200.0), (300.0, 400.0), (500.0, 60.0)], [1, 0, 1]

    def ours() -> None:
        session.previous = previous
        session.click(None)

    def reference() -> None:
        net(
            image_embeddings=[*fine, coarse], input_points=points, input_labels=labels, input_masks=previous,
            multimask_output=False,
        )  # fmt: skip

    yield Pair(name, "click", ours, reference)


SYSTEMS: dict[str, Callable[[], Iterator[Pair]]] = {
    "simpleclick_vit_xtiny": lambda: simpleclick_pairs("vit_xtiny"),
    "simpleclick_vit_b": lambda: simpleclick_pairs("vit_b"),
    "focalclick_segformer_b0_s2": lambda: focalclick_pairs("segformer_b0_s2"),
    "focalclick_segformer_b3_s2": lambda: focalclick_pairs("segformer_b3_s2"),
    "mobilesam": lambda: sam_pairs("mobilesam"),
    "sam_vit_b": lambda: sam_pairs("sam_vit_b"),
    "efficientsam_ti": lambda: efficientsam_pairs("ti"),
    "efficientsam_s": lambda: efficientsam_pairs("s"),
    "sam2_1_hiera_tiny": lambda: sam2_pairs("hiera_tiny"),
    "sam2_1_hiera_small": lambda: sam2_pairs("hiera_small"),
}


@torch.inference_mode()
def measure(pair: Pair, rounds: int) -> tuple[Interval, float, float]:
    """Interval of ours over the reference, and the two medians in ms; who begins a round is drawn."""
    order, times = random.Random(0), ([], [])  # type: tuple[random.Random, tuple[list[float], list[float]]]
    for number in range(rounds + 1):
        for side in order.sample((0, 1), 2):
            begin = time.perf_counter()
            (pair.ours, pair.reference)[side]()
            if number:  # the first round warms up
                times[side].append(1e3 * (time.perf_counter() - begin))
    middle = [sorted(values)[len(values) // 2] for values in times]
    return ratio_interval(*times), middle[0], middle[1]


def main() -> None:
    """Measure what was asked for and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default=",".join(SYSTEMS))
    parser.add_argument("--what", choices=list(LIMITS), help="only this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.only.split(","):
        for pair in SYSTEMS[name]():
            if options.what not in (None, pair.what):
                continue
            ratio, ours, theirs = measure(pair, options.rounds)
            reached = "reached" if ratio.median <= LIMITS[pair.what] else "MISSED"
            rows.append({"system": pair.system, "what": pair.what, "ratio": ratio.median, "low": ratio.low,
                         "high": ratio.high, "ours_ms": ours, "reference_ms": theirs})  # fmt: skip
            print(
                f"{pair.system:28s} {pair.what:7s} {ratio.median:6.3f} ({ratio.low:.3f} to {ratio.high:.3f})  "
                f"{ours:9.1f} ms, reference {theirs:9.1f} ms  at most {LIMITS[pair.what]}: {reached}",
                flush=True,
            )
    if options.json:
        options.json.write_text(
            json.dumps({"threads": options.threads, "torch": torch.__version__, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
