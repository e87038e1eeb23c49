"""Jobs that run cells: what a framework's process finds in its folder when it starts, and what it leaves there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from transfer_parity.shared.contract.jobs import Cell, Job, Runtime
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.data import pixel_cache
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.runtime.native_behaviour import READING


def _files(data: Dataset, folder: Path) -> list[Path]:
    """The images as files, for a wing that reads them itself; those that are no files yet are written for it."""
    written = folder / "pictures"
    written.mkdir(exist_ok=True)
    found = [path.absolute() for path in data.pictures.files(range(len(data)), written)]
    return [_nameable(path, written / f"{number}{path.suffix}") for number, path in enumerate(found)]


def _nameable(path: Path, link: Path) -> Path:
    """The file under a name that JSON can hold: names of another encoding get a link."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        link = link.absolute()
        link.symlink_to(path)
        return link
    return path


def cell_id(pretrained: bool, shots: Shots, seed: int) -> str:
    """Name of a cell, and of its folder."""
    return f"{'pretrained' if pretrained else 'untrained'}-shots{shots}-seed{seed}"


def plan_file(shots: Shots, seed: int) -> str:
    """Name of a plan's file in the job's folder."""
    return f"plan-shots{shots}-seed{seed}.npz"


def data_digest(pixels: Path, switches: frozenset[str] = frozenset()) -> str:
    """Of the images as a wing sees them: of the decoded ones, and of their files if it reads those itself."""
    return pixel_cache.digest(pixels) + (pixels.parent.name if switches & READING else "")


def prepare(
    folder: Path,
    recipe: Recipe,
    threads: int,
    data: Dataset,
    pixels: Path,
    checkpoint: Path | None,
    cells: Sequence[Cell],
    plans: Mapping[tuple[Shots, int], Plan],
    store: Path | None,
    runtime: Runtime = "tuned",
    kind: Literal["compare", "features"] = "compare",
    switches: frozenset[str] = frozenset(),
) -> Job:
    """A job of some cells; labels and plans are written into its folder.

    Args:
        folder: of the job; exists.
        recipe: of the cells.
        threads: of the framework.
        data: whose labels and classes count.
        pixels: its images, uint8 (N, S, S, 3) as .npy, in the cache.
        checkpoint: neutral checkpoint of pretrained cells.
        cells: what to do.
        plans: by number of shots and seed.
        store: keeps outputs of frozen layers for later runs.
        runtime: "tuned", or "stock".
        kind: "compare" trains and judges, "features" only hands over what the frozen layers put out.
        switches: of this wing.
    """
    np.save(folder / "labels.npy", data.labels)
    for cell in cells:
        plans[cell.shots, cell.seed].save(folder / cell.plan)
    return Job(
        kind=kind,
        recipe=recipe,
        threads=threads,
        classes=data.classes,
        images=pixels,
        labels=(folder / "labels.npy").absolute(),
        checkpoint=checkpoint.absolute() if checkpoint else None,
        runtime=runtime,
        store=store,
        data_digest=data_digest(pixels, switches),
        cells=tuple(cells),
        switches=tuple(sorted(switches)),
        pictures=tuple(_files(data, folder)) if switches & READING else (),
    )
