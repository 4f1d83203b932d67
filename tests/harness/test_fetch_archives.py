"""Archives of strangers: what is unpacked, and what is refused without leaving anything outside of its folder."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS, Layout

from harness.errors import UserError
from harness.fetching import install, lockfile, places, room, unpack
from harness.fetching.manifests import Catalogue, parse
from harness.planning.config import Config, build, plain


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("IS_BENCH_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def zipped(path: Path, members: dict[str, bytes], **modes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = modes.get("mode", stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return path


def tarred(
    path: Path, members: dict[str, bytes], mode: str = "w:gz", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    return path


GOOD = {"top/img/a.jpg": b"1", "top/gt/a.png": b"22", "top/readme.txt": b""}


@pytest.mark.parametrize(
    "make",
    [zipped, tarred, *(lambda p, m, mode=mode: tarred(p, m, mode) for mode in ("w", "w:bz2", "w:xz"))],
    ids=["zip", "gz", "tar", "bz2", "xz"],
)
def test_good_archives_give_their_files_and_digests(make: Callable[..., Path], tmp_path: Path):
    import hashlib

    (tmp_path / "out").mkdir()
    found = unpack.unpack(make(tmp_path / "a", GOOD), tmp_path / "out")
    assert {m.path: m.sha256 for m in found} == {n: hashlib.sha256(c).hexdigest() for n, c in GOOD.items()}
    assert {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()
    } == GOOD


OUTSIDE = [
    "../x",
    "a/../../x",
    "..",
    "a/..",
    "/etc/x",
    "//x",
    "C:/x",
    "c:x",
    "..\\x",
    "a\\..\\..\\x",
    "\\x",
    "./../x",
    ".. /x",
    "a\nb",
    "a\x07",
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
def test_paths_that_lead_out_are_refused(make: Callable[..., Path], name: str, tmp_path: Path):
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    archive = make(tmp_path / "a", {"img/a.jpg": b"1", name: b"bad"})
    with pytest.raises(unpack.BadArchive, match="refused"):
        unpack.unpack(archive, out)
    outside = {p for p in tmp_path.rglob("*") if not p.is_relative_to(out)} - before - {archive}
    assert not outside and not any(p.read_bytes() == b"bad" for p in out.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    "kind, says",
    [
        (tarfile.SYMTYPE, "a link to '/etc/passwd'"),
        (tarfile.LNKTYPE, "a link to '/etc/passwd'"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device, FIFO"),
    ],
)
def test_links_and_devices_in_a_tar_file(kind: bytes, says: str, tmp_path: Path):
    (tmp_path / "out").mkdir()
    with pytest.raises(unpack.BadArchive, match=says):
        unpack.unpack(tarred(tmp_path / "a", {"x": b""}, kind=kind, link="/etc/passwd"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_file(mode: int, tmp_path: Path):
    (tmp_path / "out").mkdir()
    with pytest.raises(unpack.BadArchive, match="a link|a device"):
        unpack.unpack(zipped(tmp_path / "a", {"x": b"/etc/passwd"}, mode=mode | 0o777), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_file_behind_a_link_of_the_same_archive(tmp_path: Path):
    """The link comes first, then a file "in" it: the old way out of a folder."""
    (tmp_path / "out").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        info = tarfile.TarInfo("way/escaped")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(unpack.BadArchive):
        unpack.unpack(tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("size", [20 << 20, 60 << 20])
@pytest.mark.parametrize("make", [zipped, tarred, lambda p, m: tarred(p, m, "w:xz")], ids=["zip", "gz", "xz"])
def test_bombs_are_refused_early(make: Callable[..., Path], size: int, tmp_path: Path):
    (tmp_path / "out").mkdir()
    archive = make(tmp_path / "a", {"img/zero": b"\0" * size})
    assert archive.stat().st_size * unpack.MOST_RATIO < size
    with pytest.raises(unpack.BadArchive, match="as bombs do"):
        unpack.unpack(archive, tmp_path / "out")
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()) <= unpack.ALWAYS


def test_many_small_files_are_a_bomb_too(tmp_path: Path):
    (tmp_path / "out").mkdir()
    archive = zipped(tmp_path / "a", {f"{i}": b"\0" * (1 << 20) for i in range(40)})
    with pytest.raises(unpack.BadArchive, match="as bombs do"):
        unpack.unpack(archive, tmp_path / "out")


def test_a_zip_file_that_lies_about_its_sizes(tmp_path: Path):
    """Sizes in the directory set to 1: what really comes out is counted, or the check sum does not fit."""
    (tmp_path / "out").mkdir()
    data = zipped(tmp_path / "a", {"zero": b"\0" * (20 << 20)}).read_bytes()
    size = (20 << 20).to_bytes(4, "little")
    (tmp_path / "a").write_bytes(data.replace(size, (1).to_bytes(4, "little")))
    with pytest.raises(unpack.BadArchive):
        unpack.unpack(tmp_path / "a", tmp_path / "out")


def test_headers_of_a_tar_file_without_end(tmp_path: Path):
    (tmp_path / "out").mkdir()
    with tarfile.open(tmp_path / "a", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"comment": "0" * (40 << 20)}
        archive.addfile(info)
    with pytest.raises(unpack.BadArchive, match="as bombs do"):
        unpack.unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("names", [("a", "a"), ("a/x", "a/./x"), ("a", "a/b"), ("a/b", "a")])
@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
def test_names_that_replace_each_other(make: Callable[..., Path], names: tuple[str, str], tmp_path: Path):
    (tmp_path / "out").mkdir()
    if make is zipped:
        with zipfile.ZipFile(tmp_path / "a", "w") as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), b"x")
    else:
        with tarfile.open(tmp_path / "a", "w") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 1
                archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(UserError):
        unpack.unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("make", [zipped, tarred, lambda p, m: tarred(p, m, "w")], ids=["zip", "gz", "tar"])
def test_a_damaged_archive_of_any_length_is_one_line(make: Callable[..., Path], tmp_path: Path):
    content = {f"img/{i}.bin": np.random.default_rng(i).bytes(3000) for i in range(4)}
    data = make(tmp_path / "a", content).read_bytes()
    # A plain tar file is whole from its end mark on; padding follows. Each member takes 512 bytes and 6 blocks of 512.
    end = 4 * (512 + 3072) + 1 if data[257:262] == b"ustar" else len(data) - 20
    for cut in {*range(0, end, len(data) // 24), end - 1}:
        (tmp_path / "cut").write_bytes(data[:cut])
        out = tmp_path / f"out{cut}"
        out.mkdir()
        with pytest.raises(unpack.BadArchive) as caught:
            unpack.unpack(tmp_path / "cut", out)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "start, says",
    [
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07\x00", "RAR"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"hello", "not a zip or tar"),
        (b"", "not a zip or tar"),
    ],
)
def test_what_is_no_archive_or_not_of_a_kind_read_here(start: bytes, says: str, tmp_path: Path):
    (tmp_path / "a").write_bytes(start + b"x" * 100 * bool(start))
    with pytest.raises(unpack.BadArchive, match=says):
        unpack.unpack(tmp_path / "a", tmp_path)


def test_an_encrypted_zip_file_is_named(tmp_path: Path):
    data = bytearray(zipped(tmp_path / "a", {"x": b"1"}).read_bytes())
    for magic, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(magic) + at] |= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(unpack.BadArchive, match="encrypted"):
        unpack.unpack(tmp_path / "a", tmp_path)


def test_modes_and_junk_of_an_archive_are_left_behind(tmp_path: Path):
    (tmp_path / "out").mkdir()
    members = {"img/a.jpg": b"1", "__MACOSX/img/._a.jpg": b"x", "img/.DS_Store": b"x", "img/._a.jpg": b"x"}
    found = unpack.unpack(zipped(tmp_path / "a", members, mode=stat.S_IFREG | 0o6777), tmp_path / "out")
    assert [m.path for m in found] == ["img/a.jpg"]
    assert not (tmp_path / "out" / "img" / "a.jpg").stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)


# From a file to a data set.


def way(*sources: Path) -> install.Way:
    return install.Way(lockfile.LockFile(lockfile.default()), sources=sources)


def packed(tmp_path: Path, layout: Layout, top: str) -> Path:
    layout.write(tmp_path / "made")
    files = {
        f"{top}{p.relative_to(tmp_path / 'made').as_posix()}": p.read_bytes()
        for p in (tmp_path / "made").rglob("*")
        if p.is_file()
    }
    return zipped(tmp_path / "archive.zip", files)


STANDARD = [layout for layout in LAYOUTS if layout.config in Catalogue().of("data")]


@pytest.mark.parametrize("top", ["", "Top/", "a/b c/"])
@pytest.mark.parametrize("layout", STANDARD, ids=lambda layout: layout.config)
def test_every_layout_is_found_wherever_the_archive_has_it(layout: Layout, top: str, tmp_path: Path, home: Path):
    entry = Catalogue().get("data", layout.config)
    if any(f.digest for f in entry.files):
        import dataclasses

        entry = dataclasses.replace(
            entry, files=tuple(dataclasses.replace(f, digest=None, unpack="auto") for f in entry.files)
        )
    install.install(entry, way(packed(tmp_path, layout, top)))
    dataset = build(plain(Config().load("dataset", layout.config)), "dataset")  # no root given
    assert tuple(dataset.names) == layout.names
    direct = build(plain(Config().load("dataset", layout.config, {"root": str(tmp_path / "made")})), "dataset")
    assert dataset.digest() == direct.digest()


def test_every_dataset_that_can_be_fetched_says_how_when_it_is_not_here(home: Path):
    names = [name for name in Catalogue().of("data") if name in Config().options("dataset")]
    assert {"grabcut", "berkeley", "davis", "sbd", "pascal_voc", "coco_mval", "hqseg44k"} <= set(names)
    for name in names:
        with pytest.raises(
            UserError, match=rf"python -m harness\.fetch data={name} .*dataset\.root=DIR\. Expected layout: "
        ):
            build(plain(Config().load("dataset", name)), "dataset")


def test_another_package_than_expected_leaves_nothing(tmp_path: Path, home: Path):
    archive = zipped(tmp_path / "a.zip", {"pictures/a.jpg": b"1"})
    with pytest.raises(UserError, match="no folder of it has data_GT and boundary_GT .it holds: pictures/a.jpg"):
        install.install(Catalogue().get("data", "grabcut"), way(archive))
    assert places.installed("data", "grabcut") is None and not list((home / "data").glob("*"))
    assert [p.name for p in (home / "incoming" / "data-grabcut").iterdir()] == ["grabcut.archive.rejected"]


def test_only_a_good_archive_is_recorded_at_first_use(tmp_path: Path, home: Path):
    """A cut one would be required from everybody for ever."""
    grabcut = next(layout for layout in LAYOUTS if layout.config == "grabcut")
    good = packed(tmp_path, grabcut, "")
    (tmp_path / "cut.zip").write_bytes(good.read_bytes()[:-40])
    entry = Catalogue().get("data", "grabcut")
    with pytest.raises(UserError, match="damaged"):
        install.install(entry, way(tmp_path / "cut.zip"))
    assert not (home / "is-bench.lock.yaml").exists() and places.installed("data", "grabcut") is None
    install.install(entry, way(good))
    assert "data/grabcut/grabcut.archive" in (home / "is-bench.lock.yaml").read_text()


def test_a_full_disk_while_unpacking(tmp_path: Path, home: Path, monkeypatch):
    """Nothing lies under the final name, and the next command needs no second transfer."""
    grabcut = next(layout for layout in LAYOUTS if layout.config == "grabcut")
    archive = packed(tmp_path, grabcut, "")
    real = unpack._write

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unpack, "_write", full)
    with pytest.raises(room.NoRoom, match="no room in"):
        install.install(Catalogue().get("data", "grabcut"), way(archive))
    assert not list((home / "data").iterdir())
    monkeypatch.setattr(unpack, "_write", real)
    assert install.install(Catalogue().get("data", "grabcut"), way(archive)).path.is_dir()


def test_a_folder_of_the_users_own_is_not_touched(tmp_path: Path, home: Path):
    mine = home / "data" / "grabcut"
    mine.mkdir(parents=True)
    (mine / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="lies there already and was not fetched"):
        install.install(Catalogue().get("data", "grabcut"), way(tmp_path))
    assert (mine / "mine.txt").read_text() == "x"


@pytest.mark.parametrize("text", ["../../etc", "a/b", "", ".", "..", "/etc"])
def test_names_of_fetched_things_lead_nowhere_else(text: str, home: Path):
    assert places.installed("data", text) is None


def test_a_record_that_leads_elsewhere_is_none(home: Path, tmp_path: Path):
    folder = home / "data" / "grabcut"
    folder.mkdir(parents=True)
    for use in ("../../..", "/etc"):
        (folder / ".fetched.json").write_text(f'{{"kind":"data","name":"grabcut","use":"{use}","at":"","files":[]}}')
        assert places.installed("data", "grabcut") is None


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "expected keys and values"),
        ("[1]", "expected keys and values"),
        ("kind: data\nname: x\nlicense: y", "Did you mean 'licence'"),
        ("kind: date\nname: x", "Did you mean 'data'"),
        ("kind: data\nname: ../x", "letters, digits"),
        ("kind: data\nname: x\nfiles: [{name: a, digest: 'md5:12'}]", "32 hexadecimal digits"),
        ("kind: data\nname: x\nfiles: [{name: a, urls: ['file:///etc/passwd']}]", "https://"),
        ("kind: data\nname: x\nfiles: [{name: a/b}]", "a file name"),
        ("kind: data\nname: x\nfiles: [{name: a, unpack: 7z}]", "Allowed: auto, none, tar, zip"),
        ("kind: data\nname: x\nfiles: [{name: a, size: -1}]", "a number above 0"),
        ("kind: data\nname: x\nfiles: {name: a}", "expected a list"),
        ("kind: data\nname: x\nlayout: [1]", "a list of texts"),
        ("a: &a [*a]", "no YAML|unknown key|expected"),
    ],
)
def test_a_manifest_that_is_none_is_one_line(text: str, says: str):
    with pytest.raises(UserError, match=says) as caught:
        parse(text, "mine.yaml")
    assert "mine.yaml" in str(caught.value) and "\n" not in str(caught.value)
