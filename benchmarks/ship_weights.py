"""Turn training runs into packaged weights: one encoder file, and one small file per decoder that names it as its base.

    python benchmarks/ship_weights.py ENCODER_RUN NAME=RUN [NAME=RUN ...] [--to inter2former/weights]

RUN is a folder of `harness.train` (or its weights.safetensors). Every run must have kept the encoder of ENCODER_RUN
as it was (training.freeze=[backbone.,edge_detector.], init=ENCODER_RUN/weights.safetensors); where one has not, this
stops.
Matrices and kernels are stored in float16, vectors in float32. The model cards (NAME.md) are written by hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from harness.training.checkpoints import halved
from inter2former.checkpoints import read_safetensors
from inter2former.segmenter import SHARED
from inter2former.weights import BASE, FOLDER

BASE_NAME = "lite-encoder"


def weights_of(run: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return entries and metadata of a run's weights."""
    path = Path(run)
    return read_safetensors(path / "weights.safetensors" if path.is_dir() else path)


def main() -> None:
    """Write the files; prints their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--to", type=Path, default=FOLDER)
    options = parser.parse_args()
    state, _ = weights_of(options.encoder)
    encoder = {name: value for name, value in state.items() if name.startswith(SHARED)}
    written = [(options.to / f"{BASE_NAME}.safetensors", encoder, {"weights_status": "trained here"})]
    for item in options.runs:
        name, run = item.split("=", 1)
        state, metadata = weights_of(run)
        for entry, value in state.items():
            if entry.startswith(SHARED) and not torch.equal(value, encoder.get(entry, value.new_empty(0))):
                sys.exit(f"{run}: {entry} differs from {options.encoder}; train with the encoder frozen")
        own = {entry: value for entry, value in state.items() if not entry.startswith(SHARED)}
        written.append((options.to / f"{name}.safetensors", own, {**metadata, BASE: BASE_NAME}))
    for path, entries, metadata in written:
        save_file({entry: halved(entry, value) for entry, value in entries.items()}, str(path), metadata)
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {len(entries)} entries")


if __name__ == "__main__":
    main()
