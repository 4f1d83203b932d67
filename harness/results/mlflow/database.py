"""SQLite as tracking data base: made whole or not at all, one lock for each, and a broken one is named."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from harness.errors import UserError
from harness.results import files
from harness.results.mlflow.quiet import hush

# What SQLite, Alembic and MLflow say of a schema that is not theirs, or that is there in part.
_BROKEN = re.compile(
    r"no such (table|column)|already exists|duplicate column|malformed|not a database|out-of-date|"
    r"can't locate revision|has no column|disk image",
    re.IGNORECASE,
)

_TABLES = frozenset(
    {"alembic_version", "experiments", "metrics", "params", "runs", "tags"}
)  # of every MLflow since 1.0


def path_of(uri: str) -> Path | None:
    """File of a `sqlite:///…` URI; None for everything else."""
    if not re.match(r"sqlite(\+\w+)?://", uri):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(name).resolve()


@contextlib.contextmanager
def ready(uri: str, limit_s: float) -> Iterator[None]:
    """Hold the data base of `uri` for this process, with its schema made; nothing happens for other URIs.

    Raises:
        UserError: another process holds it for longer than `limit_s`, or it is broken.
        OSError: the folder cannot be written.
    """
    path = path_of(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that make one schema at once crash each other; two that write at once wait for each other in vain.
    with _lock(path, limit_s):
        if _is_new(path):
            files.replace(path, _make)
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if _BROKEN.search(str(error)):
                raise broken(path, " ".join(str(error).split())[:160]) from error
            raise


def broken(path: Path, why: str) -> UserError:
    """The error that names a data base and the way out."""
    return UserError(
        f"{path} is no data base that this MLflow can use ({why}). If another version of MLflow made it: "
        f"mlflow db upgrade sqlite:///{path}. If its making was cut off (earlier versions of this project could), "
        f"set it aside and deliver each sweep again: mv {path} {path}.broken; python -m harness.sync run=DIR"
    )


def _lock(path: Path, limit_s: float) -> files.Lock:
    limit = time.monotonic() + limit_s
    while True:
        try:
            return files.Lock(path.with_name(f".{path.name}.lock"))
        except files.Held as error:
            if time.monotonic() > limit:
                raise UserError(
                    f"another process has held {path} for {limit_s:g} s. Wait for it, or raise timeout_s."
                ) from error
            time.sleep(0.1)


def _is_new(path: Path) -> bool:
    """Missing, empty, or a data base without any table.

    Raises:
        UserError: it holds something else than a schema of MLflow, whole at least in its oldest tables. MLflow itself
            would add the tables that it misses, which makes one more half of a data base.
    """
    if not path.exists() or path.stat().st_size == 0:
        return True
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            missing = sorted(_TABLES - tables)
            version = None if missing else connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise broken(path, str(error)) from error
    if not tables:
        return True
    if missing:
        raise broken(path, f"without the tables {', '.join(missing)}")
    if version is None:
        raise broken(path, "its schema has no version")
    return False


def _make(temporary: Path) -> None:
    """MLflow's schema in a new file; what a killed process left there goes first."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    hush()
    for leftover in temporary.parent.glob(f"{temporary.name}*"):
        leftover.unlink()
    store = SqlAlchemyStore(f"sqlite:///{temporary}", (temporary.parent / "mlartifacts").as_uri())
    store.engine.dispose()  # else its connections would go on with the file under its old name
