"""FLOPs of every variant per part and click kind, following the routing of each input."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.flops.counter import OTHER, TOTAL, Count, NotCountable, UnknownOperator, count
from harness.latency import workload
from harness.latency.replay import Replay
from harness.protocol import Protocol
from harness.sample import Sample

ALL = "all"
POSITIONS = (1, 2, 3, 5, 10, 20)
"""Clicks of an episode that are counted, and its last one; each stands for those that it is nearest to."""
COLUMNS = [
    "variant", "resolution", "part", "kind", "size_bin", "gmacs", "gflops", "mbytes", "counted", "workload",
    "weights_status", "parameters", "error",
]  # fmt: skip


def measure(
    variants: Mapping[str, Mapping[str, Any]],
    samples: Sequence[Sample],
    options: Mapping[str, Any],
    *,
    segmenters: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
    protocol: Protocol = workload.DEFAULT,
) -> pd.DataFrame:
    """Count every variant on the workload of the latency measurement.

    Args:
        variants: name -> resolved configuration with `_target_`.
        samples: candidates for the workload.
        options: the `measure` configuration: `resolutions`, `samples`, `later_clicks`, `workload` are used.
        segmenters: already built segmenters by variant name; the others are built and freed one by one.
        progress: called with one line of text before each variant.
        protocol: whose annotator clicks, and whose threshold makes masks of scores.

    Returns:
        The rows of flops.csv: part ``total``, ``other`` and each of the segmenter's parts; kind ``encode``, ``first``,
        ``later`` (mean over the later clicks, of which `POSITIONS` are counted); size_bin of the object or ``all``
        (mean over the images). `gmacs` are multiply-accumulates of products in 1e9, `gflops` two per MAC plus other
        arithmetic; `parameters` is the number of weights, 0 where there are none. A variant without `module` and
        `parts`, or with an operator of unknown cost, has one row with the reason in `error`.
    """
    rows: list[dict[str, Any]] = []
    encoders: dict[tuple[str, int], list[Encoded]] = {}
    for name, config in variants.items():
        if progress:
            progress(f"FLOPs of {name}")
        for resolution in options.get("resolutions", [512]):
            common: dict[str, Any] = {"variant": name, "resolution": resolution, "error": ""}
            try:
                segmenter = (segmenters or {}).get(name) or _build(config)
                count_, later = int(options.get("samples", 2)), int(options.get("later_clicks", 2))
                episodes = workload.compose(samples, count_, int(resolution), later, protocol)
                replay = Replay(segmenter, episodes, str(options.get("workload", "auto")), protocol)
                encoder = (segmenter.encoder_key, int(resolution))
                for other in [key for key in encoders if key[0] != encoder[0]]:
                    del encoders[other]  # embeddings are large: those of one encoder at a time
                rows += _rows(segmenter, replay, common, encoders.setdefault(encoder, []))
            except Exception as error:  # one variant must not end the measurement of the others
                kind = "" if isinstance(error, (UnknownOperator, NotCountable)) else f"{type(error).__name__}: "
                reason = kind + " ".join(str(error).split())
                rows.append({**common, "part": TOTAL, "kind": "", "size_bin": ALL, "error": reason})
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class Encoded:
    """An image's embedding, which all variants with one encoder share, and the counts of making it by part."""

    embedding: Any
    counts: dict[str, Count]


def count_encode(segmenter: Any, image: np.ndarray) -> Encoded:
    """Encode an image and count it; raises as `count_clicks` does."""
    embedding, counts = _counted(lambda: segmenter.encode(image), segmenter)
    return Encoded(embedding, counts)


def count_clicks(segmenter: Any, replay: Replay, index: int, embedding: Any) -> dict[int, dict[str, Count]]:
    """Click (from 1) -> counts by part, of the clicks of one episode that `counted_clicks` names.

    Args:
        segmenter: with `module` or `parts`.
        replay: the workload on this segmenter, recorded.
        index: which episode.
        embedding: of its image.

    Raises:
        UnknownOperator: an operator without a known cost.
        NotCountable: the segmenter names no torch modules.
    """
    session = segmenter.start(embedding)
    counts: dict[int, dict[str, Count]] = {}
    chosen = counted_clicks(len(replay.clicks[index]))
    for k, click in enumerate(replay.clicks[index]):
        if k:
            replay.prepare(session, replay.episodes[index], k)
        if k + 1 in chosen:
            counts[k + 1] = _counted(functools.partial(session.click, click), segmenter)[1]
        else:
            session.click(click)
    return counts


def counted_clicks(length: int) -> dict[int, int]:
    """Clicks (from 1) of an episode that are counted -> how many clicks of the episode each stands for.

    The first stands for itself; a later one for those later clicks that it is the nearest to.

    >>> counted_clicks(20)
    {1: 1, 2: 1, 3: 2, 5: 3, 10: 8, 20: 5}
    """
    chosen = sorted({p for p in (*POSITIONS, length) if p <= length})
    later = [p for p in chosen if p > 1]
    stands = dict.fromkeys(chosen, 0) | {1: 1}
    for click in range(2, length + 1):
        stands[min(later, key=lambda p: (abs(p - click), p))] += 1
    return stands


def _counted(call: Callable[[], Any], segmenter: Any) -> tuple[Any, dict[str, Count]]:
    module, parts = getattr(segmenter, "module", None), dict(getattr(segmenter, "parts", None) or {})
    if module is None and not parts:
        raise NotCountable("not a torch model: FLOPs do not apply (segmenter.module is None)")
    result: list[Any] = []
    counts = count(lambda: result.append(call()), module, parts)
    return result[-1], counts


def _rows(segmenter: Any, replay: Replay, common: dict[str, Any], encoded: list[Encoded]) -> list[dict[str, Any]]:
    """The rows of one variant; `encoded`: of the images, as far as its encoder has seen them; the others are added."""
    if any(set(image.counts) != _part_names(segmenter) for image in encoded):
        encoded.clear()  # one encoder, but other parts
    replay.embeddings = [image.embedding for image in encoded]
    replay.record()  # also fills what a model derives from its weights once and keeps
    by_kind: dict[tuple[str, str], list[dict[str, Count]]] = {}
    for index, episode in enumerate(replay.episodes):
        if index == len(encoded):
            encoded.append(count_encode(segmenter, episode.image))
        by_kind.setdefault(("encode", ALL), []).append(encoded[index].counts)
        stands = counted_clicks(len(replay.clicks[index]))
        for click, counts in count_clicks(segmenter, replay, index, encoded[index].embedding).items():
            for in_bin in (ALL, episode.size_bin):
                kind = "first" if click == 1 else "later"
                by_kind.setdefault((kind, in_bin), []).extend([counts] * stands[click])
    rows = []
    for (kind, in_bin), many in by_kind.items():
        for part in many[0]:
            total = sum((counts[part] for counts in many), Count())
            if part not in (TOTAL, OTHER) and total == Count():
                continue
            rows.append({
                **common, "part": part, "kind": kind, "size_bin": in_bin, "gmacs": total.macs / len(many) / 1e9,
                "gflops": total.flops / len(many) / 1e9, "mbytes": total.bytes / len(many) / 1e6, "counted":
                len(many), "workload": replay.description, "weights_status": getattr(segmenter, "weights_status", ""),
                "parameters": int(getattr(segmenter, "parameters", 0) or 0),
            })  # fmt: skip
    return rows


def _part_names(segmenter: Any) -> set[str]:
    return {*(getattr(segmenter, "parts", None) or {}), TOTAL, OTHER}


def _build(config: Mapping[str, Any]) -> Any:
    from hydra.utils import instantiate

    return instantiate(dict(config), _convert_="all")
