"""Names of any kind in every medium: a screen, a page, a picture, Markdown, LaTeX, a file name."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from matplotlib.text import Text
from rich.text import Text as RichText

from harness.console import Console, markup
from harness.results import summary
from harness.results.tables import Tables
from harness.text import printable, visible
from reports.pages import assemble
from reports.read import frames
from reports.read.runs import Run
from reports.read.words import slug
from reports.tables.latex import latex_escape, to_latex
from reports.tables.table import Column, Row, Table, markdown_escape, to_markdown

NAMES = [
    r"$\frac{$", "$x$", r"\$", "[/b]", "[bold]x[/bold]", "[red", "red]", "[", "]", "\\", "a\\", "\\[b]", "\\\\",
    "[link=file:///x]y[/link]", "[@click=x]y[/]", ":warning:", "<script>alert(1)</script>", "<b>", "&lt;", "&amp;", "&",
    "|", "a|b", r"a\|b", "a\nb", "a\r\nb", "a\tb", "\x1b[31mred\x1b[0m", "\x07", "\x00", "\u202egnp.exe", "\u200fa",
    "`x`", "``", "*x*", "**x**", "_x_", "__x__", "_hidden", "a_b", "~~x~~", "# x", "- x", "+ x", "1. x", "> x",
    "![x](y)", "[x](javascript:alert(1))", "http://x.y/<z>", "{{ x }}", "{% x %}", "{}", "%s", "%", "#", "^", "~", "''",
    '"', "--",
    "\udce9", "日本", "é" * 300, "x" * 300, "=cmd|' /C calc'!A0", "../../x", "/etc/passwd", "CON", ".", "..", "*",
    "* x",
]  # fmt: skip


def table(*names: str) -> Table:
    rows = tuple(Row((name, "cell")) for name in names)
    return Table("t", names[0], names[0], (Column("a", names[0]), Column("b", "Other")), rows, (names[0],))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_rich_shows_the_name(name: str) -> None:
    """Between other marks and other names, as rich reads it."""
    for other in NAMES:
        line = f"[bold]{markup(name)}[/] {markup(other)}[dim]{markup(name)}[/]{markup(other)}[yellow]x[/]"
        shown, after = visible(name), visible(other)
        assert RichText.from_markup(line, emoji=False).plain == f"{shown} {after}{shown}{after}x"


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_markdown_shows_the_name(name: str) -> None:
    """A table, a heading, a paragraph and a list, as markdown-it (CommonMark with GitHub's tables) reads them."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(to_markdown(table(name, "x")))
    texts = ["".join(c.content for c in t.children or [] if c.type == "text") for t in tokens if t.type == "inline"]
    kinds = {c.type for t in tokens for c in t.children or []}
    wanted = visible(name).strip()
    assert texts == [wanted, wanted, wanted, "Other", wanted, "cell", "x", "cell", wanted]
    assert kinds <= {"text", "text_special"} and not [t for t in tokens if t.type == "html_block"]
    assert "$" not in re.sub(r"\\\$", "", markdown_escape(name))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_latex_has_no_mark_of_the_name(name: str) -> None:
    """Without the escapes of the writer no special character is left, and no line begins with an option."""
    text = latex_escape(name)
    left = re.sub(r"\\[a-z]+\{\}|\\[&%$#_{},]|\$\\?[a-z<>^\d{}-]+\$|[-,']\{\}|''|~", "", text)
    assert not re.search(r"[\\&%$#_{}^`\n\r\x00-\x1f]", left), text
    assert not re.search(r"\\\\\s*(\\addlinespace|\\midrule)?\s*[\[*]", to_latex(table("x", name, name)))
    assert not re.search(r"^[\[*]", to_latex(table("x", name, name)), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_file_names_are_plain_and_short(name: str) -> None:
    made = slug(name)
    assert made and len(made.encode()) <= 60 and re.fullmatch(r"[\w-]+", made)


class Tags(HTMLParser):
    """Tags and cells of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


VARIANTS = {"near": r"_$\frac{$ <script>alert(1)</script>", "colourful": "a|b\\[/b]\u202e\n*x*"}
DATASETS = {"shapes": "[/b] <img src=x onerror=alert(2)> $x"}


def renamed(run: Run) -> Run:
    """The run with hostile names of variants, data sets, samples and the sweep, notes and errors."""

    def frame(data: pd.DataFrame) -> pd.DataFrame:
        data = data.copy()
        for column, names in (("variant", VARIANTS), ("base", VARIANTS), ("dataset", DATASETS)):
            if column in data:
                data[column] = data[column].replace(names)
        if "dataset_note" in data:
            data["dataset_note"] = "note [/i] $\\x{$ <i>"
        if "sample" in data:
            data["sample"] = data["sample"] + "</script>|$\u202e"
        return data

    parts = ("clicks", "summary", "compare", "latency", "flops", "parts", "timings", "scaling")
    error = dict.fromkeys(("stage", "variant", "dataset", "sample", "error"), "<script>alert(3)</script>|$\\x{$\n[/b]")
    config = {
        **run.config,
        "ablation": {"name": "[/b]$\\x{$", "title": "<script>alert(4)</script>\u202e", "base": VARIANTS["near"]},
        "variants": {}, "datasets": {}, "command": "</pre><script>alert(5)</script>",
    }  # fmt: skip
    return replace(
        run, name="[/b]$\\x{$", config=config, failures=pd.DataFrame([error]), notes=("<script>alert(6)</script>",),
        **{part: frame(getattr(run, part)) for part in parts},
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The whole report, plots and all, of a run with such names."""
    from simulated import run_folder

    folder = tmp_path_factory.mktemp("runs")
    run = renamed(frames.read(run_folder(folder / "run", list(VARIANTS), list(DATASETS), count=2)))
    assemble.write(run, folder / "report", 0)
    return folder / "report", run


@pytest.mark.slow
def test_the_page_holds_names_as_text(report: tuple[Path, Run]) -> None:
    folder, _ = report
    page = (folder / "index.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.tags.count("script") == 1 and "alert(" not in " ".join(
        re.findall(r"<script>(.*?)</script>", page, re.S)
    )
    assert "onerror=alert(2)" not in re.sub(r"&lt;img.*?&gt;", "", page) and "\u202e" not in page
    assert VARIANTS["near"] in tags.texts and visible(VARIANTS["colourful"]).replace("\\n", "\n") in tags.texts


@pytest.mark.slow
def test_no_label_is_a_formula_and_no_variant_is_missing_from_a_legend(report: tuple[Path, Run]) -> None:
    _, run = report
    drawn = assemble.all_plots(run)
    assert len(drawn) >= 8 and len({plot.name for plot in drawn}) == len(drawn)
    curves = next(plot for plot in drawn if plot.name.startswith("iou"))
    assert [t.get_text().strip() for t in curves.figure.axes[0].get_legend().get_texts()] == [
        visible(VARIANTS["near"]), visible(VARIANTS["colourful"])
    ]  # fmt: skip
    for plot in drawn:
        formulas = [text for text in plot.figure.findobj(Text) if "$" in text.get_text() and text.get_parse_math()]
        assert not formulas, (plot.name, formulas)


def plan_of(name: str) -> Any:

    data = SimpleNamespace(name=name, note=name, dataset=[name])
    variant = SimpleNamespace(name=name, config={})
    return SimpleNamespace(
        name=name, title=name, base=name, variants=[variant], datasets=[data],
        protocol=SimpleNamespace(name=name, clicks=3, primary="noc90"),
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_the_summary_of_a_sweep_shows_such_names(name: str) -> None:
    tables = Tables()
    stored = printable(name)  # as names of samples and errors are stored; pandas takes no lone surrogates
    tables.fail("clicks", stored, stored, stored, stored)
    console = Console(file=io.StringIO(), width=5000)
    summary.print_summary(plan_of(name), tables, Path("runs") / name.replace("\x00", "0").strip("/"), 1.0, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count(visible(name)) >= 4 and not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", shown)
