"""What a framework's process does with checkpoints: brings files into the neutral format, writes its own, runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import bias_folding, flattening, kept_model, neutral
from transfer_parity.shared.checkpoints.kept_model import KeptModel
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import CheckpointJob, DownloadJob, ExportJob, ImportJob, ProbeJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.results import Imported
from transfer_parity.shared.contract.spec import ModelSpec, model_spec
from transfer_parity.shared.contract.wing import Array, Wing
from transfer_parity.shared.contract.wing_values import ForeignCheckpoint
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.zoo.pair import HEAD, Semantics

#: Images that show whether two models are the same function: of coarse patches, so that they have edges and areas.
_PROBES, _PATCH = 2, 16


def carry_out(wing: Wing, job: CheckpointJob, folder: Path) -> None:
    """Do a job, and write what comes of it into the folder.

    A neutral checkpoint of what was fetched or read, and what there is to say about a file that was read. If images
    were put through it, their logits (2, classes), float32 or float64 as the weights are, or pooled features (2, C)
    where there is neither the architecture's own classifier nor this project's trained head.

    Raises:
        BadInput: weights cannot be fetched, or a file cannot be read or does not fit the architecture.
    """
    if isinstance(job, DownloadJob):
        _download(wing, job, folder)
    elif isinstance(job, ImportJob):
        _import(wing, job, folder)
    elif isinstance(job, ExportJob):
        _export(wing, job, folder)
    else:
        _probe(wing, job, folder)


def _download(wing: Wing, job: DownloadJob, folder: Path) -> None:
    """The library's own ImageNet weights."""
    pair, library = job.pair, wing.info.library
    try:
        arrays = wing.weights.download(pair)
    except OSError as error:
        raise BadInput(f"{wing.info.identifier} cannot download them: {error}") from None
    metadata = Metadata(backbone=pair.name, semantics=library, source=f"{library} {pair.name}, ImageNet")
    neutral.save(folder / artifacts.WEIGHTS, arrays, metadata)


def _export(wing: Wing, job: ExportJob, folder: Path) -> None:
    """A neutral checkpoint in the framework's own format, read again."""
    arrays, metadata = neutral.load(job.checkpoint)
    path = folder / f"{artifacts.EXPORTED}{job.suffix}"
    kept = kept_model.of_file(job.checkpoint)
    if kept is None:
        wing.files.write_checkpoint(path, arrays, metadata, _fitting(job.recipe, arrays, metadata))
    else:
        network = wing.network.build(kept.spec)
        wing.weights.load(network, arrays)
        wing.weights.save(network, path.with_suffix(""), kept.record)
    again = ImportJob(
        execution=job.execution, recipe=job.recipe, checkpoint=path, trained_head=kept is not None, probe=job.probe
    )
    _import(wing, again, folder)


def _import(wing: Wing, job: ImportJob, folder: Path) -> None:
    """A file in the framework's own format as a neutral checkpoint."""
    try:
        found = wing.files.read_checkpoint(job.checkpoint, job.recipe.pair)
    except (BadInput, MemoryError):
        raise
    except Exception as error:
        # A malformed file can lead any library into anything.
        reason = next(iter(str(error).splitlines()), "")
        raise BadInput(
            f"{job.checkpoint} cannot be read as weights ({type(error).__name__}: {reason}); use another file."
        ) from error
    metadata = _metadata(found, job, wing.info.library)
    kept = kept_model.of_file(job.checkpoint) if job.trained_head else None
    if kept is not None:
        arrays, imported, network = _whole(wing, found, job, kept)
    else:
        arrays, imported, network = _accounted(wing, found, job, metadata)
    neutral.save(folder / artifacts.WEIGHTS, arrays, metadata, kept.record if kept else None)
    (folder / artifacts.IMPORTED).write_text(imported.model_dump_json(indent=1), encoding="utf-8")
    if job.probe:
        _infer(wing, network, arrays, imported.image_size, imported.classes is not None, folder)


def _metadata(found: ForeignCheckpoint, job: ImportJob, library: Semantics) -> Metadata:
    """What is known about a file: its own record, or the user's word, or the library's convention."""
    pair, recorded, path = job.recipe.pair, found.recorded, job.checkpoint
    if recorded is None:
        return Metadata(
            backbone=pair.name,
            semantics=job.semantics or library,
            batch_norm_epsilon=found.batch_norm_epsilon,
            source=path.name,
        )
    if recorded.backbone != pair.name:
        raise BadInput(f"{path} holds weights of {recorded.backbone}, not of {pair.name}; give another --backbone.")
    if job.semantics not in (None, recorded.semantics):
        raise BadInput(
            f"{path} says that its weights have {recorded.semantics} semantics, not {job.semantics}; "
            "leave --semantics out."
        )
    return recorded


def _whole(
    wing: Wing, found: ForeignCheckpoint, job: ImportJob, kept: KeptModel
) -> tuple[dict[str, Array], Imported, Any]:
    """Every array of a kept model in its place, those of its head among them. It was written by one of the wings, so
    nothing is conformed to anything: bits stay as they are.

    Returns:
        As ``_accounted``.
    """
    path, spec = job.checkpoint, kept.spec
    neutral.check_values(found.arrays, path)
    neutral.check_epsilon(kept.metadata, path)
    if found.batch_norm_epsilon not in (None, spec.batch_norm.epsilon):
        raise BadInput(
            f"{path}: its normalisations have an epsilon of {found.batch_norm_epsilon:g}, and its description says "
            f"{spec.batch_norm.epsilon:g}; use the file as it was kept."
        )
    network = wing.network.build(spec)
    neutral.account_for(wing.weights.shapes(network), found.arrays, f"{path}, going by its own description,")
    imported = Imported(
        left_over=found.left_over, folded=(), classes=spec.classes, image_size=spec.image_size, trained_head=True
    )
    return found.arrays, imported, network


def _accounted(
    wing: Wing, found: ForeignCheckpoint, job: ImportJob, metadata: Metadata
) -> tuple[dict[str, Array], Imported, Any]:
    """Every array in its place: the backbone complete, the classifier complete or left over like all the rest.

    Returns:
        The arrays that fit, what there is to say about the others, and a network for them.
    """
    pair, path = job.recipe.pair, job.checkpoint
    neutral.check_values(found.arrays, path)
    neutral.check_epsilon(metadata, path)
    if job.trained_head and kept_model.HEAD_WEIGHT in found.arrays:
        raise BadInput(
            f"{path} has a trained head ({kept_model.HEAD_WEIGHT}) and no description of the model; use the file as it "
            "was kept, or give --classifier none for the backbone alone."
        )
    arrays, folded = bias_folding.conform(found.arrays, pair, metadata.semantics, str(path))
    rest = dict(found.left_over)

    def leave(names: list[str]) -> None:
        rest.update({name: tuple(arrays.pop(name).shape) for name in names})

    classifier = [name for name in arrays if pair.in_classifier(name)]
    if job.classifier == "none":
        leave(classifier)
    network, expected = _built(wing, job.recipe, arrays, metadata)
    head = {name: shape for name, shape in expected.items() if pair.in_classifier(name)}
    misfits = sorted(
        name
        for name in head.keys() | {name for name in arrays if pair.in_classifier(name)}
        if name not in arrays or name not in head or tuple(arrays[name].shape) != tuple(head[name])
    )
    if job.classifier == "required" and (misfits or not head):
        reason = f"the classifier's {misfits[0]} is missing or misshapen" if misfits else "there is no classifier"
        raise BadInput(f"{path}: {reason}; use a whole model's checkpoint, or leave --classifier required out.")
    if misfits:
        leave([name for name in classifier if name in arrays])
        network, expected = _built(wing, job.recipe, arrays, metadata)
        head = {}
    leave([name for name in arrays if name not in expected])
    try:
        neutral.account_for(expected, arrays, str(path))
    except BadInput as error:
        if not arrays:
            raise BadInput(
                f"{path} has no array that belongs to {pair.name}; use a checkpoint of this architecture, or give "
                "another --backbone."
            ) from None
        raise error
    spec = _fitting(job.recipe, arrays, metadata)
    imported = Imported(
        left_over=rest, folded=tuple(folded), classes=spec.classes if head else None, image_size=spec.image_size
    )
    return arrays, imported, network


def _built(
    wing: Wing, recipe: Recipe, arrays: Mapping[str, Array], metadata: Metadata
) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A network for the arrays, and the shapes of its parameters without those of the project's own head."""
    network = wing.network.build(_fitting(recipe, arrays, metadata))
    shapes = wing.weights.shapes(network)
    return network, {name: shape for name, shape in shapes.items() if not name.startswith(HEAD)}


def _fitting(recipe: Recipe, arrays: Mapping[str, Array], metadata: Metadata) -> ModelSpec:
    """The model that arrays are of: with the architecture's own classifier if they have a dense weight of one.

    VGG's first dense layer takes a feature map of one size, which says for which images the model was built.
    """
    pair = recipe.pair
    dense = [name for name, array in arrays.items() if pair.in_classifier(name) and array.ndim == 2]
    if not dense:
        return model_spec(recipe, metadata, 2, head="linear")
    spec = model_spec(recipe, metadata, len(arrays[max(dense)]), head="imagenet")
    if pair.flattened is not None and pair.flattened in arrays:
        side = flattening.side(arrays[pair.flattened], pair)
        if side and side != flattening.map_side(spec.image_size):
            spec = replace(spec, image_size=flattening.image_size(side))
    return spec


def _probe(wing: Wing, job: ProbeJob, folder: Path) -> None:
    """Put images through a neutral checkpoint."""
    arrays, metadata = neutral.load(job.checkpoint)
    kept = kept_model.of_file(job.checkpoint)
    if kept is not None:
        network, spec, whole = wing.network.build(kept.spec), kept.spec, True
        expected = wing.weights.shapes(network)
    else:
        network, expected = _built(wing, job.recipe, arrays, metadata)
        spec = _fitting(job.recipe, arrays, metadata)
        whole = spec.head == "imagenet"
    neutral.account_for(expected, arrays, str(job.checkpoint))
    _infer(wing, network, arrays, spec.image_size, whole, folder)


def _infer(wing: Wing, network: Any, arrays: Mapping[str, Array], image_size: int, whole: bool, folder: Path) -> None:
    wing.weights.load(network, arrays)
    batches = iter([probes(image_size)])
    outputs = wing.inference.infer(network, "all" if whole else "features", batches)
    np.save(folder / artifacts.LOGITS, np.concatenate(list(outputs)))


def probes(image_size: int) -> Array:
    """Two images (2, S, S, 3), uint8, the same in every process: random patches of 16 by 16 pixels."""
    side = -(-image_size // _PATCH)
    patches = generator(0, "probes").integers(0, 256, (_PROBES, side, side, 3), dtype=np.uint8)
    return patches.repeat(_PATCH, axis=1).repeat(_PATCH, axis=2)[:, :image_size, :image_size]
