"""Images that lie in a zip archive: read from it, a member at a time, and never unpacked."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.text import brief, is_name
from transfer_parity.shared.data import images
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.data.storage import Decoder, Joined, file_state

#: The largest member that is read, in bytes, and the largest number of members: more is no archive of images.
MOST_BYTES, MOST_MEMBERS = 2**26, 2**20
#: What a damaged, encrypted or strangely compressed member raises.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive whose members all stay in it.

    Raises:
        BadInput: it is missing, damaged or no zip archive, or a member's name leads out of it.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file; give a zip archive.") from None
    except _DAMAGED as error:
        raise BadInput(f"{path} is damaged or no zip archive ({error}); fetch it again.") from None
    with archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise BadInput(f"{path} has {len(members)} members; give an archive of at most {MOST_MEMBERS}.")
        for member in members:
            name = PurePosixPath(member.filename.replace("\\", "/"))
            drive = name.parts[:1] and name.parts[0][1:2] == ":"
            if name.is_absolute() or ".." in name.parts or drive or not is_name(member.filename):
                raise BadInput(f"{path}: the member {brief(member.filename)} lies outside of it; do not use it.")
        yield archive


def content(archive: zipfile.ZipFile, name: str) -> bytes:
    """What a member holds.

    Raises:
        images.Unreadable: it is missing, damaged or too large.
    """
    try:
        member = archive.getinfo(name)
        # What it says about its size may be wrong: no more than that is unpacked.
        with archive.open(member) as file:
            data = file.read(MOST_BYTES + 1)
    except KeyError:
        raise images.Unreadable("not in the archive") from None
    except _DAMAGED as error:
        raise images.Unreadable(f"damaged in the archive ({error})") from None
    if len(data) > MOST_BYTES:
        raise images.Unreadable(f"larger than {MOST_BYTES >> 20} MiB")
    return data


def image_names(archive: zipfile.ZipFile) -> list[str]:
    """Members that are images by their name, sorted; hidden ones and what macOS adds are none."""
    found = []
    for member in archive.infolist():
        parts = PurePosixPath(member.filename).parts
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        if not member.is_dir() and not hidden and PurePosixPath(parts[-1]).suffix.lower() in images.SUFFIXES:
            found.append(member.filename)
    return sorted(found)


@dataclass(frozen=True)
class Members:
    """Images in an archive.

    Attributes:
        archive: its file.
        names: of the N members.
    """

    archive: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def state(self) -> Iterator[bytes]:
        """Name, size and times of the archive, and the members' names."""
        yield file_state(self.archive)
        yield "\n".join(self.names).encode()

    def decoders(self) -> Iterator[tuple[str, Decoder]]:
        """Names of the members; each is read when it is its turn, and decoded later."""
        with opened(self.archive) as archive:
            for name in self.names:
                try:
                    data = content(archive, name)
                except images.Unreadable as error:
                    yield name, partial(_refuse, error)
                else:
                    yield name, partial(_decode, data)

    def only(self, keep: NDArray[np.bool_]) -> Members:
        """Those that are chosen by a mask (N,)."""
        return replace(self, names=tuple(name for name, kept in zip(self.names, keep, strict=True) if kept))

    def files(self, indices: Sequence[int], folder: Path) -> list[Path]:
        """Files with the members' bytes, named by number; nothing of a member's name but its suffix is used."""
        found = []
        with opened(self.archive) as archive:
            for index in indices:
                path = folder / f"{index:06d}{PurePosixPath(self.names[index]).suffix.lower()}"
                if not path.is_file():
                    path.write_bytes(content(archive, self.names[index]))
                found.append(path)
        return found


def joined(first: Dataset, second: Dataset) -> Dataset:
    """Two data sets as one, without test sets of their own; the classes of the second follow those of the first.

    Raises:
        BadInput: both have a class of one name.
    """
    if both := sorted(set(first.classes) & set(second.classes)):
        raise BadInput(
            f"{first.name} and {second.name} both have the class {brief(both[0])}; a class cannot be base and novel: "
            "rename it, or leave it out of one of them."
        )
    return Dataset(
        f"{second.name} after {first.name}",
        first.classes + second.classes,
        Joined(first.pictures, second.pictures),
        np.concatenate([first.labels, second.labels + len(first.classes)]),
        None,
        first.skipped + second.skipped,
    )


def from_zip(path: Path) -> Dataset:
    """Images of an archive; the folder that an image lies in is its class, by its path below what all have in common.

    Raises:
        BadInput: the archive cannot be used, or has fewer than two folders of images.
    """
    with opened(path) as archive:
        names = image_names(archive)
    folders = [PurePosixPath(name).parent.parts for name in names]
    depth = len(list(takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))))
    shown = ["/".join(parts[depth:]) for parts in folders]
    classes = tuple(sorted(set(shown)))
    if len(classes) < 2:
        raise BadInput(
            f"{path} holds {len(classes) or 'no'} folder{'s' * (not classes)} of images; a class is a folder."
        )
    if "" in classes:
        raise BadInput(f"{path} has images beside its folders of images; a class is a folder.")
    places = {name: index for index, name in enumerate(classes)}
    return Dataset(
        str(path), classes, Members(path, tuple(names)), np.array([places[name] for name in shown], np.int64), None
    )


def _decode(data: bytes) -> Image.Image:
    return images.decode(io.BytesIO(data))


def _refuse(error: images.Unreadable) -> Image.Image:
    raise error
