"""`is-bench completion SHELL`: what a shell asks when Tab is pressed, and the script that makes it ask.

Nothing is composed and no model is imported: names are those of the files in `sweeps/` (and in --config-dir), settings
are the keys that these files hold, so that an answer takes a fraction of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from harness.errors import near_miss

SCRIPTS = {
    "bash": """\
_is_bench() {
    local line=${COMP_LINE:0:COMP_POINT} prefix="" words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current=${words[-1]}
    # The shell replaces what stands behind the last sign that breaks words.
    [[ $current == *=* && $COMP_WORDBREAKS == *=* ]] && prefix=${current%"${current##*=}"}
    mapfile -t COMPREPLY < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _is_bench is-bench
""",
    "zsh": """\
#compdef is-bench
_is_bench() {
    local -a found
    found=("${(@f)$(is-bench complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n $found[1] ]]; then compadd -S '' -- $found; else _files; fi
}
compdef _is_bench is-bench
""",
    "fish": """\
complete -c is-bench -a '(is-bench complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
""",
}
INSTALL = {
    "bash": 'eval "$(is-bench completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(is-bench completion zsh)"   in ~/.zshrc, behind compinit',
    "fish": "is-bench completion fish > ~/.config/fish/completions/is-bench.fish",
}
PRIMARY = {"sweep": "config", "train": "train", "doctor": "config"}
"""Commands whose settings are those of a file of sweeps/."""
OTHER = {
    "report": ("run=", "out=", "table=", "format=", "episodes=", "compare", "history"),
    "sync": ("run=", "uri=", "experiment="),
}
FLAGS = ("--help", "--config-dir=", "--show")


def candidates(words: Sequence[str], commands: Sequence[str]) -> list[str]:
    """What the last word may become.

    Args:
        words: behind `is-bench`, the one under the cursor last (it may be empty).
        commands: of `is-bench`.
    """
    *before, current = words or [""]
    if not before:
        return [name for name in commands if name.startswith(current)]
    if before == ["completion"]:
        return [shell for shell in SCRIPTS if shell.startswith(current)]
    if before[0] not in PRIMARY:
        return [word for word in OTHER.get(before[0], ()) if word.startswith(current)]
    folders = _folders(before)
    if "=" in current:
        return _values(current, folders)
    return _keys(current, before, folders)


def _values(current: str, folders: Sequence[Any]) -> list[str]:
    """Options of a group, or names in a list of variants; nothing for other settings (the shell offers files)."""
    key, _, value = current.partition("=")
    group = "variant" if key == "variants" else key.lstrip("+")
    if not any((folder / group).is_dir() for folder in folders):
        return []
    begun, mark = "", ""
    if key == "variants":
        begun, mark, value = _last_of_list(value)
    return [f"{key}={begun}{mark}{name}" for name in _options(group, folders) if name.startswith(value)]


def _last_of_list(value: str) -> tuple[str, str, str]:
    """`[a,b` in what is finished, the sign behind it, and what is being typed: ("[a", ",", "b")."""
    place = max(value.rfind("["), value.rfind(","))
    return ("", "[", value) if place < 0 else (value[:place], value[place], value[place + 1 :])


def _keys(current: str, before: Sequence[str], folders: Sequence[Any]) -> list[str]:
    """Settings with a `=` behind them, those of the chosen options too; deeper ones after their dot."""
    settings = _settings(PRIMARY[before[0]], before, folders)
    groups = {f.name for folder in folders for f in folder.iterdir() if f.is_dir() and not f.name.startswith("_")}
    words = [f"+{group}=" if group == "ablation" else f"{group}=" for group in groups] + list(FLAGS)
    depth = current.count(".")
    for key in settings:
        parts = key.split(".")
        words.append(".".join(parts[: depth + 1]) + ("." if len(parts) > depth + 1 else "="))
    return sorted({word for word in words if word.startswith(current)})


def _settings(primary: str, before: Sequence[str], folders: Sequence[Any]) -> list[str]:
    """Keys of the primary file, and of the option that the defaults or the words before choose in each group."""
    root = _yaml(primary, folders)
    chosen: dict[str, str] = {}
    for entry in root.pop("defaults", []):
        if isinstance(entry, Mapping):
            chosen |= {str(k).removeprefix("override ").lstrip("/"): str(v) for k, v in entry.items()}
    for word in before:
        key, equals, value = word.lstrip("+").partition("=")
        if equals and key != "ablation" and any((folder / key).is_dir() for folder in folders):
            chosen[key] = value
    keys = _leaves(root)
    for group, name in chosen.items():
        keys += [f"{group}.{key}" for key in _leaves(_option(group, name, folders)) if not key.startswith("_")]
    return keys


def _option(group: str, name: str, folders: Sequence[Any]) -> dict[str, Any]:
    """The settings of an option with those of the files that it builds on."""
    own = _yaml(f"{group}/{name}", folders)
    below: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry not in ("_self_", name):
            below |= _option(group, entry, folders)
    return below | own


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in settings.items():
        inner = _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else []
        keys += inner or [f"{prefix}{key}"]
    return keys


def _options(group: str, folders: Sequence[Any]) -> list[str]:
    return sorted(
        {
            file.name[:-5]
            for folder in folders
            if (folder / group).is_dir()
            for file in (folder / group).iterdir()
            if file.name.endswith(".yaml")
        }
    )


def _folders(before: Sequence[str]) -> list[Any]:
    """The packaged `sweeps/`, and the folder of --config-dir, if it is one."""
    folders: list[Any] = [resources.files("sweeps")]
    for number, word in enumerate(before):
        if word == "--config-dir" and number + 1 < len(before):
            folders.append(Path(before[number + 1]).expanduser())
        elif word.startswith("--config-dir="):
            folders.append(Path(word.partition("=")[2]).expanduser())
    return [folder for folder in folders if folder.is_dir()]


def _yaml(name: str, folders: Sequence[Any]) -> dict[str, Any]:
    """A configuration file of the last folder that has it; nothing where it cannot be read."""
    import yaml

    for folder in reversed(folders):
        file = folder / f"{name}.yaml"
        if file.is_file():
            try:
                value = yaml.safe_load(file.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                return {}
            return dict(value) if isinstance(value, Mapping) else {}
    return {}


def run(arguments: Sequence[str], commands: Sequence[str]) -> int:
    """`completion SHELL` prints a script; `complete -- WORDS` prints one candidate a line. Returns the exit code."""
    command, *words = arguments
    if command == "complete":
        for word in candidates(words[1:] if words[:1] == ["--"] else words, commands):
            print(word)  # nothing at all where there is none: the shell then offers files
        return 0
    if not words or words[0] in ("-h", "--help"):
        print("usage: is-bench completion SHELL\n\n" + "\n".join(f"  {INSTALL[shell]}" for shell in SCRIPTS))
        return 0
    if words[0] not in SCRIPTS:
        print(f"error: unknown shell {words[0]!r}. {near_miss(words[0], SCRIPTS)}", file=sys.stderr)
        return 2
    sys.stdout.write(SCRIPTS[words[0]])
    return 0
