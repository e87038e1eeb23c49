"""What a framework's process does with checkpoints: brings files into the neutral format, writes its own, runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.checkpoints import bias_folding, flattening, neutral
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import CheckpointJob, DownloadJob, ExportJob, ImportJob, ProbeJob
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.results import Imported
from transfer_parity.shared.contract.spec import ModelSpec, model_spec
from transfer_parity.shared.contract.wing import Array, ForeignCheckpoint, Wing
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.zoo.pair import HEAD, Semantics

#: Images that show whether two models are the same function: of coarse patches, so that they have edges and areas.
_PROBES, _PATCH = 2, 16


def carry_out(wing: Wing, job: CheckpointJob, folder: Path) -> None:
    """Do a job, and write what comes of it into the folder.

    A neutral checkpoint of what was fetched or read, and what there is to say about a file that was read. If images
    were put through it, their logits, float32 (2, classes), or pooled features (2, C) without the architecture's own
    classifier.

    Raises:
        BadInput: weights cannot be fetched, or a file cannot be read or does not fit the architecture.
    """
    if isinstance(job, DownloadJob):
        _download(wing, job, folder)
    elif isinstance(job, ImportJob):
        _import(wing, job, folder)
    elif isinstance(job, ExportJob):
        arrays, metadata = neutral.load(job.checkpoint)
        path = folder / f"{artifacts.EXPORTED}{job.suffix}"
        wing.files.write_checkpoint(path, arrays, metadata, _fitting(job.recipe, arrays, metadata))
        again = ImportJob(execution=job.execution, recipe=job.recipe, checkpoint=path, probe=job.probe)
        _import(wing, again, folder)
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


def _import(wing: Wing, job: ImportJob, folder: Path) -> None:
    """A file in the framework's own format as a neutral checkpoint."""
    found = wing.files.read_checkpoint(job.checkpoint, job.recipe.pair)
    metadata = _metadata(found, job, wing.info.library)
    arrays, imported, network = _accounted(wing, found, job, metadata)
    neutral.save(folder / artifacts.WEIGHTS, arrays, metadata)
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


def _accounted(
    wing: Wing, found: ForeignCheckpoint, job: ImportJob, metadata: Metadata
) -> tuple[dict[str, Array], Imported, Any]:
    """Every array in its place: the backbone complete, the classifier complete or left over like all the rest.

    Returns:
        The arrays that fit, what there is to say about the others, and a network for them.
    """
    pair, path = job.recipe.pair, job.checkpoint
    neutral.check_finite(found.arrays, path)
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
    spec = _fitting(job.recipe, arrays, metadata)
    network, expected = _built(wing, job.recipe, arrays, metadata)
    neutral.account_for(expected, arrays, str(job.checkpoint))
    _infer(wing, network, arrays, spec.image_size, spec.head == "imagenet", folder)


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
