"""Results in the forms that others read: model cards, CSV, BibTeX, LaTeX."""
