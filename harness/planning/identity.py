"""What decides that two results are the same: version numbers of the records."""

SCHEMA = 1
"""Version of the records of a cell; another one means that its rows are not read."""

PRECISIONS = {"fp32": "fp32", "float32": "fp32", "bf16": "bf16", "bfloat16": "bf16", "int8": "int8"}
"""Names of precisions that users write, torch's among them -> the one name that settings, cells and tables have."""
