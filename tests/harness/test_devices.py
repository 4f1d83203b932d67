"""Asynchronous devices: a model that does not say how to wait for its device gets no times."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_segmenters import Tiny

from harness.latency import devices
from harness.latency.replay import Replay
from harness.latency.workload import compose
from harness.sample import Sample


def elsewhere(kind: str) -> Tiny:
    """A model whose parameters, tensors or named device are not on the CPU; "meta" stands in for a GPU."""
    segmenter = Tiny()
    if kind == "module":
        segmenter.module = segmenter.module.to("meta")
    elif kind == "nested":
        segmenter.parts = {"encoder": torch.nn.Linear(2, 2, device="meta")}
    elif kind == "tensor":
        segmenter.table = torch.empty(3, device="meta")
    elif kind == "text":
        segmenter.device = "cuda:0"
    elif kind == "device":
        segmenter.device = torch.device("mps")
    return segmenter


@pytest.mark.parametrize("kind", ["module", "nested", "tensor", "text", "device"])
def test_a_model_on_another_device_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"computes on .*synchronise\(\)"):
        Replay(elsewhere(kind), [])


def test_a_model_on_the_cpu_waits_for_nothing() -> None:
    segmenter = Tiny()
    segmenter.device = "cpu"
    assert devices.waiting(segmenter)() is None
    assert devices.waiting(SimpleNamespace(encoder_key="no torch at all"))() is None


def test_the_time_of_the_device_is_part_of_every_step() -> None:
    """A device that is done 30 ms after the call: without waiting, encode looked free."""

    class Queued(Tiny):
        calls = 0

        def synchronise(self) -> None:
            Queued.calls += 1
            time.sleep(0.03)

    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    episodes = compose([Sample("s", np.full((64, 64, 3), 90, np.uint8), mask)], 1, 64, 2)
    replay = Replay(Queued(), episodes)
    replay.record()
    replay.keep()
    Queued.calls = 0
    steps = replay.once()
    assert [step.click for step in steps] == [0, 1, 2, 3]
    assert Queued.calls == 4 and all(step.ms >= 30 for step in steps)
