"""A sweep: do what a plan lacks, then make tables, the report and MLflow runs from what is on disk."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

from omegaconf import DictConfig

from harness import cli
from harness.console import Console, markup, standard_output
from harness.errors import UserError
from harness.executors.clicking import Clicking
from harness.executors.underway import Underway
from harness.machine.features import EMULATED, running_precision
from harness.planning.config import plain
from harness.planning.environment import named
from harness.planning.place import require_place
from harness.planning.plan import Cell, DatasetPlan, Plan
from harness.results import belonging, resuming, stages, summary
from harness.results import tables as outcome
from harness.results.cells import CellFile
from harness.results.machines import Machines
from harness.results.measuring import Measure
from harness.results.mlflow import live
from harness.results.sequential import verdicts
from harness.results.speeds import Speeds, seen
from harness.results.store import Store
from harness.scoring.sequential import looks, random_order


class Sweep:
    """One run of a plan into its folder.

    Args:
        restart: a hang that nothing inside the process can end may end it and start the same command again.
    """

    def __init__(self, plan: Plan, config: DictConfig, console: Console, command: str, restart: bool = False):
        names = variables(plan)
        # What the user vouches for in this command holds for the report that it makes.
        self.trusted = [f"environment={','.join(names)}"] if names else []
        self.plan, self.config, self.console, self.command = plan, config, console, command
        self.measure = Measure.of(plain(config.measure))
        self.restart = restart

    def run(self) -> int:
        """Do what is missing; returns 0, or 1 if something failed."""
        require_place(self.config.out)
        with contextlib.closing(Store(self.config.out, self._tell)) as store, cli.terminate_like_interrupt():
            self.store = store
            belonging.make_room(self.plan, store)
            store.write_yaml("config.yaml", outcome.configuration(self.plan, self.config, self.command))
            self.machines = Machines(store)
            self.machines.write()
            started = time.monotonic()
            tables = outcome.Tables()
            for variant in self.plan.variants:
                if "emulated" in running_precision(str(variant.config.get("precision", "fp32"))):
                    self.console.print(f"[yellow]note:[/] {markup(variant.name)}: {EMULATED}", highlight=False)
                for text in self.plan.protocol.deviations(variant.config):
                    self.console.print(f"[yellow]note:[/] {markup(variant.name)}: {markup(text)}", highlight=False)
            try:
                if self.measure.quality:
                    with live.following(store.out, plain(self.config.tracking)):
                        self.quality()
                stages.measure(self.plan, self.measure, store, tables, self.machines, self.console)
            except UserError:
                # The error is what the user has to read; a line about MLflow before it would say that all went well.
                self.conclude(tables, quiet=True)
                raise
            except BaseException:
                # Whatever was finished becomes tables, even when the user stops in the middle.
                self.conclude(tables)
                raise
            self.conclude(tables)
            failed = tables.failures
            seconds = time.monotonic() - started
            summary.print_summary(self.plan, tables, store.out, seconds, standard_output(), store.added)
            return cli.EXIT_FAILURES if len(failed) else 0

    def quality(self) -> None:
        """Click through every data set; rows are on disk as each episode ends."""
        resuming.require_choice(self.config.code)
        cells = {cell: self._cell(cell) for cell in self.plan.cells}
        resuming.compare_code(cells, self.config.code, self._tell)
        underway = Underway(self.store.out)
        try:
            clicking = Clicking(self.config, self.store, self.machines, underway, self.console, self.restart)
            for data in self.plan.datasets:
                here = {cell: file for cell, file in cells.items() if cell.data is data}
                if self.plan.protocol.sequential:
                    self._until_enough(clicking, data, here)
                    continue
                for cell_group in [[c] for c in here] if self.plan.isolate else [list(here)]:
                    clicking.through(data, {cell: here[cell] for cell in cell_group}, self.plan.protocol)
        finally:
            underway.close()
            self.machines.write()

    def _until_enough(self, clicking: Clicking, data: DatasetPlan, cells: dict[Cell, CellFile]) -> None:
        """Add samples in random order; a variant that is told from the base gets no more, the base as long as any."""
        order = random_order(data.dataset.names)
        open_cells, before = dict(cells), 0
        for number in looks(len(order)):
            for share in [{c: f} for c, f in open_cells.items()] if self.plan.isolate else [open_cells]:
                clicking.through(data, share, self.plan.protocol, order[before:number], reuse=not self.plan.isolate)
            before = number
            clicks, groups = outcome.rows_of(list(cells.items()))
            by_variant = verdicts(self.plan, data, clicks, groups)
            waiting = {variant for variant, verdict in by_variant.items() if verdict.outcome == "open"}
            if not waiting:
                break
            names = {*waiting, self.plan.base}
            open_cells = {cell: file for cell, file in cells.items() if cell.variant.name in names}
        self._tell(
            f"{data.name}: {before} of {len(order)} samples were looked at; "
            + ", ".join(f"{v}: {by_variant[v].outcome} after {by_variant[v].samples}" for v in by_variant)
        )

    def _tell(self, text: str) -> None:
        self.console.print(markup(text), highlight=False, soft_wrap=True)

    def _cell(self, cell: Cell) -> CellFile:
        return self.store.cell(cell.key, outcome.cell_header(cell))

    def conclude(self, tables: outcome.Tables, quiet: bool = False) -> None:
        """Write the tables, then MLflow and the report from what is on disk; `quiet`: say nothing of MLflow."""
        cells = [(c, self._cell(c)) for c in self.plan.cells] if self.measure.quality else []
        outcome.write(self.plan, cells, tables, self.store)
        speeds = Speeds(self.config.threads)
        speeds.add(seen([cell for cell, _ in cells], tables.clicks, tables.flops, self.machines.id))
        if self.config.report:
            self._report()
        if self.config.tracking.enabled:
            from harness.results import mlflow as tracking

            message = tracking.try_deliver(self.store.out, plain(self.config.tracking))
            if message and not quiet:
                self.console.print("\n".join(map(markup, message.splitlines())), highlight=False, soft_wrap=True)

    def _report(self) -> None:
        """The report is a program of its own: harness never imports reports."""
        done = subprocess.run(
            [sys.executable, "-m", "reports", f"run={self.store.out}", *self.trusted],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            self.console.print(
                f"[yellow]no report:[/] {markup(last)} (repeat with: python -m reports run={markup(self.store.out)})",
                highlight=False,
            )


def variables(plan: Plan) -> list[str]:
    """Environment variables that the plan's variants and data sets read; its report may read them too."""
    return sorted(named([v.shown for v in plan.variants]) | named([d.config for d in plan.datasets]))
