"""Published runs of one-shot classification in an archive, as those of Omniglot (Lake et al., Science 2015).

Members of the archive, of each run:

    runNN/class_labels.txt      a line for each test image: its name, and that of the training image of its class
    runNN/training/*.png        one image of each class
    runNN/test/*.png            images to be recognised
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.text import brief
from transfer_parity.shared.data import archives, images
from transfer_parity.shared.data.archives import Members
from transfer_parity.shared.data.folders import Dataset

#: In the folder of a run: which test image belongs to which training image, and where the training images lie.
LABELS_FILE, TRAINING = "class_labels.txt", "training"


@dataclass(frozen=True)
class Runs:
    """R runs with the same number of classes and of test images.

    Attributes:
        data: all images; every class of every run is a class of its own.
        names: of the runs.
        support: indices of the training images, int64 (R, ways).
        queries: indices of the test images, in the order of the file, int64 (R, m).
        query_labels: places of their classes in ``support``, int64 (R, m).
    """

    data: Dataset
    names: tuple[str, ...]
    support: NDArray[np.int64]
    queries: NDArray[np.int64]
    query_labels: NDArray[np.int64]


def read(path: Path) -> Runs:
    """The runs of an archive.

    Raises:
        BadInput: the archive or one of its runs cannot be used.
    """
    with archives.opened(path) as archive:
        files = sorted(each.filename for each in archive.infolist() if PurePosixPath(each.filename).name == LABELS_FILE)
        if not files:
            raise BadInput(f"{path} has no {LABELS_FILE}, so no runs; give an archive such as Omniglot's all_runs.zip.")
        held = set(archives.image_names(archive))
        runs = [_run(path, archive, name, held) for name in files]
    for name, run in zip(files, runs, strict=True):
        for what, mine, first in (("classes", run[0], runs[0][0]), ("test images", run[1], runs[0][1])):
            if len(mine) != len(first):
                raise BadInput(
                    f"{path}: {name} has {len(mine)} {what}, and {files[0]} {len(first)}; runs must be alike."
                )
    names: list[str] = []
    classes: list[str] = []
    labels: list[int] = []
    for training, tests, answers in runs:
        first_class = len(classes)
        # A class is named after its training image.
        classes += [str(PurePosixPath(each).with_suffix("")) for each in training]
        names += [*training, *tests]
        labels += [*range(first_class, len(classes)), *(first_class + answer for answer in answers)]
    ways, asked = len(runs[0][0]), len(runs[0][1])
    places = np.arange(len(names), dtype=np.int64).reshape(len(runs), ways + asked)
    return Runs(
        Dataset(str(path), tuple(classes), Members(path, tuple(names)), np.array(labels, np.int64), None),
        tuple(str(PurePosixPath(name).parent) for name in files),
        places[:, :ways],
        places[:, ways:],
        np.array([answers for _, _, answers in runs], np.int64),
    )


def _run(path: Path, archive: zipfile.ZipFile, name: str, held: set[str]) -> tuple[list[str], list[str], list[int]]:
    """Training images, test images, and for each of these the place of its class among the training images."""
    try:
        lines = archives.content(archive, name).decode("utf-8").splitlines()
    except images.Unreadable as error:
        raise BadInput(f"{path}: {name} is {error}; fetch the archive again.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: {name} is not text; fetch the archive again.") from None
    folder = PurePosixPath(name).parent
    pairs = [line.split() for line in lines if line.strip()]
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2:
            raise BadInput(f"{path}: line {number} of {name} does not name a test and a training image; mend it.")
        # Names begin with the run's folder, whatever lies above it in the archive.
        pair[:] = [str(folder.parent / each) for each in pair]
        for each in pair:
            if each not in held or not PurePosixPath(each).is_relative_to(folder):
                raise BadInput(f"{path}: {name} names {brief(each)}, which its run does not have; mend it.")
    training = sorted(each for each in held if PurePosixPath(each).parent == folder / TRAINING)
    answers = {each: place for place, each in enumerate(training)}
    if len(training) < 2 or not pairs:
        raise BadInput(f"{path}: {folder} needs at least two training images and a test image; mend it.")
    for _, answer in pairs:
        if answer not in answers:
            raise BadInput(f"{path}: {name} names {brief(answer)} as a class, which is no training image; mend it.")
    return training, [test for test, _ in pairs], [answers[answer] for _, answer in pairs]
