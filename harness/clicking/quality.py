"""The quality pass: every variant clicks through every sample, each image encoded once per encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.clicking.limits import Guard
from harness.clicking.loop import Truth, encode, failed_episode, run_episode, run_groups
from harness.clicking.records import Episode, Result, Weights
from harness.datasets.loader import prefetch
from harness.errors import UserError
from harness.planning.config import build
from harness.protocol import Protocol
from harness.sample import Sample
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
        limit_s: time limit of a step (building, encoding, an episode), seconds; None: none.
    """

    variants: Mapping[str, dict[str, Any]]
    dataset: dict[str, Any]
    protocol: Protocol
    todo: Mapping[str, Sequence[str]]
    threads: int | None = None
    cells: Mapping[str, str] = field(default_factory=dict)
    limit_s: float | None = None


def run(
    work: Work,
    segmenters: Mapping[str, Segmenter] | None = None,
    dataset: Any = None,
    guard: Guard | None = None,
) -> Iterator[Result]:
    """Yield the episodes as they end; an error of a sample or a variant becomes an episode with `error`.

    Whatever a model raises is its own failure, `SystemExit` too; only the user's KeyboardInterrupt ends the pass.

    Args:
        segmenters: built ones; built here from their configuration when absent.
        dataset: a built one; built here when absent.
        guard: time limit and watch of every step; by default `work.limit_s` alone.
    """
    set_threads(work.threads)
    guard = guard or Guard(work.limit_s)
    if segmenters is None:
        segmenters = {}
        for variant in dict.fromkeys(v for variants in work.todo.values() for v in variants):
            built = build_segmenter(work.variants[variant], variant, guard)
            if isinstance(built, BaseException):
                yield from (Result(variant, failed_episode(n, built)) for n, vs in work.todo.items() if variant in vs)
            else:
                segmenters[variant] = built
    if dataset is None:
        dataset = build(work.dataset, "dataset")
    todo = {name: [v for v in variants if v in segmenters] for name, variants in work.todo.items()}
    todo = {name: variants for name, variants in todo.items() if variants}
    weights = {name: Weights.of(segmenter) for name, segmenter in segmenters.items()}
    for name, loaded in prefetch(dataset, list(todo)):
        truth = loaded if isinstance(loaded, Exception) else _truth(loaded)
        if isinstance(truth, BaseException):
            yield from (Result(v, failed_episode(name, truth), weights[v]) for v in todo[name])
            continue
        for members in by_encoder({v: segmenters[v] for v in todo[name]}):
            for variant, episode in _share_embedding(members, truth, work.protocol, guard):
                yield Result(variant, episode, weights[variant])


def build_segmenter(config: Mapping[str, Any], name: str, guard: Guard) -> Any:
    """The segmenter of a configuration, or what was raised instead of it."""
    try:
        with guard.step(name, ""):
            segmenter = build(config, f"variant {name!r}")
            Weights.of(segmenter)
            hash(segmenter.encoder_key)
            return segmenter
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error


def by_encoder(segmenters: Mapping[str, Segmenter]) -> list[dict[str, Segmenter]]:
    """Group variants that can share one embedding, in order of appearance."""
    groups: dict[str, dict[str, Segmenter]] = {}
    for name, segmenter in segmenters.items():
        groups.setdefault(segmenter.encoder_key, {})[name] = segmenter
    return list(groups.values())


def _truth(sample: Sample) -> Truth | BaseException:
    try:
        return Truth(sample)
    except Exception as error:
        return error


def _share_embedding(
    members: Mapping[str, Segmenter], truth: Truth, protocol: Protocol, guard: Guard
) -> Iterator[tuple[str, Episode]]:
    """Episodes of variants with one encoder; the first of them that can encodes for all that come after it."""
    sample = truth.sample
    embedding = encode_ms = None
    for variant, segmenter in members.items():
        try:
            if encode_ms is None:
                with guard.step(variant, sample.name):
                    embedding, encode_ms = encode(segmenter, sample.image)
            with guard.step(variant, sample.name):
                session = protocol.annotator.start(sample)
                episode = run_episode(segmenter, embedding, encode_ms, truth, session, protocol)
            groups = []
            for run_group in run_groups(segmenter, embedding, truth, protocol):
                with guard.step(variant, sample.name):  # each episode has the whole time limit
                    groups.append(run_group())
            episode = replace(episode, groups=tuple(groups))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            episode = failed_episode(sample.name, error)
        yield variant, episode


def set_threads(threads: int | None) -> None:
    """Limit torch's and OpenCV's threads in this process; UserError unless it is None or a whole number from 1."""
    if threads is None:
        return
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UserError(f"threads={threads}: give a whole number from 1, or null for all cores.")
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
