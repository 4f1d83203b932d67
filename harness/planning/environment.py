"""Values that come from environment variables: used, never written down.

`${oc.env:NAME}` often carries a password or a token. What is stored (config.yaml, cells, MLflow's parameters, logs)
holds the expression; the value is looked up again where an object is built from it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from harness.errors import UserError
from harness.planning.addresses import without_secrets
from harness.planning.overrides import quoted

_SHORTEST = 4
"""Characters of a value that is looked for in messages; a shorter one stands in every other word."""
_WHOLE_WORD = 8
"""A value of fewer characters is replaced where it stands as a word of its own."""
_values: dict[str, str] = {}
_lock = threading.RLock()
_state = threading.local()


def recorded(config: Any) -> Any:
    """Plain Python containers of a configuration node, resolved but for `${oc.env:…}`, which stays as it is.

    Raises:
        UserError: an interpolation that leads nowhere.
    """
    if not OmegaConf.is_config(config):
        return config
    with _expressions():
        return containers(config)


def containers(config: Any) -> Any:
    """Plain Python containers of a node, resolved; UserError for an interpolation that leads nowhere."""
    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        where = f"setting {key!r}: " if key else ""
        raise UserError(f"{where}{(str(error).splitlines() or [''])[0]}") from error


def hide(value: Any) -> Any:
    """A text with every value that was read from the environment replaced by its expression; containers likewise.

    Passwords in addresses are hidden, too (`harness.planning.addresses`).
    """
    if isinstance(value, str):
        with _lock:
            known = sorted(_values.items(), key=lambda pair: -len(pair[0]))
        for secret, expression in known:
            if secret in value:
                value = re.sub(_pattern(secret), expression.replace("\\", r"\\"), value)
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {key: hide(one) for key, one in value.items()}
    return [hide(one) for one in value] if isinstance(value, (list, tuple)) else value


def named(config: Any) -> set[str]:
    """Names of the environment variables that a recorded configuration reads."""
    if isinstance(config, str):
        return set(re.findall(r"\$\{oc\.env:(\w+)", config))
    parts = config.values() if isinstance(config, Mapping) else config if isinstance(config, (list, tuple)) else ()
    return {name for part in parts for name in named(part)}


def _pattern(secret: str) -> str:
    text = re.escape(secret)
    return text if len(secret) >= _WHOLE_WORD else rf"(?<!\w){text}(?!\w)"


@contextmanager
def _expressions() -> Iterator[None]:
    before = getattr(_state, "kept", False)
    _state.kept = True
    try:
        yield
    finally:
        _state.kept = before


def _env(key: str, *default: Any) -> Any:
    """`oc.env` as OmegaConf has it; it notes the value for `hide`, and gives the expression inside of `recorded`."""
    if getattr(_state, "kept", False):
        return f"${{oc.env:{key}{''.join(',' + _literal(one) for one in default)}}}"
    value = oc.env(key, *default)
    if key in os.environ and isinstance(value, str) and len(value) >= _SHORTEST:
        with _lock:
            _values[value] = f"${{oc.env:{key}}}"
    return value


def _decode(text: str | None, _parent_: Any, _node_: Any) -> Any:
    if getattr(_state, "kept", False) and isinstance(text, str) and "${oc.env:" in text:
        return f"${{oc.decode:{text}}}"
    return oc.decode(text, _parent_, _node_)


def _literal(value: Any) -> str:
    text = str(value)
    plain_word = re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII) and text.lower() not in ("null", "true", "false")
    return "null" if value is None else text if plain_word else quoted(text)


OmegaConf.register_new_resolver("oc.env", _env, replace=True)
OmegaConf.register_new_resolver("oc.decode", _decode, replace=True)
