"""One number over many commits on machines of one kind: where it changed, and whether it got worse."""
