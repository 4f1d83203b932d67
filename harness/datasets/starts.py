"""A data set with masks that episodes begin from (`dataset.starts=DIR`, `protocol.start=mask`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.datasets.facts import content_hash
from harness.datasets.masks import Rule, read_values
from harness.datasets.pairs import by_stem
from harness.errors import SampleError, UserError
from harness.sample import Sample
from harness.text import visible


class WithStarts:
    """Any data set, and for each sample NAME the mask DIR/NAME.png: object where a channel is above 0.

    Whatever it has not itself it asks the data set for.

    Args:
        dataset: the data set.
        starts: folder with one mask file per sample, named like the sample.

    Raises:
        UserError: no such folder, or no file in it is named like a sample.
    """

    def __init__(self, dataset: Any, starts: str):
        self.dataset = dataset
        self._folder = Path(str(starts)).expanduser()
        if not self._folder.is_dir():
            raise UserError(
                f"dataset.starts={starts}: no such folder. It holds NAME.png, a start mask per sample NAME."
            )
        stems = by_stem(self._folder)
        self._files: dict[str, Sequence[Path]] = {name: stems.of(name) for name in dataset.names}
        if not any(self._files.values()):
            example = visible(next(iter(dataset.names), "NAME"))
            raise UserError(
                f"dataset.starts={starts}: no file in it is named like a sample of {dataset.name!r}; expected "
                f"{example}.png, …"
            )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dataset":  # also while it is being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, name: str) -> Sample:
        """As the data set's `load`, with the start mask where there is one.

        Raises:
            SampleError: as the data set's, or the start mask is damaged, ambiguous or of another size.
        """
        sample: Sample = self.dataset.load(name)
        files = self._files.get(name, ())
        if not files:
            return sample
        if len(files) > 1:
            raise SampleError(f"several start masks: {', '.join(file.name for file in files)}; keep one of them")
        values = Rule(above=0).apply(read_values(files[0]))
        if values.shape != sample.mask.shape:
            raise SampleError(
                f"{files[0]}: start mask of {values.shape[0]} x {values.shape[1]} pixels (height x width), and the "
                f"image of {visible(name)!r} has {sample.mask.shape[0]} x {sample.mask.shape[1]}; they must be equal"
            )
        return replace(sample, start=values == 1)

    def digest(self) -> str:
        """32 hexadecimal digits over the data set's digest and the content of all start masks."""
        whole = hashlib.blake2b(self.dataset.digest().encode(), digest_size=16)
        for name, files in self._files.items():
            contents = [content_hash(file) for file in files]
            whole.update(f"\n{name}\n{contents}".encode("utf-8", "backslashreplace"))
        return whole.hexdigest()
