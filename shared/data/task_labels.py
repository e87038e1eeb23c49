"""Labels of several tasks: a CSV file that names image files and says, task by task, which class each of them is of.

The first line names the columns: ``file``, the image below the folder, and a column for each task. A cell is the name
of a class, and empty where it is not known. It is data that anybody may have written, and stays so.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from transfer_parity.shared.core import notices, text
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.data.folders import Dataset, Task, image_files, tell_of_closed
from transfer_parity.shared.data.storage import Files

#: The column of the image files.
FILE = "file"
#: Images that a class of a task has at least: one to learn from, one to be tested on.
FEWEST = 2


def from_csv(folder: Path, source: Path, tasks: Sequence[str]) -> Dataset:
    """The images of a folder that a CSV file names, with its labels. Of those that it does not name, that is told.

    Args:
        folder: of the images, however deep they lie.
        source: the file, in UTF-8, with commas between the cells.
        tasks: names of the columns that count, in order; none for all of them.

    Raises:
        BadInput: the file is missing or is no such file, or says something about the images that cannot be.
    """
    header, rows = _table(source)
    chosen = _columns(source, header, tasks)
    closed: list[Path] = []
    known = {path.relative_to(folder).as_posix(): path for path in image_files(folder, closed)}
    tell_of_closed(closed)
    place = header.index(FILE)
    seen: dict[str, int] = {}
    for line, row in rows:
        name = row[place]
        if name not in known:
            raise BadInput(
                f"{source}, line {line}: there is no image file {text.brief(name)} in {folder}; name files as they lie "
                f"below it{_as_in(known)}."
            )
        if name in seen:
            raise BadInput(
                f"{source}, line {line}: {text.brief(name)} has labels in line {seen[name]} already; leave one of the "
                "lines."
            )
        seen[name] = line
    if len(seen) < len(known):
        notices.say(f"{len(known) - len(seen)} of the {len(known)} images in {folder} are not in {source}: not used.")
    paths = [known[row[place]] for _, row in rows]
    cells = {name: [text.printable(row[header.index(name)]) for _, row in rows] for name in chosen}
    bare = [line for (line, _), each in zip(rows, zip(*cells.values(), strict=True), strict=True) if not any(each)]
    if bare:
        more = f" (and {len(bare) - 1} more)" if len(bare) > 1 else ""
        raise BadInput(f"{source}, line {bare[0]}{more}: an image without any label teaches nothing; remove the line.")
    return dataset(str(folder), Files(folder, tuple(paths)), cells, str(source))


def _as_in(known: Mapping[str, Path]) -> str:
    return f", as in {text.brief(min(known))}" if known else ", which holds no image"


def dataset(name: str, pictures: Files, cells: Mapping[str, Sequence[str]], source: str) -> Dataset:
    """Images with labels by task: of each image the name of its class, or nothing where that is not known.

    Args:
        name: of the set.
        pictures: N of them, in any order; those of the set are in the order of their paths.
        cells: by task, of all N.
        source: where they come from, for messages.

    Raises:
        BadInput: a task has fewer than two classes, or a class fewer than two images.
    """
    order = sorted(range(len(pictures)), key=lambda index: pictures.paths[index])
    tasks, columns, start = [], [], 0
    for task, values in cells.items():
        counts = Counter(filter(None, values))
        if len(counts) < 2:
            found = f"one class ({next(iter(counts))})" if counts else "no labels"
            raise BadInput(
                f"{source}: column {text.brief(task)} has {found}; a task has at least two classes. Name the columns "
                "that are tasks with --tasks."
            )
        for each, count in sorted(counts.items()):
            if count < FEWEST:
                raise BadInput(
                    f"{source}: class {text.brief(each)} of column {text.brief(task)} occurs once; a class has at "
                    "least two images, one to train on and one to test on. Name the columns that are tasks with "
                    "--tasks."
                )
        tasks.append(Task(task, tuple(sorted(counts))))
        places = {each: start + number for number, each in enumerate(tasks[-1].classes)}
        columns.append([places[values[index]] if values[index] else -1 for index in order])
        start += len(counts)
    return Dataset(
        name,
        tuple(f"{task.name}: {each}" for task in tasks for each in task.classes),
        Files(pictures.root, tuple(pictures.paths[index] for index in order)),
        np.array(columns, dtype=np.int64).T.copy(),
        None,
        tasks=tuple(tasks),
    )


def _table(source: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and all other lines with their numbers, each with as many cells."""
    try:
        # With or without the byte-order mark that spreadsheets write.
        lines = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{source} is not in UTF-8 (byte {error.start}); save it as UTF-8.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(
            f"labels {source} cannot be read ({reason}); give --labels FILE.csv, with a column {FILE} and a column for "
            "each task."
        ) from None
    if "\0" in lines:
        raise BadInput(f"{source} is no text; give a CSV file, with commas between the cells.")
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(lines, newline=""), strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise BadInput(f"{source}, line {reader.line_num}: {error}; mend the file.") from None
    if len(rows) < 2:
        raise BadInput(
            f"{source} names no images; give a line with the names of the columns, and a line for each image."
        )
    (_, header), *others = [(rows[0][0], [text.printable(name) for name in rows[0][1]]), *rows[1:]]
    for line, row in others:
        if len(row) != len(header):
            raise BadInput(
                f"{source}, line {line}: {len(row)} cell{'s' * (len(row) != 1)}, and there are {len(header)} columns; "
                "leave a cell empty where a label is not known, with its comma."
            )
    return header, others


def _columns(source: Path, header: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """The columns that are tasks."""
    for name, count in Counter(header).items():
        if count > 1:
            which = f"{count} columns without a name" if not name else f"the column {text.brief(name)} {count} times"
            raise BadInput(f"{source} has {which}; give every column a name of its own.")
    others = [name for name in header if name != FILE]
    if FILE not in header:
        hint = "; between the cells there are commas" if len(header) == 1 else ""
        raise BadInput(
            f"{source} has no column {FILE!r}, the image's file; it has {', '.join(map(text.brief, header[:5]))}{hint}."
        )
    if "" in header:
        raise BadInput(f"{source}: column {header.index('') + 1} has no name; give every column a name of its own.")
    if not others:
        raise BadInput(f"{source} has no column beside {FILE!r}; give one for each task.")
    for name in tasks:
        if name not in others:
            raise BadInput(
                f"--tasks {text.brief(name)}: {source} has no such column; {did_you_mean(name[:100], others)}"
            )
    return list(tasks or others)
