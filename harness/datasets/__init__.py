"""Data sets: one small file a layout."""
