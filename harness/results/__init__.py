"""Rows on disk, tables from them, MLflow."""
