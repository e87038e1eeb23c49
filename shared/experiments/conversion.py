"""From one checkpoint format to another: source to neutral, neutral to destination, and back again to check it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import bias_folding, neutral
from transfer_parity.shared.contract import artifacts, recipe_files, results, wings
from transfer_parity.shared.contract.jobs import ClassifierChoice, Execution, ExportJob, ImportJob, ProbeJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.results import Imported
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, did_you_mean, normalised
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.runtime import installed, launch, resolve_weights
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import Pair, Semantics
from transfer_parity.shared.zoo.pairs import PAIRS

#: Suffixes of destinations; a neutral checkpoint needs no wing.
WRITABLE = (artifacts.NEUTRAL, *wings.writable())
#: Largest difference of float32 outputs, relative to the largest of them, that rounding explains. A convolution sums n
#: products, whose errors add up to a few times 2^-24, say 16 times (n = 256, by the square root), and a hundred layers
#: add up to at most a hundred times that: 16 * 2^-24 * 100 = 1e-4.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Request:
    """What a person wants converted.

    Attributes:
        source: a file, or the name of a library for that library's ImageNet weights.
        destination: a file; its suffix chooses the format.
        backbone: name of the pair, if the source does not say.
        semantics: of a source that does not say.
        classifier: whether the source's own classifier is taken if there is one, must be there, or is left out.
        image_size: side in pixels of the images that a Keras model is built for and that the check uses.
        threads: of each framework.
    """

    source: str
    destination: Path
    backbone: str | None = None
    semantics: Semantics | None = None
    classifier: ClassifierChoice = "auto"
    image_size: int | None = None
    threads: int = 1


@dataclass(frozen=True)
class Conversion:
    """What came of it.

    Attributes:
        metadata: of the arrays.
        imported: what was in the source besides them.
        arrays: their number.
        parameters: number of values in them.
        folded: number of convolution biases that the destination has in its running means.
        differing: neutral names of arrays that do not come back from the destination as they were, bit by bit.
        ran: frameworks that ran the source's and the destination's weights.
        output_difference: largest absolute difference of their outputs, relative to the largest output.
    """

    metadata: Metadata
    imported: Imported
    arrays: int
    parameters: int
    folded: int
    differing: list[str]
    ran: tuple[Framework, Framework]
    output_difference: float

    @property
    def passed(self) -> bool:
        """Whether all arrays came back and both frameworks compute the same."""
        return not self.differing and self.output_difference <= TOLERANCE


@dataclass(frozen=True)
class _Step:
    """What a worker left in its folder."""

    weights: Path
    imported: Imported
    logits: Path


def convert(request: Request, cache: Cache, progress: Progress) -> Conversion:
    """Convert and check. The destination appears, or is replaced, only as a whole and if all arrays come back from it.

    Raises:
        BadInput: the source cannot be had, read or accounted for, or the destination cannot be written.
        WorkerFailed: a framework's process failed.
    """
    suffix = writing_suffix(request.destination)
    installed.make_sure_of(wings.IDENTIFIERS)
    chosen = _recipe(request)
    _make_sure_of(request)
    execution = Execution.of(chosen, request.threads)
    with tempfile.TemporaryDirectory(dir=cache.folder(artifacts.CONVERSIONS), prefix=artifacts.CONVERTING) as scratch:
        folder = Path(scratch)
        path, reader = _source(request, chosen, cache, progress)
        progress(f"reading {path.name}", 0, 0)
        importing = ImportJob(
            execution=execution,
            recipe=chosen,
            checkpoint=path.resolve(),
            semantics=request.semantics,
            classifier=request.classifier,
            probe=True,
        )
        source = _step(reader, importing, folder / "source")
        writer = wings.writer(suffix)
        progress(f"writing {request.destination.name}", 0, 0)
        if writer is None:
            exported, result = source.weights, source
        else:
            exporting = ExportJob(
                execution=execution,
                recipe=chosen,
                checkpoint=source.weights,
                suffix=suffix,
                probe=writer is not reader,
            )
            result = _step(writer, exporting, folder / "destination")
            exported = folder / "destination" / f"{artifacts.EXPORTED}{suffix}"
        runner = writer or reader
        logits = result.logits
        if runner is reader:
            runner = wings.other(reader)
            progress(f"checking with {runner.identifier}", 0, 0)
            running = ProbeJob(execution=execution, recipe=chosen, checkpoint=result.weights)
            launch.run(runner.identifier, running, folder / "run")
            logits = folder / "run" / artifacts.LOGITS
        conversion = _compared(source, result, (reader.identifier, runner.identifier), logits, chosen.pair)
        if not conversion.differing:
            _put(exported, request.destination)
        return conversion


def writing_suffix(path: Path) -> str:
    """The suffix that chooses the format of a destination.

    Raises:
        BadInput: it is not one of ``WRITABLE``.
    """
    name = path.name.lower()
    for suffix in WRITABLE:
        if name.endswith(suffix) and name != suffix:
            return suffix
    raise BadInput(f"{path}: the name of the destination must end in {', '.join(WRITABLE)}; rename it.")


def guessed_backbone(path: Path) -> str | None:
    """The pair whose name, in Keras's or torchvision's spelling, is in a file's name; the longest if there are more."""
    name = normalised(path.name)
    found = [
        (len(spelling), pair.name)
        for pair in PAIRS
        for spelling in (normalised(pair.name), normalised(pair.torchvision_name))
        if spelling in name
    ]
    return max(found)[1] if found else None


def _recipe(request: Request) -> Recipe:
    """Backbone and image size, checked like those of any recipe."""
    path = Path(request.source).expanduser()
    name = request.backbone
    if request.source not in wings.libraries():
        _make_sure_it_can_be_read(path)
        is_neutral = path.suffix.lower() == artifacts.NEUTRAL and neutral.is_neutral(path)
        recorded = neutral.read_metadata(path).backbone if is_neutral else None
        if recorded and name and find_pair(name).name != recorded:
            raise BadInput(f"{path} holds weights of {recorded}, not of {name}; leave --backbone out.")
        name = name or recorded or guessed_backbone(path)
    if name is None:
        raise BadInput(f"{request.source}: the name does not say which architecture this is; give --backbone NAME.")
    values = {"backbone": name, "image_size": request.image_size, "device": "cpu"}
    return recipe_files.validated(
        values, "the command line", [key for key, value in values.items() if value is not None]
    )


def _make_sure_it_can_be_read(path: Path) -> None:
    if not path.is_file():
        words = did_you_mean(str(path), wings.libraries()) if not path.suffix else "give an existing file"
        raise BadInput(f"there is no file {path}; {words.rstrip('.')}{'' if words.endswith('?') else '.'}")
    _reader(path)


def _reader(path: Path) -> WingInfo:
    """The wing that reads a file."""
    reader = wings.reader(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path}: unknown kind of file; give {', '.join(wings.readable())}.")
    return reader


def _make_sure_of(request: Request) -> None:
    """Refuse a destination that cannot be written before work begins."""
    destination = request.destination
    if destination.is_dir():
        raise BadInput(f"{destination} is a folder; give the name of a file in it.")
    source = Path(request.source).expanduser()
    if destination.exists() and source.exists() and destination.samefile(source):
        raise BadInput(f"{destination} is the source itself; give another destination.")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=destination.parent):
            pass
    except OSError as error:
        raise BadInput(f"{destination} cannot be written ({error.strerror or error}); give another folder.") from None


def _source(request: Request, chosen: Recipe, cache: Cache, progress: Progress) -> tuple[Path, WingInfo]:
    """The file to import, and who reads it."""
    path = Path(request.source).expanduser()
    library = next((each for each in wings.libraries() if each == request.source), None)
    if library is not None:
        if request.semantics not in (None, library):
            raise BadInput(f"{library}'s own weights have {library} semantics; leave --semantics out.")
        path = resolve_weights.imagenet(chosen, library, cache, request.threads, progress)
    return path, _reader(path)


def _step(wing: WingInfo, job: ImportJob | ExportJob, folder: Path) -> _Step:
    """Let a worker import or export."""
    launch.run(wing.identifier, job, folder)
    return _Step(folder / artifacts.WEIGHTS, results.imported(folder), folder / artifacts.LOGITS)


def _compared(source: _Step, result: _Step, ran: tuple[Framework, Framework], logits: Path, pair: Pair) -> Conversion:
    """What went in and what came back: bit by bit, after folding on both sides, and through both frameworks."""
    before, metadata = neutral.load(source.weights)
    after, found = neutral.load(result.weights)
    if (found.semantics, found.batch_norm_epsilon) != (metadata.semantics, metadata.batch_norm_epsilon):
        raise BadInput(f"the destination says {found.semantics}, not {metadata.semantics}; please report this.")
    changed = [name for name in before.keys() | after.keys() if not _same(before.get(name), after.get(name))]
    folded = 0
    if changed and "conv_bias" in pair.structure:
        # A plain torchvision class has the biases in its running means; fold them here, too, and compare those.
        before, biases = bias_folding.conform(before, pair, wings.TORCHVISION.library, "the source")
        after, _ = bias_folding.conform(after, pair, wings.TORCHVISION.library, "the destination")
        folded = len(biases)
        changed = [name for name in before.keys() | after.keys() if not _same(before.get(name), after.get(name))]
    ours, theirs = np.load(source.logits, allow_pickle=False), np.load(logits, allow_pickle=False)
    largest = float(np.abs(ours).max())
    difference = float(np.abs(ours - theirs).max()) / largest if largest else float(np.abs(theirs).max())
    original, _ = neutral.load(source.weights)
    return Conversion(
        metadata=metadata,
        imported=source.imported,
        arrays=len(original),
        parameters=sum(array.size for array in original.values()),
        folded=folded,
        differing=sorted(changed),
        ran=ran,
        # Not a number is no agreement.
        output_difference=difference if np.isfinite(difference) else float("inf"),
    )


def _same(before: Any, after: Any) -> bool:
    """Bit by bit; a double precision array may come back rounded, since Keras's files are in single precision."""
    if before is None or after is None or before.shape != after.shape:
        return False
    return bool(before.astype(after.dtype).tobytes() == after.tobytes())


def _put(file: Path, destination: Path) -> None:
    """Move a finished file to where it is wanted, in one step."""
    part = destination.with_name(f"{destination.name}.part")
    try:
        shutil.copyfile(file, part)
        part.replace(destination)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadInput(f"{destination} cannot be written ({error.strerror or error}); make room there.") from None
