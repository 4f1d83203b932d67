"""Keys for MLflow: by MLflow's own validation, stable, and no two alike."""

from __future__ import annotations

import hashlib

import pytest
from mlflow.utils import validation

from harness.results.mlflow import names

ODD = [
    "a" * 251, "a" * 250 + "b", "", ".", "..", "../x", "/", "/x", "x/", "a//b", "a/./b", "a/../b", "caf\udce9", "\0",
    "new\nline", "$\\frac{$", "[/b]", "漢字", "²", "a?b", "a*b", "a_b", "a:b", " ", "😀", "iou/..", "x" * 249 + "/",
]  # fmt: skip


def test_mlflow_takes_every_key():
    for name in ODD:
        validation._validate_metric_name(names.key(name))
        validation._validate_param_name(names.key(name))
        assert 0 < len(names.key(name)) <= 250
        names.key(name).encode()


def test_no_two_names_share_a_key():
    everything = [*ODD, "size<1%", "sizeunder1pct", "noc@90", "noc90"]
    keys = names.keys(everything)
    assert len(set(keys.values())) == len(set(everything))
    assert keys == names.keys(everything[::-1])
    assert keys["noc90"] == "noc90" and keys["sizeunder1pct"] == "sizeunder1pct"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("noc@90/squares", "noc90/squares"),
        ("gmacs/encode/all/<1%", "gmacs/encode/all/under1pct"),
        ("a" * 250, "a" * 250),
        # More than 250 characters: the first 233, a dash, and 16 digits of the SHA-256 of the name.
        ("a" * 251, "a" * 233 + "-" + hashlib.sha256(b"a" * 251).hexdigest()[:16]),
        ("a?b", "a_b-" + hashlib.sha256(b"a?b").hexdigest()[:16]),
    ],
)
def test_the_rule(name, key):
    assert names.key(name) == key


def test_values_can_be_encoded_and_are_cut():
    assert names.value("caf\udce9\n") == "caf\\xe9\\n"
    assert len(names.value("x" * 9000)) == 5000


def test_nested_settings_become_dotted_names():
    assert names.flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]}) == {"a.b": "1", "a.c.d": "None", "e": "[1, 2]"}
