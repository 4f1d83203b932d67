"""`is-bench COMMAND …`: one entry point to every command; each is also `python -m MODULE`."""

from __future__ import annotations

import importlib
import sys

from harness.errors import near_miss

COMMANDS = {
    "sweep": ("harness.sweep", "click, count and time variants; rows, tables, MLflow, report"),
    "train": ("harness.train", "train a variant, or several with the same budget"),
    "fetch": ("harness.fetch", "data sets and official weights, with digests"),
    "reproduce": ("harness.reproduce", "run published rows and say which of them reproduce"),
    "doctor": ("harness.doctor", "what is wrong with a data set, and how to mend it"),
    "report": ("reports.__main__", "tables, plots and a page from a finished sweep"),
    "click": ("harness.click", "a page where a person clicks; studies with annotators"),
    "sync": ("harness.sync", "deliver a sweep to MLflow later"),
    "convert": ("harness.convert", "a torch file's tensors as safetensors"),
}

ALIASES = {"reports": "report"}
"""`python -m reports` is how the documents call it."""


def main() -> None:
    """Run the named command with the rest of the arguments; without one, list them."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    name = ALIASES.get(name, name)
    if name in ("-h", "--help"):
        print("usage: is-bench COMMAND [key=value …]\n")
        for command, (_, text) in COMMANDS.items():
            print(f"  {command:10s}{text}")
        print("\nis-bench COMMAND --help says more; is-bench completion SHELL prints what makes Tab complete names.")
        return
    if name in ("completion", "complete"):
        from harness.completion import run

        sys.exit(run(sys.argv[1:], [*COMMANDS, "completion"]))
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}. {near_miss(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    importlib.import_module(COMMANDS[name][0]).main()


if __name__ == "__main__":
    main()
