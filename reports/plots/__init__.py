"""Figures, one look."""
