"""Loads samples ahead of the model, in order, never holding more than a few."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from harness.errors import SampleError
from harness.sample import Sample


class Loads(Protocol):
    """What the loader needs of a data set; `load` is called from several threads."""

    def load(self, name: str) -> Sample:
        """Read one sample; SampleError if it cannot be used."""
        ...


def prefetch(
    dataset: Loads, names: Sequence[str], workers: int = 2, ahead: int = 4
) -> Iterator[tuple[str, Sample | SampleError]]:
    """Yield (name, sample) in the order of `names`; a sample that cannot be loaded comes as its SampleError.

    Threads suffice: decoding releases the interpreter. At most `ahead` samples are loaded or being loaded beside the
    one that the caller works on. Closing the iterator drops what was loaded ahead.

    Args:
        workers: threads; 0: load in the caller's thread.
        ahead: samples in flight.
    """
    if workers <= 0:
        yield from ((name, load(dataset, name)) for name in names)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    waiting: deque[tuple[str, Future[Sample | SampleError]]] = deque()
    rest = iter(names)
    try:
        for name in rest:
            waiting.append((name, pool.submit(load, dataset, name)))
            if len(waiting) >= max(1, ahead):
                yield _next(waiting)
        while waiting:
            yield _next(waiting)
    finally:
        for _, future in waiting:
            future.cancel()
        pool.shutdown(wait=True)


def _next(waiting: deque[tuple[str, Future[Sample | SampleError]]]) -> tuple[str, Sample | SampleError]:
    name, future = waiting.popleft()
    return name, future.result()


def load(dataset: Loads, name: str) -> Sample | SampleError:
    """One sample, or why it cannot be used; never raises."""
    try:
        return dataset.load(name)
    except SampleError as error:
        return error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        # A bug in one file's decoder must not end a sweep of thousands of images.
        text = " ".join(str(error).split())
        return SampleError(f"{name}: {type(error).__name__}: {text}" + _file_of(dataset, name))


def _file_of(dataset: Any, name: str) -> str:
    entry = getattr(dataset, "entries", {}).get(name)
    return f" ({entry.image}, {entry.mask}); fetch the pair again or remove it" if entry is not None else ""
