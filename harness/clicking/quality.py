"""The quality pass: every variant clicks through every sample, each image encoded once per encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.clicking.loop import Truth, encode, failed_episode, run_episode
from harness.datasets.loader import prefetch
from harness.planning.config import build
from harness.protocol import Protocol
from harness.segmenter import Segmenter


@dataclass(frozen=True)
class Work:
    """A share of the quality pass that a process can do by itself.

    Attributes:
        variants: name -> configuration with `_target_`.
        dataset: configuration of the data set.
        protocol: the protocol.
        todo: sample -> names of the variants that still lack it.
        threads: torch threads, or None for all cores.
        cells: variant -> key of the cell that its episodes belong to.
    """

    variants: Mapping[str, dict[str, Any]]
    dataset: dict[str, Any]
    protocol: Protocol
    todo: Mapping[str, Sequence[str]]
    threads: int | None = None
    cells: Mapping[str, str] = field(default_factory=dict)


def run(
    work: Work, segmenters: Mapping[str, Segmenter] | None = None, dataset: Any = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (variant, episode) as they end; an error of a sample or a variant becomes an episode with `error`.

    Args:
        segmenters: built ones; built here from their configuration when absent.
        dataset: a built one; built here when absent.
    """
    set_threads(work.threads)
    if segmenters is None:
        segmenters = {name: build(config, f"variant {name!r}") for name, config in work.variants.items()}
    if dataset is None:
        dataset = build(work.dataset, "dataset")
    for name, loaded in prefetch(dataset, list(work.todo)):
        wanted = work.todo[name]
        if isinstance(loaded, Exception):
            yield from ((variant, failed_episode(name, loaded)) for variant in wanted)
            continue
        truth = Truth(loaded)
        for members in by_encoder({v: segmenters[v] for v in wanted}):
            yield from _share_embedding(members, truth, work.protocol)


def by_encoder(segmenters: Mapping[str, Segmenter]) -> list[dict[str, Segmenter]]:
    """Group variants that can share one embedding, in order of appearance."""
    groups: dict[str, dict[str, Segmenter]] = {}
    for name, segmenter in segmenters.items():
        groups.setdefault(segmenter.encoder_key, {})[name] = segmenter
    return list(groups.values())


def _share_embedding(
    members: Mapping[str, Segmenter], truth: Truth, protocol: Protocol
) -> Iterator[tuple[str, dict[str, Any]]]:
    sample = truth.sample
    try:
        embedding, encode_ms = encode(next(iter(members.values())), sample.image)
    except Exception as error:
        yield from ((variant, failed_episode(sample.name, error)) for variant in members)
        return
    for variant, segmenter in members.items():
        try:
            episode = run_episode(segmenter, embedding, encode_ms, truth, protocol.annotator.start(sample), protocol)
        except Exception as error:
            episode = failed_episode(sample.name, error)
        yield variant, episode


def set_threads(threads: int | None) -> None:
    """Limit torch's and OpenCV's threads in this process."""
    if threads is None:
        return
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
