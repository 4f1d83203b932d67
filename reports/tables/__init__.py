"""Tables as data, and their Markdown, LaTeX and CSV."""
