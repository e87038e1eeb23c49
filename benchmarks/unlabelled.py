"""Whether unlabelled images help: FixMatch on stored views against the probe, with five labels a class, on CIFAR-10.

Labelled, unlabelled and test images are drawn from CIFAR-10's own parts and written into folders; then the usual
command runs both strategies, in both frameworks, over the same seeds. Finished runs are kept by the command.

    python benchmarks/unlabelled.py WORK --seeds 5
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.evaluation.significance import difference_interval
from transfer_parity.shared.runtime import resolve_dataset

ROOT = Path(__file__).resolve().parent.parent
#: Images: a class to draw the labelled ones from, unlabelled ones in all, and a class to test on.
LABELLED, UNLABELLED, TESTED = 20, 2000, 100
STRATEGIES = ("linear_probe", "fixmatch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folders, run both strategies, and print the paired difference of each framework."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for images and results")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args(arguments)
    folders(options.work)
    found = {strategy: ran(options.work, strategy, options.seeds, options.epochs) for strategy in STRATEGIES}
    record: dict[str, Any] = {}
    for framework, probe in found["linear_probe"].items():
        differences = np.array(found["fixmatch"][framework]) - np.array(probe)
        low, high = difference_interval(differences)
        record[framework] = {
            "linear_probe": probe,
            "fixmatch": found["fixmatch"][framework],
            "difference": float(differences.mean()),
            "interval": [low, high],
        }
    print(json.dumps(record, indent=1))
    return 0


def folders(work: Path) -> None:
    """Write what is drawn of CIFAR-10 as ``images/train``, ``images/test`` and ``unlabelled``, unless it is there."""
    if (work / "unlabelled").is_dir():
        return
    data = resolve_dataset.load("cifar10", Cache())
    assert data.is_test is not None
    random = generator(0, "unlabelled images")
    rest = []
    for label, name in enumerate(data.classes):
        train = random.permutation(np.flatnonzero((data.labels == label) & ~data.is_test))
        test = random.permutation(np.flatnonzero((data.labels == label) & data.is_test))
        write(data, train[:LABELLED], work / "images" / "train" / name)
        write(data, test[:TESTED], work / "images" / "test" / name)
        rest.append(train[LABELLED:])
    write(data, random.permutation(np.concatenate(rest))[:UNLABELLED], work / "unlabelled")


def write(data: Dataset, chosen: np.ndarray[Any, Any], folder: Path) -> None:
    """Write some images into a folder, in the set's order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(data.pictures.files(np.sort(chosen).tolist(), folder)):
        # What is a file already is not written.
        if path.parent != folder:
            shutil.copyfile(path, folder / f"{number:06d}{path.suffix}")


def ran(work: Path, strategy: str, seeds: int, epochs: int) -> dict[str, list[float]]:
    """Accuracies of all seeds by framework."""
    output = work / strategy
    command = [sys.executable, str(ROOT / "compare.py"), "--data", str(work / "images"), "--strategy", strategy]
    command += ["--shots", "5", "--seeds", str(seeds), "--image-size", "96", "--no-control"]
    command += ["--epochs", str(epochs), "--output-dir", str(output)]
    if strategy == "fixmatch":
        command += ["--unlabeled", str(work / "unlabelled")]
    finished = subprocess.run(command, check=False)
    if finished.returncode > 1:
        raise SystemExit(finished.returncode)
    document = json.loads((output / artifacts.COMPARISON).read_text(encoding="utf-8"))
    return accuracies(document)


def accuracies(document: dict[str, Any]) -> dict[str, list[float]]:
    """Of a comparison's document, by framework, in the order of the seeds."""
    found: dict[str, list[float]] = {}
    for run in sorted(document["runs"], key=lambda run: int(run["seed"])):
        found.setdefault(run["framework"], []).append(run["accuracy"])
    return found


if __name__ == "__main__":
    sys.exit(main())
