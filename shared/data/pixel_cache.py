"""The pixels of a set, decoded once for both frameworks."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from transfer_parity.shared.core import cache_contents, code, files, kept, machine
from transfer_parity.shared.core.arrays import write_header
from transfer_parity.shared.core.cache import Cache, used
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data import images
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.data.storage import Decoder

#: Images that a thread decodes in one go, and how many goes are handed out for each thread: bounds the memory.
_BATCH, _AHEAD = 8, 2
#: A decoded image, or why there is none.
Outcome = NDArray[np.uint8] | images.Unreadable


def pixels(
    dataset: Dataset,
    resize: int,
    size: int,
    cache: Cache,
    skip_unreadable: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Dataset, Path]:
    """Decode, resize and crop every image once, into one uint8 array (N, size, size, 3) in the cache.

    Memory does not grow with the set: a few images at a time are decoded, and written as they come.

    Args:
        dataset: whose images are read.
        resize: shorter side after resizing, in pixels.
        size: side of the centre crop that is kept, in pixels.
        cache: keeps the array, under a key made of the files' names, sizes and times, of these settings and of the
            code that decodes.
        skip_unreadable: leave broken files out instead of refusing the set.
        progress: hears how many images are done.

    Returns:
        The data set without skipped files, and the path of the array (.npy).

    Raises:
        BadInput: files cannot be read (all of them are listed), or the array does not fit on the disk.
    """
    key = files.digest(_key(dataset, resize, size), 32)
    folder = cache.folder("pixels", key)
    array = folder / "images.npy"
    notes = _notes(array)
    with cache.lock(f"pixels-{key}"):
        if not kept.intact(folder, "decoded again"):
            kept.discard(folder)
            folder.mkdir()
            cache_contents.make_room(cache, len(dataset) * size * size * 3, keep=[folder])
            _check_space(dataset, size, folder)
            found = _decode_all(dataset, resize, size, array, progress)
            notes.write_text(json.dumps(found), encoding="utf-8")
            kept.seal(folder)
        used(folder)
        found = json.loads(notes.read_text(encoding="utf-8"))
        unreadable = {index: (name, reason) for index, name, reason in found["unreadable"]}
        if not unreadable:
            return dataset, array
        if not skip_unreadable:
            # Not kept: the files may be mended in place.
            kept.discard(folder)
            listed = "\n".join(f"  {name}: {reason}" for name, reason in unreadable.values())
            one = len(unreadable) == 1
            pronoun = "it" if one else "them"
            raise BadInput(
                f"{len(unreadable)} image file{'' if one else 's'} in {dataset.name} cannot be read; mend or remove "
                f"{pronoun}, or go on without {pronoun} with --skip-unreadable:\n{listed}"
            )
    keep = np.ones(len(dataset), dtype=bool)
    keep[list(unreadable)] = False
    return replace(dataset.only(keep), skipped=tuple(name for name, _ in unreadable.values())), array


def digest(array: Path) -> str:
    """SHA-256 of the decoded images that ``pixels`` has written, wherever they came from."""
    return str(json.loads(_notes(array).read_text(encoding="utf-8"))["digest"])


def _notes(array: Path) -> Path:
    """What is known about decoded images, beside them."""
    return array.with_suffix(".json")


def _key(dataset: Dataset, resize: int, size: int) -> dict[str, Any]:
    """Everything on which the pixels depend, JSON values by name. A recipe reaches them through nothing else."""
    state = hashlib.sha256()
    for part in dataset.pictures.state():
        state.update(part)
    return {
        "code": code.of_pixels(),
        "pillow": PIL.__version__,
        "resize": resize,
        "size": size,
        "files": state.hexdigest(),
    }


def _check_space(dataset: Dataset, size: int, folder: Path) -> None:
    needed, free = len(dataset) * size * size * 3, shutil.disk_usage(folder).free
    if needed > free:
        raise BadInput(
            f"the {len(dataset)} images of {dataset.name} take {needed / 1e9:.1f} GB at {size} px, but {folder} has "
            f"{free / 1e9:.1f} GB left; lower --image-size, or name a cache on another disk with --cache-dir."
        )


def _decode_all(dataset: Dataset, resize: int, size: int, target: Path, progress: Progress) -> dict[str, Any]:
    """Write the readable images, in order and without gaps. Returns their digest, and what is to say of all others."""
    unreadable: list[tuple[int, str, str]] = []
    state = hashlib.sha256(str(size).encode())
    temporary = target.with_suffix(".part")
    try:
        # Plain writing, since the pages of a memory map count as this process's memory.
        with temporary.open("wb") as file:
            write_header(file, (len(dataset), size, size, 3), np.uint8)
            for index, (name, result) in enumerate(_decoded(dataset.pictures.decoders(), resize, size)):
                if isinstance(result, images.Unreadable):
                    unreadable.append((index, name, str(result)))
                else:
                    image = result.tobytes()
                    file.write(image)
                    state.update(image)
                progress("decoding images", index + 1, len(dataset))
            file.seek(0)
            write_header(file, (len(dataset) - len(unreadable), size, size, 3), np.uint8)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    # Index, name and reason.
    return {"digest": state.hexdigest(), "unreadable": unreadable}


def _decoded(decoders: Iterator[tuple[str, Decoder]], resize: int, size: int) -> Iterator[tuple[str, Outcome]]:
    """Name and pixels (size, size, 3) of every image, in order, decoded by all cores a little ahead of the caller."""

    def decode(batch: list[tuple[str, Decoder]]) -> list[tuple[str, Outcome]]:
        return [(name, _fitted(decoder, resize, size)) for name, decoder in batch]

    threads = machine.available_cores()
    waiting: deque[Future[list[tuple[str, Outcome]]]] = deque()
    # Pillow decodes and resizes outside of Python's lock, so threads are enough.
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(decoders, _BATCH)):
            waiting.append(pool.submit(decode, batch))
            if len(waiting) >= _AHEAD * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _fitted(decoder: Decoder, resize: int, size: int) -> Outcome:
    try:
        return images.fit(decoder(), resize, size)
    except images.Unreadable as error:
        return error
