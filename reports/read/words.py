"""Names as they stand in captions, legends and file names."""

from __future__ import annotations

from reports.read.runs import Run


def label(run: Run, variant: str) -> str:
    """Name in a legend; random weights are always named as such."""
    return f"{variant} (untrained)" if run.status(variant) == "untrained" else variant


def where(run: Run, dataset: str) -> str:
    """Data set with its note, samples and protocol, for captions."""
    note = f" ({run.note(dataset)})" if run.note(dataset) else ""
    return f"{dataset}{note}, {counted(run.samples(dataset), 'sample')}, protocol {run.protocol(dataset)}"


def title(run: Run, dataset: str) -> str:
    """Heading inside a plot, so that a picture that travels alone still says what it is of."""
    note = f" ({run.note(dataset)})" if run.note(dataset) else ""
    return f"{dataset}{note} · {counted(run.samples(dataset), 'sample')} · {run.protocol(dataset)}"


def counted(number: int, what: str) -> str:
    """A number with its noun: "1 sample", "2 samples"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def slug(text: str) -> str:
    """A file name of a data set's or variant's name."""
    return "".join(c if c.isalnum() else "-" for c in text).strip("-").lower() or "run"
