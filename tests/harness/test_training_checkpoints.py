"""A run's checkpoint is data too: what `save_checkpoint` did not write is named, not resumed from."""

from __future__ import annotations

import os
import zipfile

import pytest
import torch

from harness.errors import UserError
from harness.training.checkpoints import CHECKPOINT, load_checkpoint, save_checkpoint

PARTS = {
    "identity": {"a": 1},
    "step": 3,
    "seconds": 1.5,
    "module": {"w": torch.ones(2)},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}},
    "average": {},
    "random": torch.get_rng_state(),
}
CPU = torch.device("cpu")


def test_what_was_saved_comes_back(tmp_path):
    save_checkpoint(tmp_path, PARTS)
    state = load_checkpoint(tmp_path, {"a": 1}, CPU)
    assert state is not None and state["step"] == 3 and torch.equal(state["module"]["w"], torch.ones(2))


@pytest.mark.parametrize("kind", ["list", "part missing", "identity", "deflated", "old format", "fifo", "folder"])
def test_anything_else_is_named(tmp_path, kind):
    path = tmp_path / CHECKPOINT
    if kind == "list":
        torch.save([1], path)
    elif kind == "part missing":
        torch.save({key: value for key, value in PARTS.items() if key != "module"}, path)
    elif kind == "identity":
        torch.save({**PARTS, "identity": [1]}, path)
    elif kind == "deflated":
        save_checkpoint(tmp_path, PARTS)
        with zipfile.ZipFile(path) as old:
            members = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name, content in members.items():
                new.writestr(name, content)
    elif kind == "old format":
        torch.save(PARTS, path, _use_new_zipfile_serialization=False)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(UserError, match="cannot be read.*Remove it") as caught:
        load_checkpoint(tmp_path, {"a": 1}, CPU)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
