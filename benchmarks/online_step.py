"""Times Inter2Former's work per click beside the decoders of SAM and SAM-HQ, and says what is left to gain.

    python benchmarks/online_step.py [--quick] [--masks DIR] [--threads 1 2] [--sizes 1024 2048] [--repeats 25]

Everything runs in one process, round after round through all cases, so that a slow minute of the machine hits all of
them alike. A step is what an annotator waits for: click into the label map, decoder, upsampling to the input size,
prediction into the label map. Tables go to benchmarks/rows/*.csv, and what stands around them to benchmarks/RESULTS.md,
between the marks of this script; `python -m reports docs` then writes the tables there.
`--quick` is 1024 pixels with few repeats, and prints only.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.online_cases import (  # noqa: E402
    SHARES,
    Case,
    load_masks,
    make_cases,
    make_model,
    make_state,
    sam_decoders,
    step,
    with_known_coarse,
)
from benchmarks.online_count import Work, count  # noqa: E402
from benchmarks.stored_tables import store  # noqa: E402
from inter2former.label_map import add_clicks, add_prediction  # noqa: E402
from inter2former.model import ImageState, Inter2Former  # noqa: E402

RESULTS = Path(__file__).with_name("RESULTS.md")
MARKS = "<!-- online_step: begin -->", "<!-- online_step: end -->"
TARGETS = {0.10: 0.6, 0.35: 1.0, 0.80: 1.8}
"""Aims for routing=executed at 1024: at most so many times SAM's decoder."""
SAM = "SAM ViT-B decoder"


@dataclass(frozen=True)
class Timing:
    """Times of one case in ms."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    def __str__(self) -> str:
        low, high = np.percentile(self.values, [25, 75])
        return f"{self.median:.1f} ({low:.1f}–{high:.1f})"


def rounds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time every call `repeats` times, one of each per round, after two rounds of warming up."""
    values: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 2):
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            if number >= 2:
                values[name].append(1e3 * (time.perf_counter() - before))
    return {name: Timing(tuple(times)) for name, times in values.items()}


@dataclass(frozen=True)
class Prepared:
    """A model with a state and a case, ready to run."""

    model: Inter2Former
    state: ImageState
    case: Case

    def run(self) -> None:
        undo = with_known_coarse(self.model, self.case)
        step(self.model, self.state, self.case)()
        undo()


def parts(prepared: Prepared, repeats: int) -> dict[str, float]:
    """Return the median ms in each part, by hooks, and the label update; what is left is `rest`."""
    model, case = prepared.model, prepared.case
    spent: dict[str, list[float]] = {}
    starts: list[float] = []
    handles = []

    def enter(_: nn.Module, __: object) -> None:
        starts.append(time.perf_counter())

    for name, part in model.parts().items():
        if name in ("encoder", "edges", "edge_terms"):
            continue

        def leave(_: nn.Module, __: object, ___: object, name: str = name) -> None:
            spent[name][-1] += 1e3 * (time.perf_counter() - starts.pop())

        for module in part if isinstance(part, nn.ModuleList) else [part]:
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        spent[name] = []
    totals = []
    for _ in range(repeats):
        for times in spent.values():
            times.append(0.0)
        before = time.perf_counter()
        prepared.run()
        totals.append(1e3 * (time.perf_counter() - before))
    for handle in handles:
        handle.remove()
    result = {name: float(np.median(times)) for name, times in spent.items()}
    click = rounds({"": lambda: add_clicks(case.before, [_ClickOf(case)])}, 20)[""].median
    update = rounds({"": lambda: add_prediction(case.before, case.prediction)}, 20)[""].median
    result |= {"label update: click": click, "label update: prediction": update}
    return {**result, "rest": float(np.median(totals)) - sum(result.values())}


class _ClickOf:
    def __init__(self, case: Case) -> None:
        self.y, self.x, self.positive = case.click


def peaks() -> tuple[float, float]:
    """Return multiply-adds and bytes per second: a product of 1536 x 1536, a copy of 256 MB."""
    from harness.machine.peaks import best_rate

    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    out = torch.empty_like(a)
    source = torch.zeros(2**26)
    target = torch.ones_like(source)
    return (
        best_rate(lambda: torch.mm(a, b, out=out), 1536**3, 0.3),
        best_rate(lambda: target.copy_(source), 2 * source.numel() * 4, 0.3),
    )


def measure(size: int, threads: int, masks: Sequence[np.ndarray], repeats: int) -> list[str]:
    """Return the markdown lines of one size and thread count."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    before = peaks()
    models = {routing: make_model(routing) for routing in ("executed", "intended")}
    state = make_state(models["executed"], size)
    prepared: dict[str, Prepared] = {}
    shares: dict[str, float] = {}
    for share in SHARES:
        for case in make_cases(list(masks), size, share):
            for routing, model in models.items():
                prepared[f"{case.name}, {routing}"] = Prepared(model, state, case)
                shares[f"{case.name}, {routing}"] = share
    calls: dict[str, Callable[[], object]] = dict(sam_decoders())
    calls |= {name: ready.run for name, ready in prepared.items()}
    times = rounds(calls, repeats)
    macs_per_s, bytes_per_s = (max(pair) for pair in zip(before, peaks(), strict=True))
    sam = times[SAM].median
    lines = [
        f"### {size} px, {threads} thread{'s' * (threads > 1)}",
        "",
        f"Matrix products {macs_per_s / 1e9:.0f} GMAC/s, copy {bytes_per_s / 1e9:.1f} GB/s (read and written).",
        "",
        "| step | box | boundary tokens | ms: median (quartiles) | x SAM | aim | products ms | gap ms | traffic ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in list(calls)[:2]:
        lines.append(f"| {name} | | | {times[name]} | {times[name].median / sam:.2f} | | | | |")
    for name, ready in prepared.items():
        work: Work = count(ready.run)
        products, traffic = work.roof_ms(macs_per_s, bytes_per_s)
        aim = TARGETS[shares[name]] if size == 1024 and "later, executed" in name else None
        ratio = times[name].median / sam
        verdict = "" if aim is None else f"{'within' if ratio <= aim else 'missed'} {aim}"
        boundary = int(ready.model.neck.view(ready.case.label).boundary.sum())
        lines.append(
            f"| {name} | {ready.case.share:.0%} | {boundary} of {(size // 16) ** 2} | {times[name]} | {ratio:.2f} "
            f"| {verdict} | {products:.1f} | {times[name].median - products:.1f} | {traffic:.1f} |"
        )
    lines += ["", "By part, ms (with hooks):", ""]
    chosen = [name for name in prepared if "later" in name]
    table = {name: parts(prepared[name], max(repeats // 3, 3)) for name in chosen}
    columns = list(next(iter(table.values())))
    lines += [f"| step | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{row[column]:.2f}' for column in columns)} |" for name, row in table.items()]
    return [*lines, ""]


def describe() -> list[str]:
    """Return the machine and the versions, as markdown."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return [
        f"{model}, {torch.get_num_threads()} cores, torch {torch.__version__}, Python {platform.python_version()}.",
        "",
        "`x SAM`: median over SAM's decoder in the same rounds. `products`: executed multiply-adds over the measured",
        "matrix-product speed, the roof. `gap` is what lies above it: softmax exponentials, label maps in numpy,",
        "products with short sides below full speed, some hundred small operators, and memory traffic. `traffic` is",
        "the bytes of all operators' inputs and outputs over the measured copy speed: a bound, as much stays in cache.",
        "",
    ]


def write(lines: Sequence[str], path: Path = RESULTS) -> None:
    """Put the lines between this script's marks in the results file."""
    text = path.read_text() if path.is_file() else "# Benchmark results\n"
    body = "\n".join([MARKS[0], *lines, MARKS[1]])
    if MARKS[0] in text:
        start, end = text.index(MARKS[0]), text.index(MARKS[1]) + len(MARKS[1])
        text = text[:start] + body + text[end:]
    else:
        text = text.rstrip() + "\n\n" + body + "\n"
    path.write_text(text)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1024 px, few repeats, nothing written")
    parser.add_argument("--masks", type=Path, default=ROOT.parent / "shared" / "data" / "duts_val250" / "gt")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--repeats", type=int, default=25)
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.repeats = [1024], min(args.repeats, 5)
    masks = load_masks(args.masks)
    lines = ["## Online step", "", *describe()]
    with torch.no_grad():
        for size in args.sizes:
            for threads in args.threads:
                lines_of_case = measure(size, threads, masks, args.repeats)
                print("\n".join(lines_of_case), flush=True)
                name = f"online_step-{size}-{threads}"
                lines += lines_of_case if args.quick else store(lines_of_case, [name, f"{name}-parts"])
    if not args.quick:
        write(lines)


if __name__ == "__main__":
    main()
