"""What a model says about photographs: a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Literal

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from transfer_parity.shared.experiments.predicting import Predictions
from transfer_parity.shared.report.console import WIDTH

Format = Literal["table", "csv", "json"]


def best(found: Predictions, top: int) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Of every image its name, and its most probable classes with their probabilities, the first one first."""
    for name, probabilities in zip(found.names, found.probabilities, strict=True):
        # Of classes that are equally probable the first comes first.
        order = np.argsort(-probabilities, kind="stable")[:top]
        yield name, [(found.classes[index], float(probabilities[index])) for index in order]


def as_table(found: Predictions, top: int) -> Table:
    """A row for each image."""
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("Image", overflow="fold", ratio=2)
    table.add_column("Class, probability", overflow="fold", ratio=3)
    for name, classes in best(found, top):
        said = ", ".join(f"{each} {100 * probability:.1f} %" for each, probability in classes)
        table.add_row(Text(name), Text(said))
    return table


def as_csv(found: Predictions, top: int) -> str:
    """A line for each image and class; probabilities in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "rank", "class", "probability"])
    for name, classes in best(found, top):
        for rank, (each, probability) in enumerate(classes, start=1):
            writer.writerow([name, rank, each, repr(probability)])
    return text.getvalue()


def as_json(found: Predictions, top: int) -> str:
    """An object with the model and a list of images."""
    document = {
        "model": str(found.model),
        "framework": found.framework,
        "images": [
            {
                "image": name,
                "classes": [{"class": each, "probability": probability} for each, probability in classes],
            }
            for name, classes in best(found, top)
        ],
        "unreadable": [{"image": name, "reason": reason} for name, reason in found.unreadable],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
