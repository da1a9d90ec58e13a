"""Archives are unpacked whole and inside their folder, or not at all."""

import gzip
import io
import resource
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from download.conftest import files
from earmark import InputError
from earmark.download.fetch import fetch

NOISE = np.random.default_rng(6).bytes(700_000)
GOOD = {"LA/flac/a.flac": NOISE, "LA/flac/b.flac": b"", "LA/protocol.txt": b"a bonafide\n" * 100}


def tar(entries: dict[str, bytes], mode: str = "w:gz", extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return made.getvalue()


def entry(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zipped(entries: dict[str, bytes], kinds: dict[str, int] | None = None) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (kinds or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return made.getvalue()


def unpack(folder: Path, name: str, content: bytes, params) -> dict[str, bytes]:
    """Fetch an archive that lies on this machine."""
    (folder / name).write_bytes(content)
    fetch(str(folder / name), folder / "out", params)
    return files(folder / "out")


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")]
)
def test_a_tar_is_unpacked(tmp_path, params, name, mode):
    assert unpack(tmp_path, name, tar(GOOD, mode), params) == GOOD


def test_a_zip_is_unpacked(tmp_path, params):
    assert unpack(tmp_path, "a.zip", zipped(GOOD | {"LA/empty/": b""}), params) == GOOD
    assert (tmp_path / "out/LA/empty").is_dir()


def test_links_inside_are_kept(tmp_path, params):
    links = (entry("LA/again.flac", tarfile.SYMTYPE, "flac/a.flac"), entry("LA/flac/same.flac", tarfile.LNKTYPE, "LA/flac/a.flac"))
    found = unpack(tmp_path, "a.tar", tar(GOOD, "w", links), params)
    assert found == GOOD | {"LA/again.flac": NOISE, "LA/flac/same.flac": NOISE}
    assert (tmp_path / "out/LA/again.flac").is_symlink()


OUT = {
    "upwards": (tarfile.REGTYPE, "LA/../../evil", ""),
    "absolute": (tarfile.REGTYPE, "/tmp/earmark-evil", ""),
    "folder upwards": (tarfile.DIRTYPE, "../evil", ""),
    "link to an absolute place": (tarfile.SYMTYPE, "LA/evil", "/etc/passwd"),
    "link upwards": (tarfile.SYMTYPE, "LA/evil", "../../evil"),
    "hard link upwards": (tarfile.LNKTYPE, "LA/evil", "../evil"),
    "hard link to an absolute place": (tarfile.LNKTYPE, "LA/evil", "/etc/passwd"),
    "device": (tarfile.CHRTYPE, "LA/evil", ""),
    "pipe": (tarfile.FIFOTYPE, "LA/evil", ""),
}


@pytest.mark.parametrize("kind", OUT)
def test_a_tar_that_leads_out_is_refused_and_nothing_of_it_is_kept(tmp_path, params, kind):
    how, name, link = OUT[kind]
    (tmp_path / "inner").mkdir()
    with pytest.raises(InputError, match=r"a\.tar: its (entry|link) '.*'.*; nothing of it is kept"):
        unpack(tmp_path / "inner", "a.tar", tar(GOOD, "w", (entry(name, how, link),)), params)
    assert not (tmp_path / "inner/out").exists()
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/tmp/earmark-evil").exists()


@pytest.mark.parametrize("reverse", [False, True])
def test_links_that_lead_out_together_are_refused(tmp_path, params, reverse):
    """Each for itself stays inside by its letters."""
    links = [
        entry("d", tarfile.SYMTYPE, "."),
        entry("LA/deep", tarfile.SYMTYPE, "../d/LA/.."),
        entry("evil", tarfile.SYMTYPE, "LA/deep/../../x"),
    ]
    with pytest.raises(InputError, match="leads out of the folder"):
        unpack(tmp_path, "a.tar", tar(GOOD, "w", tuple(links[::-1] if reverse else links)), params)


def test_nothing_is_written_through_a_link(tmp_path, params):
    (tmp_path / "outside").mkdir()
    for target in (str(tmp_path / "outside"), "../../outside"):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            archive.addfile(entry("way", tarfile.SYMTYPE, target))
            info = tarfile.TarInfo("way/evil")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
        with pytest.raises(InputError, match="link 'way'"):
            unpack(tmp_path, "a.tar", made.getvalue(), params)
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("../evil", stat.S_IFREG, b""),
        ("/tmp/earmark-evil", stat.S_IFREG, b""),
        ("LA/evil", stat.S_IFLNK, b"../../evil"),
        ("LA/evil", stat.S_IFLNK, b"/etc/passwd"),
        ("LA/evil", stat.S_IFCHR, b""),
    ],
)
def test_a_zip_that_leads_out_is_refused_and_nothing_of_it_is_kept(tmp_path, params, name, kind, content):
    (tmp_path / "inner").mkdir()
    with pytest.raises(InputError, match=r"a\.zip: its (entry|link) .*evil'.*nothing of it is kept"):
        unpack(tmp_path / "inner", "a.zip", zipped(GOOD | {name: content}, {name: kind | 0o644}), params)
    assert not (tmp_path / "inner/out").exists()
    assert not list(tmp_path.rglob("evil"))


BOMB = {"zeros": bytes(30_000_000)}


@pytest.mark.parametrize(("name", "content"), [("a.tar.gz", tar(BOMB)), ("a.zip", zipped(BOMB)), ("a.tar.xz", tar(BOMB, "w:xz"))])
def test_a_bomb_is_stopped_by_its_ratio(tmp_path, params, name, content):
    with pytest.raises(InputError, match=r"holds more than .*download\.max_ratio = 200"):
        unpack(tmp_path, name, content, params)
    fetch(str(tmp_path / name), tmp_path / "out", params.model_copy(update={"max_ratio": 100_000}))
    assert files(tmp_path / "out") == BOMB


def test_bombs_of_padding_headers_sizes_and_counts_are_stopped(tmp_path, params, monkeypatch):
    small = params.model_copy(update={"max_unpacked_gb": 0.0005})
    monkeypatch.setattr("earmark.download.unpack.MAX_ENTRIES", 3)
    with pytest.raises(InputError, match="holds more than"):
        unpack(tmp_path, "sizes.tar", tar(GOOD, "w"), small)
    with pytest.raises(InputError, match="more than 3 entries"):
        unpack(tmp_path, "counts.zip", zipped({str(number): b"" for number in range(4)}), small)
    with pytest.raises(InputError, match="holds more than"):
        unpack(tmp_path, "padding.tar.gz", gzip.compress(tar({"a": b""}, "w") + bytes(40_000_000)), params)
    header = entry("name", tarfile.GNUTYPE_LONGNAME)
    header.size = 20_000_000
    with pytest.raises(InputError, match="a header that is too long"):
        unpack(tmp_path, "header.tar.gz", gzip.compress(header.tobuf() + bytes(20_000_000)), params)
    assert not (tmp_path / "out").exists()


WHOLE = {"a.tar": tar(GOOD, "w"), "a.tar.gz": tar(GOOD), "a.zip": zipped(GOOD)}
BROKEN = [(name, keep) for name in WHOLE for keep in (0, 300, 512, 1536, 350_000, -10_000, -1)]


@pytest.mark.parametrize(("name", "keep"), [case for case in BROKEN if case != ("a.tar", -1)])  # a tar ends in padding
def test_an_archive_that_breaks_off_is_refused(tmp_path, params, name, keep):
    with pytest.raises(InputError, match="damaged or breaks off"):
        unpack(tmp_path, name, WHOLE[name][:keep], params)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "content"), [("a.tar.gz", tar(GOOD)), ("a.zip", zipped(GOOD))])
def test_a_flipped_bit_is_found(tmp_path, params, name, content):
    damaged = bytearray(content)
    damaged[400_000] ^= 1
    with pytest.raises(InputError, match="damaged or breaks off"):
        unpack(tmp_path, name, bytes(damaged), params)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_is_named_and_leaves_no_folder(tmp_path, params):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "a.zip").write_bytes(zipped(GOOD))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))  # files stop growing, as on a full disk
    try:
        with pytest.raises(InputError, match=r"cannot write .*a\.flac: File too large; free space, then run it again"):
            fetch(str(tmp_path / "a.zip"), tmp_path / "out", params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "out").exists()
    fetch(str(tmp_path / "a.zip"), tmp_path / "out", params)
    assert files(tmp_path / "out") == GOOD


def test_a_place_that_cannot_be_written_is_named(tmp_path, params):
    (tmp_path / "a.zip").write_bytes(zipped(GOOD))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file/out\.download: Not a directory"):
        fetch(str(tmp_path / "a.zip"), tmp_path / "file/out", params)


def test_garbage_between_the_entries_of_a_tar_is_found(tmp_path, params):
    content = bytearray(tar({"a": bytes(512), "b": bytes(512), "c": bytes(512)}, "w"))
    content[1024:1536] = b"x" * 512
    with pytest.raises(InputError, match="damaged or breaks off"):
        unpack(tmp_path, "a.tar", bytes(content), params)
