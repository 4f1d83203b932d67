"""One look for every plot: colours that colour-blind readers tell apart, line styles that survive a grey printer."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito 2008, without the yellow that vanishes on white paper; dark and light alternate for grey printing.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#7F7F7F")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "--", "++", "oo")
INK, MUTED, GRID = "#1b1f24", "#59636e", "#dfe3e8"

RC: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "text.color": INK,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a variant may be called $\\frac{$
    "svg.fonttype": "path",
    "svg.hashsalt": "reports",
    "pdf.fonttype": 3,
}

_UNDATED: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
    "jpg": {},
}


_CANVASES: dict[str, tuple[Any, str]] = {
    "png": (FigureCanvasAgg, "print_png"),
    "jpg": (FigureCanvasAgg, "print_jpg"),
    "svg": (FigureCanvasSVG, "print_svg"),
    "pdf": (FigureCanvasPdf, "print_pdf"),
}


@dataclass(frozen=True)
class Plot:
    """A figure with the words that belong to it.

    Attributes:
        name: file name without its ending.
        title: heading on the page.
        caption: what is drawn, protocol and samples included.
        alt: the same for who cannot see it: what the picture shows.
        figure: the drawing.
        dataset: data set that the page filters by, or "".
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    dataset: str = ""
    cache: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def width(self) -> float:
        """Widest useful size on a page in rem: lettering as large as the text around it."""
        return round(float(self.figure.get_size_inches()[0]) * 6.6, 1)

    @property
    def wide(self) -> bool:
        """Whether it takes the whole width of a page."""
        return float(self.figure.get_size_inches()[0]) > 7

    def rendered(self, ending: str) -> bytes:
        """The drawing as png, svg, pdf or jpg; the same bytes for the same drawing. Drawn once, then kept."""
        if ending not in self.cache:
            with rc_context(RC):
                if not self.cache:
                    # The layout is solved once; every further format takes it as it is.
                    self.figure.draw_without_rendering()
                    self.figure.set_layout_engine("none")
                self.cache[ending] = _printed(self.figure, ending)
        return self.cache[ending]

    def svg(self) -> str:
        """The drawing as an SVG element."""
        text = self.rendered("svg").decode()
        return text[text.index("<svg") :]

    def save(self, folder: Path, formats: Sequence[str] = ("png", "svg", "pdf")) -> list[Path]:
        """Write the drawing in each format."""
        paths = [folder / f"{self.name}.{ending}" for ending in formats]
        for path, ending in zip(paths, formats, strict=True):
            path.write_bytes(self.rendered(ending))
        return paths


def _printed(figure: Figure, ending: str) -> bytes:
    """What `figure.savefig` writes. It draws every figure twice, once without ink to solve the layout; here that is
    solved already, and the backend prints at once (tests hold the two to equal bytes)."""
    out = io.BytesIO()
    canvas, method = _CANVASES[ending]
    before = figure.canvas, figure.dpi
    options: dict[str, Any] = {"pil_kwargs": {"quality": 88}} if ending == "jpg" else {}
    try:
        figure.dpi = RC["savefig.dpi"]
        getattr(canvas(figure), method)(out, metadata=_UNDATED[ending] or None, **options)
    finally:
        figure.dpi = before[1]
        figure.set_canvas(before[0])
    return out.getvalue()


@dataclass(frozen=True)
class Look:
    """How one variant is drawn, the same in every plot."""

    colour: str
    dash: object
    marker: str
    hatch: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each name by its position; styles are combined anew where colours run out."""
    n = len(COLOURS)
    return {
        name: Look(
            COLOURS[i % n],
            DASHES[(i + i // n) % len(DASHES)],
            MARKERS[(i + i // n) % len(MARKERS)],
            HATCHES[(i + i // n) % len(HATCHES)],
        )
        for i, name in enumerate(names)
    }


@contextmanager
def drawing(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> Iterator[tuple[Figure, list]]:
    """A figure of `width` x `height` inches in the house style, and its axes as a flat list."""
    with rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)
