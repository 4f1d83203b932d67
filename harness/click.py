"""`python -m harness.click`: a page on this machine where a person clicks, and everything is recorded."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import cli
from harness.errors import UserError, near_miss
from harness.planning.config import Config

if TYPE_CHECKING:
    from harness.clickpage.pictures import Pictures
    from harness.clickpage.turns import Rules
    from harness.planning.plan import Variant

HELP = """\
A page where a person clicks on images and sees the answers of one or more variants under the same clicks. Open the
address that is printed; Ctrl-C ends it. Clicks are recorded as they come, in out=DIR (docs/clicking.md).

  python -m harness.click                                           inter2former_lite on composed scenes
  python -m harness.click images=DIR                                your own images, without truth
  python -m harness.click dataset=grabcut dataset.root=DIR variants=[inter2former_lite,opencv_grabcut]
  python -m harness.click +ablation=dha                             the variants of an ablation, side by side
  python -m harness.click study=FILE user=anna                      a study: its samples, in its order, for one person
"""
EPILOG = """\
settings:
  images=DIR      a folder of images instead of a data set
  study=FILE      a YAML file with dataset, samples, order, variants, clicks; with user=NAME
  user=NAME       stands in every recorded row (default: me)
  out=DIR         folder of clicks.csv and answers.csv (default runs/click; of a study runs/<name of its file>)
  port=N          default 8765; 0: any free one
  host=ADDRESS    default 127.0.0.1: nobody but this machine reaches the page
  threads=N       torch threads; default all cores
  variant=…, variant.KEY=…, variants=[…], +ablation=…, dataset=…, dataset.KEY=…: as in harness.sweep

exit codes: 2 a setting is wrong, 130 stopped by Ctrl-C
"""
OWN = ("images", "study", "user", "out", "port", "host")
_SHARED = ("variant", "variants", "ablation", "dataset", "datasets", "threads")
_SWEEP_ONLY = ("protocol", "measure", "tracking", "executor", "report", "code", "dry_run")
_IN_STUDY = ("study", "user", "out", "port", "host", "threads")


@dataclass(frozen=True)
class PageSettings:
    """What is clicked, by whom, and where the records go."""

    pictures: Pictures
    variants: list[Variant]
    rules: Rules
    out: Path
    user: str
    threads: int | None


def run(arguments: Sequence[str]) -> int:
    """The command; serves until it is stopped.

    Raises:
        UserError: a setting is wrong, or the port is in use.
    """
    options = cli.parser("python -m harness.click", HELP, EPILOG).parse_args(arguments)
    own, others = split(options.overrides)
    host, port = own.get("host", "127.0.0.1"), _port(own.get("port", "8765"))
    from harness.clickpage.server import listen

    with listen(host, port) as listening:
        page = resolve(Config(options.config_dir), own, others)
        _serve(page, host, listening)
    return 0


def split(overrides: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The page's own settings, and those that it shares with the sweep."""
    own, others = {}, []
    for override in overrides:
        key, _, value = override.partition("=")
        if key in OWN:
            own[key] = value
        else:
            others.append(override)
    return own, others


def resolve(root: Config, own: dict[str, str], others: Sequence[str]) -> PageSettings:
    """Data set and variants; no model is built yet.

    Raises:
        UserError: an unknown name, a folder without images, a study whose file is wrong, …
    """
    from harness.clickpage.study import check_user

    if "study" in own:
        return _study(root, own, others)
    from harness.clickpage.pictures import FolderPictures, SamplePictures
    from harness.clickpage.turns import Rules
    from harness.planning.plan import choose_datasets, choose_variants

    for override in others:
        key = override.lstrip("+~").split("=", 1)[0]
        if key.split(".", 1)[0] not in _SHARED:
            if key.split(".", 1)[0] in _SWEEP_ONLY:
                raise UserError(f"unknown setting {key!r}: it is one of harness.sweep. `--help` lists the page's.")
            raise UserError(f"unknown setting {key!r}. {near_miss(key, (*OWN, *_SHARED))}")
    user = check_user(own.get("user", "me"))
    named = any(o.lstrip("+").split("=", 1)[0] in ("variant", "variants", "ablation") for o in others)
    config = root.compose([*others, *([] if named else ["variant=inter2former_lite"])])
    picked = root.picked(others, "variant") if named else "inter2former_lite"
    variants = choose_variants(root, config, picked)
    if "images" in own:
        if any(o.lstrip("+").startswith("dataset") for o in others):
            raise UserError("give either images=DIR or dataset=…, not both.")
        pictures: Pictures = FolderPictures(own["images"])
    else:
        chosen = choose_datasets(root, config)
        if len(chosen) > 1:
            raise UserError("one data set at a time: give dataset=NAME instead of datasets=….")
        pictures = SamplePictures(chosen[0].dataset, chosen[0].name)
    out = Path(own.get("out", "runs/click")).expanduser()
    return PageSettings(pictures, variants, Rules(), out, user, config.threads)


def _study(root: Config, own: dict[str, str], others: Sequence[str]) -> PageSettings:
    from harness.clickpage import study
    from harness.clickpage.turns import Rules

    extra = [o for o in others if o.split("=", 1)[0] != "threads"] + [o for o in ("images",) if o in own]
    if extra:
        key = extra[0].split("=", 1)[0]
        raise UserError(f"{key}: a study's file says that. {near_miss(key, _IN_STUDY)}")
    if "user" not in own:
        raise UserError("who clicks? Give user=NAME beside study=FILE, for example user=anna.")
    user = study.check_user(own["user"])
    plan = study.read(own["study"])
    pictures = plan.pictures(root, user)
    rules = Rules(plan.title, plan.instructions, plan.clicks, plan.iou, plan.truth, study=True)
    out = Path(own["out"]).expanduser() if "out" in own else plan.out
    return PageSettings(pictures, plan.chosen_variants(root), rules, out, user, root.compose(others).threads)


def _serve(settings: PageSettings, host: str, listening: socket.socket) -> None:
    from harness.clicking.quality import set_threads
    from harness.clickpage import pane
    from harness.clickpage.app import make_app
    from harness.clickpage.desk import Desk
    from harness.clickpage.guard import is_loopback, names_of
    from harness.clickpage.server import serve
    from harness.console import Console, markup

    set_threads(settings.threads)
    port = listening.getsockname()[1]
    names = names_of(host, port)
    if not is_loopback(host):
        cli.note(f"host={host}: everybody who reaches this address sees the images and can click.")
    desk = Desk(settings.pictures, pane.build(settings.variants), settings.out, settings.user, settings.rules)
    shown = f"[{host}]" if ":" in host else host

    def ready() -> None:
        console = Console(soft_wrap=True)
        console.print(f"open [bold]http://{markup(shown)}:{port}/[/]   (Ctrl-C ends it)", highlight=False)
        console.print(f"recording to {markup(settings.out / 'clicks.csv')} as {markup(settings.user)}", highlight=False)

    try:
        serve(make_app(desk, names), listening, ready)
    finally:
        desk.close()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise UserError(f"port={text}: a whole number from 1 to 65535, or 0 for any free one.")
    return int(text)


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
