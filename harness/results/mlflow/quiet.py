"""MLflow's own words: none on the user's terminal, since every error of its client is raised and said in one line."""

from __future__ import annotations

import logging

LOGGERS = ("alembic", "mlflow", "urllib3.connectionpool")


def hush() -> None:
    """Silence MLflow and what it uses. Call it after an import of mlflow, which sets levels of its own."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
