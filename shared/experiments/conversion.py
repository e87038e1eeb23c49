"""From one checkpoint format to another: source to neutral, neutral to destination, and back again to check it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import bias_folding, kept_model, neutral
from transfer_parity.shared.checkpoints.kept_model import KeptModel
from transfer_parity.shared.contract import artifacts, results, wings
from transfer_parity.shared.contract.jobs import Execution, ExportJob, ImportJob, ProbeJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.results import Imported
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core import paths, scratch
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.progress import Forecast, Part, Progress, forecast_of
from transfer_parity.shared.experiments import conversion_request
from transfer_parity.shared.experiments.conversion_request import Request
from transfer_parity.shared.runtime import expected, launch, resolve_weights
from transfer_parity.shared.zoo.pair import Pair

#: Largest difference of float32 outputs, relative to the largest of them, that rounding explains. A convolution sums n
#: products, whose errors add up to a few times 2^-24, say 16 times (n = 256, by the square root), and a hundred layers
#: add up to at most a hundred times that: 16 * 2^-24 * 100 = 1e-4.
TOLERANCE = 1e-4
#: The same in float64, whose unit of rounding is 2^-53.
DOUBLE_TOLERANCE = TOLERANCE * 2.0**-29
#: Of a process with a network of twenty million parameters, before anything was measured.
WORK_SECONDS = 5.0


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
        tolerance: largest that rounding explains.
        kept: what the source says about itself if it is a model that this project trained and kept. Its arrays are then
            those of the whole model, and the outputs are its logits.
    """

    metadata: Metadata
    imported: Imported
    arrays: int
    parameters: int
    folded: int
    differing: list[str]
    ran: tuple[Framework, Framework]
    output_difference: float
    tolerance: float = TOLERANCE
    kept: KeptModel | None = None

    @property
    def passed(self) -> bool:
        """Whether all arrays came back and both frameworks compute the same."""
        return not self.differing and self.output_difference <= self.tolerance


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
    asked = conversion_request.checked(request)
    chosen, suffix, writer, kept = asked.recipe, asked.suffix, asked.writer, asked.kept
    execution = Execution.of(chosen, request.threads)
    with scratch.folder(artifacts.CONVERTING, cache.folder(artifacts.CONVERSIONS)) as folder:
        forecast = _foreseen(chosen, progress)
        path, reader = _source(request, chosen, cache, progress)
        progress(f"reading {path.name}", 0, 0)
        importing = ImportJob(
            execution=execution,
            recipe=chosen,
            # Not what a link leads to: beside the link may lie what an older file says about itself.
            checkpoint=path.absolute(),
            semantics=request.semantics,
            classifier=request.classifier,
            trained_head=request.classifier != "none",
            probe=True,
        )
        source = _step(reader, importing, folder / "source", forecast)
        progress(f"writing {request.destination.name}", 0, 0)
        if writer is None:
            exported, result = source.weights, source
            forecast.end("destination")
        else:
            exporting = ExportJob(
                execution=execution,
                recipe=chosen,
                checkpoint=source.weights,
                suffix=suffix,
                probe=writer is not reader,
            )
            result = _step(writer, exporting, folder / "destination", forecast)
            exported = folder / "destination" / f"{artifacts.EXPORTED}{suffix}"
        runner = writer or reader
        logits = result.logits
        if runner is reader:
            runner = wings.other(reader)
            progress(f"checking with {runner.identifier}", 0, 0)
            running = ProbeJob(execution=execution, recipe=chosen, checkpoint=result.weights)
            launch.run(runner.identifier, running, folder / "run", expected.following(forecast, "run"))
            logits = folder / "run" / artifacts.LOGITS
        forecast.end("run")
        conversion = _compared(source, result, (reader.identifier, runner.identifier), logits, chosen.pair, kept)
        if not conversion.differing:
            _put(exported, request.destination)
        return conversion


def _source(request: Request, chosen: Recipe, cache: Cache, progress: Progress) -> tuple[Path, WingInfo]:
    """The file to import, and who reads it."""
    path = paths.expanded(request.source)
    library = next((each for each in wings.libraries() if each == request.source), None)
    if library is not None:
        if request.semantics not in (None, library):
            raise BadInput(f"{library}'s own weights have {library} semantics; leave --semantics out.")
        path = resolve_weights.imagenet(chosen, library, cache, request.threads, progress)
    return path, conversion_request.reader(path)


def _foreseen(recipe: Recipe, progress: Progress) -> Forecast:
    """A forecast of the processes of a conversion: each runs a network once, and reads or writes its weights."""
    forecast, work = forecast_of(progress), WORK_SECONDS * recipe.pair.parameters / 2e7
    steps = ("source", "destination", "run")
    forecast.plan({step: [Part(expected.START, expected.START_SECONDS), Part("conversion", work)] for step in steps})
    return forecast


def _step(wing: WingInfo, job: ImportJob | ExportJob, folder: Path, forecast: Forecast) -> _Step:
    """Let a worker import or export."""
    launch.run(wing.identifier, job, folder, expected.following(forecast, folder.name))
    forecast.end(folder.name)
    return _Step(folder / artifacts.WEIGHTS, results.imported(folder), folder / artifacts.LOGITS)


def _compared(
    source: _Step,
    result: _Step,
    ran: tuple[Framework, Framework],
    logits: Path,
    pair: Pair,
    kept: KeptModel | None,
) -> Conversion:
    """What went in and what came back: bit by bit, after folding on both sides, and through both frameworks."""
    before, metadata = neutral.load(source.weights)
    after, found = neutral.load(result.weights)
    if (found.semantics, found.batch_norm_epsilon) != (metadata.semantics, metadata.batch_norm_epsilon):
        raise BadInput(f"the destination says {found.semantics}, not {metadata.semantics}; please report this.")
    changed = [name for name in before.keys() | after.keys() if not _same(before.get(name), after.get(name))]
    folded = 0
    if kept is not None:
        again = kept_model.of_file(result.weights)
        changed += [] if again and again.record == kept.record else ["what it says about itself"]
    elif changed and "conv_bias" in pair.structure:
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
        tolerance=DOUBLE_TOLERANCE if ours.dtype == theirs.dtype == np.float64 else TOLERANCE,
        kept=kept,
    )


def _same(before: Any, after: Any) -> bool:
    """Bit by bit; a double precision array may come back rounded, since Keras's files are in single precision."""
    if before is None or after is None or before.shape != after.shape:
        return False
    return bool(before.astype(after.dtype).tobytes() == after.tobytes())


def _put(file: Path, destination: Path) -> None:
    """Move a finished file to where it is wanted, in one step."""
    try:
        # Beside it: within one file system a file appears in one step.
        with scratch.folder(artifacts.CONVERTING, destination.parent) as beside:
            shutil.copyfile(file, beside / destination.name)
            (beside / destination.name).replace(destination)
    except OSError as error:
        raise BadInput(f"{destination} cannot be written ({error.strerror or error}); make room there.") from None
