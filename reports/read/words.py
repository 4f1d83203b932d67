"""Names as they stand in captions, legends and file names."""

from __future__ import annotations

from harness.text import visible
from reports.read.runs import Run

_LONGEST = 60
"""Characters of a name inside a picture, bytes of a name inside a file name."""


def label(run: Run, variant: str) -> str:
    """Name in a legend; random weights are always named as such."""
    name = lettering(variant)
    return f"{name} (untrained)" if run.status(variant) == "untrained" else name


def where(run: Run, dataset: str) -> str:
    """Data set with its note, samples and protocol, for captions."""
    note = f" ({run.note(dataset)})" if run.note(dataset) else ""
    return f"{dataset}{note}, {counted(run.samples(dataset), 'sample')}, protocol {run.protocol(dataset)}"


def title(run: Run, dataset: str) -> str:
    """Heading inside a plot, so that a picture that travels alone still says what it is of."""
    note = f" ({lettering(run.note(dataset))})" if run.note(dataset) else ""
    return (
        f"{lettering(dataset)}{note} · {counted(run.samples(dataset), 'sample')} · {lettering(run.protocol(dataset))}"
    )


def counted(number: int, what: str) -> str:
    """A number with its noun: "1 sample", "2 samples"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def lettering(text: str) -> str:
    """A name as it may stand in a picture: one line, not endless, and never without its place in a legend.

    That `$` begins no formula is a setting of the plots (`reports.plots.style.RC`).
    """
    name = visible(text)
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}…{name[1 - _LONGEST // 2 :]}"
    # matplotlib leaves labels out of legends that begin with an underscore.
    return f"\u200a{name}" if name.startswith("_") else name


def slug(text: str) -> str:
    """A file name of a data set's or variant's name."""
    name = "".join(c if c.isalnum() else "-" for c in text).strip("-").lower() or "run"
    return name.encode()[:_LONGEST].decode(errors="ignore").strip("-")
