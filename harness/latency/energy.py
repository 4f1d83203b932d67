"""Joules that the processor's packages take, from the kernel's RAPL counters (/sys/class/powercap, Intel and AMD).

A counter is a running total in microjoules. It begins anew at `max_energy_range_uj`, and is written about once a
millisecond: the energy of one short step is as coarse, that of many steps is not. What it counts is the whole package,
idle cores and other processes too. Most systems let only root read it (chmod a+r …/energy_uj, or a udev rule).

Nothing heavy is imported here: a measuring child imports this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NONE = "no counter here"


@dataclass(frozen=True)
class Package:
    """One package's counter.

    Attributes:
        name: as the kernel calls it, for example "package-0".
        file: that holds the total, µJ.
        limit_uj: largest total, after which it begins at 0 again.
    """

    name: str
    file: Path
    limit_uj: int


@dataclass(frozen=True)
class Meter:
    """The counters that can be read.

    Attributes:
        packages: each package once; empty where there is no counter, or one of them cannot be read.
        note: names of the packages, or why there are none.
    """

    packages: tuple[Package, ...]
    note: str

    def read(self) -> dict[Path, int] | None:
        """Totals of all packages now, µJ; None where there is no counter."""
        try:
            return {package.file: int(package.file.read_text()) for package in self.packages} or None
        except (OSError, ValueError):
            return None

    def joules(self, before: Mapping[Path, int] | None, after: Mapping[Path, int] | None) -> float | None:
        """Energy between two readings; None where one of them is missing. A counter may have begun anew once."""
        if before is None or after is None:
            return None
        return sum(_between(p, before[p.file], after[p.file]) for p in self.packages) / 1e6


def find(folder: Path = POWERCAP) -> Meter:
    """The counters of this machine's packages.

    Zones within a package (core, uncore, dram: `intel-rapl:0:0`), the platform as a whole (psys) and the second way to
    the same counter (`intel-rapl-mmio:0`) are left out: no joule is counted twice.
    """
    packages, closed = [], []
    for zone in sorted(folder.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if zone.name.count(":") != 1 or not name.startswith("package"):
                continue
            limit = int((zone / "max_energy_range_uj").read_text())
            int((zone / "energy_uj").read_text())
        except PermissionError as error:
            closed.append(str(error.filename))
        except (OSError, ValueError):
            continue
        else:
            packages.append(Package(name, zone / "energy_uj", limit))
    if closed:  # a sum over some of the packages would be no energy of the machine
        return Meter((), f"{NONE} (needs read permission: {', '.join(closed)})")
    return Meter(tuple(packages), ", ".join(p.name for p in packages) or NONE)


def _between(package: Package, before: int, after: int) -> int:
    return after - before if after >= before else after - before + package.limit_uj
