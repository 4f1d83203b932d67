"""What the quality pass makes: a click row, an episode, and the weights behind it; and how each is read back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from harness.records import BadRecord, read_as

__all__ = ["BadRecord", "ClickRow", "Episode", "Result", "Weights", "read_as"]


@dataclass(frozen=True)
class ClickRow:
    """One click and what came of it.

    Attributes:
        click: number within the episode, from 1; 0: the mask that the episode began from.
        y, x: pixel; -1 where the annotator found nothing to click and the decoder ran again, and in row 0.
        positive: whether the click marks the object.
        iou, biou: after this click, 0..1; NaN where truth and prediction are both empty.
        online_ms: time of the model's answer in the click loop.
        simulate_ms: time of the annotator.
    """

    click: int
    y: int
    x: int
    positive: bool
    iou: float
    biou: float
    online_ms: float
    simulate_ms: float


@dataclass(frozen=True)
class GroupClicks:
    """The clicks of a further episode of the same sample (`harness.clicking.groups`)."""

    group: str
    clicks: tuple[ClickRow, ...] = ()


@dataclass(frozen=True)
class Episode:
    """One sample clicked through by one variant, or why that was not possible.

    Attributes:
        sample: name within its data set.
        height, width: of the image, pixels.
        object_share: object pixels as a share of the image, 0..1.
        size_bin: of the object.
        encode_ms: time of the image's encoding, which variants with one encoder share.
        error: why there are no clicks, or "".
        traceback: last part of the stack behind `error`.
        fatal: the error took its process along (crash, or a hang that nothing inside could end).
        clicks: in order.
        image: what several objects of one image have in common; "" in lines written before it was kept.
        groups: further episodes of this sample, where the protocol has them.
    """

    sample: str
    height: int = 0
    width: int = 0
    object_share: float = 0.0
    size_bin: str = ""
    encode_ms: float = 0.0
    error: str = ""
    clicks: tuple[ClickRow, ...] = ()
    traceback: str = ""
    fatal: bool = False
    image: str = ""
    groups: tuple[GroupClicks, ...] = ()

    def record(self) -> dict[str, Any]:
        """JSON-ready form; a failed episode has neither columns nor clicks, a good one no traceback."""
        if self.error:
            shown = {"sample": self.sample, "error": self.error, "traceback": self.traceback}
            return {**shown, "fatal": True} if self.fatal else shown
        whole = asdict(self)
        del whole["traceback"], whole["fatal"]
        if not self.groups:
            del whole["groups"]
        return whole

    @classmethod
    def read(cls, value: Any) -> Episode:
        """The episode of `record`'s form.

        Raises:
            BadRecord: a field is missing, unknown or of another kind, or the clicks are not numbered 1, 2, …
        """
        episode = read_as(cls, value)
        if not episode.error:
            missing = {"height", "width", "object_share", "size_bin", "encode_ms", "error", "clicks"} - set(value)
            if missing:
                raise BadRecord(f"no {sorted(missing)[0]!r}")
        for clicks in (episode.clicks, *(group.clicks for group in episode.groups)):
            first = 0 if clicks and clicks[0].click == 0 else 1
            if [row.click for row in clicks] != list(range(first, first + len(clicks))):
                raise BadRecord("clicks are not numbered 1, 2, …")
            for row in clicks:
                if row.iou < 0 or row.iou > 1 or row.biou < 0 or row.biou > 1:  # NaN passes: an empty mask has no IoU
                    raise BadRecord(f"click {row.click} has an overlap outside 0..1")
        return episode


@dataclass(frozen=True)
class Weights:
    """What a segmenter tells about its weights.

    Attributes:
        weights_status: released, trained here, untrained, no weights or unknown.
        weights_digest: of the file; may be "".
        parameters: their number.
    """

    weights_status: str = "unknown"
    weights_digest: str = ""
    parameters: int = 0

    @classmethod
    def of(cls, segmenter: Any) -> Weights:
        """Weights of a segmenter; `parameters` may be a number or, as in a torch module, a method."""
        count = getattr(segmenter, "parameters", 0)
        if callable(count):
            count = sum(p.numel() for p in count())
        return cls(
            str(getattr(segmenter, "weights_status", "unknown")),
            str(getattr(segmenter, "weights_digest", "")),
            int(count or 0),
        )


@dataclass(frozen=True)
class Result:
    """An episode as it arrives at the sweep.

    Attributes:
        machine: id of the machine that it was made on, "" for the sweep's own.
    """

    variant: str
    episode: Episode
    weights: Weights = Weights()
    machine: str = ""
