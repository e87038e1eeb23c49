"""What each strategy gives and costs on several sets of images, under equal conditions, for docs/strategies.md.

Of every set some images of each class are drawn into a training and a test part, or from its own ones; the usual
command runs a study of all strategies that need nothing but images, in both frameworks, and what is left of the
training part is unlabelled for those that want that. Finished runs are kept by the command.

    python -m benchmarks.strategies WORK --data flowers my-clothes chest_xrays solar_cells
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.unlabelled import ROOT, write
from transfer_parity.shared.contract.methods import METHODS, VARIANTS
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.experiments.study_document import Estimate, Point, StudyDocument
from transfer_parity.shared.report.markdown import table
from transfer_parity.shared.runtime import resolve_dataset

#: Images of a class at most, to draw labelled ones from and to test on; half of a class's images where it has fewer.
DRAWN, TESTED = 40, 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folders, run the studies, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for images and results")
    parser.add_argument("--data", nargs="+", required=True, help="folders of images, or names of data sets")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    found = {}
    for data in options.data:
        name = Path(data).name
        folders(data, options.work / "images" / name)
        found[name] = ran(options.work / "images" / name, options.work / name, options.shots, options.seeds)
    print(as_table(found), end="")
    return 0


def folders(data: str, folder: Path) -> None:
    """Write what is drawn of a set as ``train`` and ``test``, unless it is there."""
    if folder.is_dir():
        return
    images = resolve_dataset.load(data, Cache())
    random = generator(0, "strategies")
    for label, name in enumerate(images.classes):
        members = random.permutation(np.flatnonzero(images.labels == label))
        # A set's own test images stay such, so that no image on which rates were chosen is tested on.
        apart = np.arange(len(members)) >= len(members) // 2 if images.is_test is None else images.is_test[members]
        write(images, members[~apart][:DRAWN], folder / "train" / name)
        write(images, members[apart][:TESTED], folder / "test" / name)


def strategies() -> list[str]:
    """Names of a study's strategies that need nothing but images."""
    return [name for name, values in VARIANTS.items() if METHODS[values["strategy"]].any_images_will_do]


def ran(data: Path, output: Path, shots: int, seeds: int) -> StudyDocument:
    """The document of a study of all strategies on a folder of images."""
    command = [sys.executable, str(ROOT / "compare.py"), "study", "--data", str(data), "--strategies", *strategies()]
    command += ["--shots", str(shots), "--seeds", str(seeds), "--output-dir", str(output)]
    finished = subprocess.run(command, check=False)
    if finished.returncode > 1:
        raise SystemExit(finished.returncode)
    return StudyDocument.model_validate_json((output / "study.json").read_text(encoding="utf-8"))


def as_table(found: dict[str, StudyDocument]) -> str:
    """Markdown: accuracy (per cent, half of the interval over seeds) and seconds of a run, by strategy and set.

    The frameworks' accuracies stand beside each other where they are not the same.
    """
    rows = []
    for name in strategies():
        row = [f"`{name}`"]
        for document in found.values():
            points = [point for point in document.points if point.strategy == name]
            row.append("; ".join(dict.fromkeys(_accuracy(point.accuracy) for point in points)))
        row.append(" / ".join(f"{_seconds(found, name, framework):.1f}" for framework in _frameworks(found)))
        rows.append(row)
    return table(["strategy", *found, f"seconds, {' / '.join(_frameworks(found))}"], rows)


def _frameworks(found: dict[str, StudyDocument]) -> list[str]:
    return list(dict.fromkeys(point.framework for document in found.values() for point in document.points))


def _seconds(found: dict[str, StudyDocument], strategy: str, framework: str) -> float:
    """Of one run, mean over the sets."""
    points: list[Point] = [point for document in found.values() for point in document.points]
    return float(np.mean([each.seconds for each in points if (each.strategy, each.framework) == (strategy, framework)]))


def _accuracy(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f"{100 * estimate.mean:.1f}"
    low, high = estimate.interval
    return f"{100 * estimate.mean:.1f} ±{50 * (high - low):.1f}"


if __name__ == "__main__":
    sys.exit(main())
