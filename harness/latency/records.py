"""What a measuring child is asked and what it answers: one JSON line each, with the schema's number.

Nothing heavy is imported here: the child reads its job before it pins itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from harness.latency.contention import Load
from harness.records import BadRecord, read_as, require_schema

SCHEMA = 1
"""Form of the job, of the commands and of the answers."""

Answer = TypeVar("Answer", "Built", "Warmed", "Round")


@dataclass(frozen=True)
class Job:
    """What a child measures, the content of its job file.

    Attributes:
        config: of the segmenter, resolved, with `_target_`.
        threads: of torch and OpenCV.
        cpus: that it pins itself to.
        workload: path of the workload (`harness.latency.workload.save`).
        mode: where previous masks come from: auto, recorded or truth.
        path: Python path entries of the user's own modules.
        protocol: path of the pickled protocol; "": the default one.
        encodes: images whose encoding is timed in each round.
    """

    config: dict[str, Any]
    threads: int
    cpus: tuple[int, ...]
    workload: str
    mode: str = "auto"
    path: tuple[str, ...] = ()
    protocol: str = ""
    encodes: int = 2


@dataclass(frozen=True)
class Command:
    """One request to a child.

    Attributes:
        do: build the segmenter, warm it up, time one round, or end.
        limit_s: seconds that warming up may take.
        parts: a round with hooks, timed by part.
    """

    do: Literal["build", "warm", "round", "stop"]
    limit_s: float = 0.0
    parts: bool = False


@dataclass(frozen=True)
class Built:
    """Answer to `build`: the state of the weights, and the memory of the process."""

    weights_status: str
    rss_mb: float


@dataclass(frozen=True)
class Boundary:
    """Share of the image's tokens that lie on the boundary when a click (from 1) is answered, 0..1."""

    image: int
    click: int
    share: float


@dataclass(frozen=True)
class Warmed:
    """Answer to `warm`.

    Attributes:
        workload: where the previous masks come from, for the table.
        boundary: where the segmenter tells it.
        peak_mb: most memory of one episode beyond the bare process.
        settled: whether the median had settled when the time was up.
        round_s: time of the last round.
        warm_rounds: their number.
        rss_mb: memory of the process.
    """

    workload: str
    boundary: tuple[Boundary, ...]
    peak_mb: float
    settled: bool
    round_s: float
    warm_rounds: int
    rss_mb: float


@dataclass(frozen=True)
class Timing:
    """One timed step.

    Attributes:
        image: index in the workload.
        size_bin: of its object.
        click: from 1; 0: the encoding.
        ms: time of the step.
        simulate_ms: of the annotator after a click; None where it was not timed.
        parts: part -> ms, in the pass with hooks.
        joules: that the processor's packages took meanwhile; None where no counter was read.
    """

    image: int
    size_bin: str
    click: int
    ms: float
    simulate_ms: float | None = None
    parts: dict[str, float] = field(default_factory=dict)
    joules: float | None = None


@dataclass(frozen=True)
class Round:
    """Answer to `round`: one pass over the workload, and what else the machine did meanwhile."""

    timings: tuple[Timing, ...]
    load: Load


@dataclass(frozen=True)
class Failure:
    """Answer of a child that could not do what it was asked, with the reason for the table."""

    error: str


def line(record: Job | Command | Built | Warmed | Round | Failure) -> str:
    """A record as one line of JSON, without its end."""
    return json.dumps({"schema": SCHEMA, **asdict(record)})


def read_job(text: str | bytes) -> Job:
    """The job of a file.

    Raises:
        UnknownSchema: of another version.
        BadRecord: it is no job.
    """
    return read_as(Job, _content(text))


def read_command(text: str | bytes) -> Command:
    """The command of a line; raises as `read_job`."""
    return read_as(Command, _content(text))


def read_answer(kind: type[Answer], text: str | bytes) -> Answer | Failure:
    """The answer of a line, or the failure that the child told instead; raises as `read_job`."""
    content = _content(text)
    return read_as(Failure, content) if set(content) == {"error"} else read_as(kind, content)


def _content(text: str | bytes) -> dict[str, Any]:
    """The fields of a line, once its schema is known."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadRecord(f"not JSON ({' '.join(str(error).split())[:80]})") from error
    if not isinstance(value, dict):
        raise BadRecord(f"not a record but {type(value).__name__}")
    require_schema(value, (SCHEMA,))
    del value["schema"]
    return value
