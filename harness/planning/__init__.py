"""From YAML to a plan of cells, each with its identity."""
