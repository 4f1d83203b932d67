"""`python -m reports submit`: checks a run and copies what belongs into a repository, whole entries only."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import UserError
from harness.planning.identity import STATISTICS
from harness.scoring import metrics
from reports.read.frames import read
from reports.read.runs import Run
from reports.repository import cards, checks, naming
from reports.repository.entry import (
    ROW_COLUMNS,
    CodeFacts,
    DataFacts,
    Entry,
    MachineFacts,
    WeightsFacts,
    identify,
    row_digest,
    without_paths,
)

LARGEST_ROWS = 1 << 20
"""Bytes of rows.parquet of one entry."""
_MACHINE = ("id", "cpu_model", "architecture", "virtual", "python")


@dataclass(frozen=True)
class Submission:
    """What came of a submission.

    Attributes:
        written: entries that are new.
        present: entries that were there already.
        review: sentences for who reviews it.
    """

    written: tuple[Entry, ...]
    present: tuple[Entry, ...]
    review: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    """An entry with the contents of its files, not yet written."""

    entry: Entry
    files: Mapping[str, bytes] = field(repr=False)


def submit(path: str | Path, to: str | Path) -> Submission:
    """Check a run's folder and copy its entries into a repository.

    Raises:
        UserError: the run is refused, with the first of its problems; nothing was written then.
    """
    run = read(path)
    raw = checks.raw_cells(run)
    refusals = checks.problems(run, raw)
    if refusals:
        more = f" And {len(refusals) - 1} more: {'; '.join(refusals[1:4])}." if len(refusals) > 1 else ""
        raise UserError(f"refused: {refusals[0]}.{more} Nothing was copied.")
    drafts = [_draft(run, cell) for cell in raw]
    repository = Path(to).expanduser().absolute()
    try:
        written = [d.entry for d in drafts if _write(d, repository)]
    except OSError as error:
        raise UserError(f"to={to}: cannot write there: {error.strerror or error}.") from error
    present = [d.entry for d in drafts if d.entry not in written]
    review = [*checks.for_reviewers(run, raw), *_against(repository, written)]
    return Submission(tuple(written), tuple(present), tuple(review))


def _draft(run: Run, cell: checks.RawCell) -> Draft:
    header, origin = cell.header, cell.origin
    rows = compact(cell.rows())
    digest = row_digest(rows)
    files = {"rows.parquet": _parquet(rows), "summary.csv": _csv(_summary(cell))}
    for name, frame in (("flops.csv", run.flops), ("latency.csv", run.latency)):
        mine = frame[frame["variant"] == header.variant].drop(columns="variant")
        if len(mine):
            files[name] = _csv(mine)
    if len(files["rows.parquet"]) > LARGEST_ROWS:
        size = len(files["rows.parquet"]) >> 10
        raise UserError(
            f"refused: the rows of {header.variant} on {header.dataset} take {size} KiB, at most "
            f"{LARGEST_ROWS >> 10} are taken. Nothing was copied."
        )
    machine = run.machine
    memory = machine.get("memory_gb")
    weights = WeightsFacts(origin.weights_status, origin.weights_digest, origin.parameters)
    code = CodeFacts(origin.commit, origin.code, any(o.dirty for o in cell.content.origins))
    data = DataFacts(
        header.dataset,
        header.dataset_digest,
        rows["sample"].nunique(),
        rows["image"].nunique(),
        header.dataset_note,
        without_paths(header.dataset_config),
    )
    settings = without_paths(header.variant_config)
    costs = [sha256(files[n]).hexdigest() for n in sorted(files) if n not in ("rows.parquet", "summary.csv")]
    facts = (digest, settings, data.digest, header.protocol_record, weights.digest, code.digest, origin.machine, costs)
    entry = Entry(
        id=identify(facts),
        system=naming.system(header.variant_config, header.variant),
        variant=header.variant,
        settings=settings,
        data=data,
        protocol=naming.protocol(header.protocol_record, header.protocol),
        protocol_record=dict(header.protocol_record),
        weights=weights,
        code=code,
        machine=MachineFacts(
            kind=naming.machine_kind(machine),
            cores_usable=int(machine.get("cores_usable") or 0),
            memory_gb=float(memory) if isinstance(memory, (int, float)) else 0.0,
            instruction_sets=tuple(map(str, machine.get("instruction_sets") or ())),
            packages={str(k): str(v) for k, v in dict(machine.get("packages") or {}).items()},
            **{name: machine[name] for name in _MACHINE if name in machine},
        ),
        rows=digest,
        files={name: sha256(content).hexdigest() for name, content in files.items()},
        card=cards.facts(header.variant_config),
        at=origin.at,
        primary=run.primary,
        deviations=tuple(header.deviations),
        protocol_version=header.protocol_version,
        metrics_version=header.metrics_version,
        statistics_version=STATISTICS,
    )
    files["entry.json"] = (json.dumps(entry.record(), indent=1, ensure_ascii=False) + "\n").encode()
    return Draft(Entry.read(json.loads(files["entry.json"])), files)


def _summary(cell: checks.RawCell) -> pd.DataFrame:
    return metrics.summarise(cell.rows(), cell.header.protocol_record).drop(columns=["variant", "dataset", "protocol"])


def compact(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of clicks.parquet as a repository keeps them: sorted, whole numbers in 32 bits, times to 0.01 ms.

    Overlaps stay as they are, bit by bit: whether 0.9 was reached depends on the last one.
    """
    kept = rows[[*ROW_COLUMNS]].sort_values(["sample", "click"], kind="stable").reset_index(drop=True)
    times = {name: kept[name].round(2).astype("float32") for name in ROW_COLUMNS if name.endswith("_ms")}
    numbers = {name: kept[name].astype("int32") for name in ("click", "y", "x", "height", "width")}
    return kept.assign(**times, **numbers)


def _parquet(rows: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    split = [name for name in ROW_COLUMNS if str(rows[name].dtype).startswith("float")]
    pq.write_table(
        pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None),
        buffer,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in ROW_COLUMNS if name not in split],
        column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT"),
        write_statistics=False,
    )
    return buffer.getvalue()


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "surrogatepass")


def _write(draft: Draft, repository: Path) -> bool:
    """Put an entry in its place in one step; False where it is there already."""
    place = repository / draft.entry.path
    if (place / "entry.json").is_file():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.parent.resolve().is_relative_to(repository.resolve()):
        raise UserError(f"to={repository}: {place.parent} leads out of the repository.")
    beside = Path(tempfile.mkdtemp(prefix=".incoming-", dir=repository))
    try:
        for name, content in draft.files.items():
            with open(beside / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        beside.chmod(0o755)
        os.rename(beside, place)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return True


def _against(repository: Path, written: list[Entry]) -> list[str]:
    """What of the new entries contradicts those that are there."""
    from reports.repository.store import entries

    lines: dict[str, None] = {}
    others = [e for e in entries(repository) if e not in written]
    for new in written:
        for old in others:
            same_name = old.data.name == new.data.name
            if same_name and old.data.digest != new.data.digest:
                lines[f"{new.data.name}: data digest {new.data.digest}, other entries have {old.data.digest}: other "
                      "images or masks under one name are shown apart"] = None  # fmt: skip
            if (old.system, old.data, old.protocol) == (new.system, new.data, new.protocol) and old.rows != new.rows:
                lines[f"{new.system} on {new.data.name}: entry {old.id} has other rows ({_weights(old, new)})"] = None
    return [*lines]


def _weights(old: Entry, new: Entry) -> str:
    if old.weights.digest != new.weights.digest:
        return f"weights {old.weights.digest or 'none'} there, {new.weights.digest or 'none'} here"
    return "of the same weights"


def lines(result: Submission, to: str | Path) -> list[str]:
    """What the command prints."""
    out = [f"written: {e.path}" for e in result.written] + [f"already there: {e.path}" for e in result.present]
    out.append(f"{len(result.written)} entries written to {to}, {len(result.present)} were there.")
    if result.review:
        out.append("A reviewer should check:")
        out += [f"  - {line}" for line in result.review]
    out.append("Not replayed here; who has the data can: python -m harness.sweep with the same settings, then")
    out.append(f"  python -m reports verify run=DIR in={to}   (equal rows, or no difference shown, mark the entry)")
    return out
