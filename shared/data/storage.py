"""Where the images of a data set lie: each in a file of its own, or many in one."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import images

#: Decodes one image; raises ``images.Unreadable``.
Decoder = Callable[[], Image.Image]


class Pictures(Protocol):
    """N images in a fixed order."""

    def __len__(self) -> int: ...

    def state(self) -> Iterator[bytes]:
        """What is different as soon as an image is."""

    def decoders(self) -> Iterator[tuple[str, Decoder]]:
        """For every image, in order, its name as text and a function that decodes it; threads may call it."""

    def only(self, keep: NDArray[np.bool_]) -> Pictures:
        """Those that are chosen by a mask (N,), in the same order."""

    def files(self, indices: Sequence[int], folder: Path) -> list[Path]:
        """Some images as files of their own. What is no file yet is written into the folder, without loss."""


@dataclass(frozen=True)
class Files:
    """One file for each image.

    Attributes:
        root: the folder that names are relative to.
        paths: of all N images.
    """

    root: Path
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def state(self) -> Iterator[bytes]:
        """Names, sizes and times."""
        return map(file_state, self.paths)

    def decoders(self) -> Iterator[tuple[str, Decoder]]:
        """Names below the root; those of another encoding get replacement characters."""
        for path in self.paths:
            shown = os.fsencode(path.relative_to(self.root)).decode("utf-8", "replace")
            yield shown, partial(images.decode, path)

    def only(self, keep: NDArray[np.bool_]) -> Files:
        """Those that are chosen by a mask (N,)."""
        return replace(self, paths=tuple(path for path, kept in zip(self.paths, keep, strict=True) if kept))

    def files(self, indices: Sequence[int], folder: Path) -> list[Path]:
        """The files themselves."""
        return [self.paths[index] for index in indices]


@dataclass(frozen=True)
class Joined:
    """The images of one set, and behind them those of another.

    Attributes:
        first: the ones in front, M of them.
        second: the others.
    """

    first: Pictures
    second: Pictures

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def state(self) -> Iterator[bytes]:
        """That of both, and where one ends."""
        yield from self.first.state()
        yield f"{len(self.first)} and\n".encode()
        yield from self.second.state()

    def decoders(self) -> Iterator[tuple[str, Decoder]]:
        """Those of both."""
        yield from self.first.decoders()
        yield from self.second.decoders()

    def only(self, keep: NDArray[np.bool_]) -> Joined:
        """Those that are chosen by a mask (N,)."""
        return Joined(self.first.only(keep[: len(self.first)]), self.second.only(keep[len(self.first) :]))

    def files(self, indices: Sequence[int], folder: Path) -> list[Path]:
        """Those of both, written into a folder each where they are no files yet."""
        border = len(self.first)
        parts = (
            (self.first, [i for i in indices if i < border]),
            (self.second, [i - border for i in indices if i >= border]),
        )
        found: dict[int, Path] = {}
        for number, (part, chosen) in enumerate(parts):
            place = folder / str(number)
            place.mkdir(parents=True, exist_ok=True)
            found |= dict(zip([i + number * border for i in chosen], part.files(chosen, place), strict=True))
        return [found[index] for index in indices]


@dataclass(frozen=True, eq=False)
class Sprites:
    """Square images, each of which is one row of pixels of a larger image (a sprite), its lines one after the other.

    Attributes:
        paths: of the sprites.
        starts: number of the first image of each sprite, counted over all sprites.
        side: of an image, in pixels; a sprite is side * side pixels wide.
        numbers: of the N images that belong to the set, ascending.
    """

    paths: tuple[Path, ...]
    starts: tuple[int, ...]
    side: int
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, paths: Sequence[Path], side: int) -> Sprites:
        """All images of some sprites; only their headers are read.

        Raises:
            BadInput: a sprite is damaged or has another width.
        """
        heights = []
        for path in paths:
            with _sprite(path) as sprite:
                if sprite.width != side * side:
                    raise _damaged(path, f"it is {sprite.width} pixels wide instead of {side * side}")
                heights.append(sprite.height)
        starts = np.cumsum([0, *heights])
        return cls(tuple(paths), tuple(starts[:-1].tolist()), side, np.arange(starts[-1], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.numbers)

    def state(self) -> Iterator[bytes]:
        """Names, sizes and times of the sprites, and which of their images belong to the set."""
        yield from map(file_state, self.paths)
        yield f"{self.side} ".encode() + self.numbers.tobytes()

    def decoders(self) -> Iterator[tuple[str, Decoder]]:
        """Sprite and row. A sprite is decoded when its first image is asked for, and forgotten after its last.

        Raises:
            BadInput: a sprite is damaged.
        """
        current = -1
        for number in self.numbers.tolist():
            which = bisect_right(self.starts, number) - 1
            if which != current:
                current = which
                with _sprite(self.paths[which]) as file:
                    try:
                        file.load()
                    except Exception as error:
                        # As in ``images.decode``: a damaged file can raise anything.
                        raise _damaged(self.paths[which], str(error)) from None
                    pixels = file if file.mode == "RGB" else images.to_rgb(file)
            row = number - self.starts[which]
            yield f"{self.paths[which].name}, row {row}", partial(_row, pixels, row, self.side)

    def only(self, keep: NDArray[np.bool_]) -> Sprites:
        """Those that are chosen by a mask (N,)."""
        return replace(self, numbers=self.numbers[keep])

    def files(self, indices: Sequence[int], folder: Path) -> list[Path]:
        """PNG files, named by number; those that are there already are not written again."""
        wanted = self.numbers[list(indices)]
        paths = {number: folder / f"{number:06d}.png" for number in wanted.tolist()}
        missing = sorted(number for number, path in paths.items() if not path.is_file())
        folder.mkdir(parents=True, exist_ok=True)
        for number, (_, decode) in zip(missing, replace(self, numbers=np.array(missing)).decoders(), strict=True):
            unfinished = paths[number].with_suffix(".part")
            decode().save(unfinished, format="PNG")
            unfinished.replace(paths[number])
        return [paths[number] for number in wanted.tolist()]


def file_state(path: Path) -> bytes:
    """What is different as soon as a file is: name, size and times."""
    status = path.stat()
    # The time of the last change of anything about the file cannot be set: who unpacks another file with the same time
    # of modification in its place is noticed.
    return os.fsencode(path) + f" {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode()


def _sprite(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=("PNG",))
    except Exception as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, reason: str) -> BadInput:
    return BadInput(f"{path} is damaged ({reason}); remove its folder and run again to fetch it anew.")


def _row(sprite: Image.Image, row: int, side: int) -> Image.Image:
    return Image.fromarray(np.asarray(sprite.crop((0, row, side * side, row + 1))).reshape(side, side, 3))
