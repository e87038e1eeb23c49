"""What the parent asks of a framework's process."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.rungs import Rung
from transfer_parity.shared.zoo.pair import Semantics

Runtime = Literal["tuned", "stock"]
ClassifierChoice = Literal["auto", "required", "none"]


class Cell(BaseModel):
    """One run: one subset, one seed, pretrained or not.

    Attributes:
        id: name of its folder below the job's.
        plan: file of its plan, relative to the job's folder.
        save_model: whether the trained model is kept in the framework's own format.
        explain: images to be explained by class-activation maps of the trained model, as indices of the data set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    pretrained: bool
    shots: Shots
    seed: int
    plan: str
    save_model: bool = False
    explain: tuple[int, ...] = ()


class Case(BaseModel):
    """One wing's part of a climb: a model, its data, and what to do differently.

    Attributes:
        id: name of its folder below the job's.
        recipe: backbone, sizes, loss, and the trajectory's optimizer and schedule.
        semantics: under which random weights are meant; a checkpoint brings its own.
        own_classifier: whether the architecture's own classifier stands on the backbone, not the recipe's head.
        classes: number of them.
        seed: of everything random.
        switches: what this wing is to do as the other framework does it.
        checkpoint: neutral checkpoint, or None for random weights that look trained.
        images: uint8 array (N, S, S, 3) as .npy; labels: int64 (N,) as .npy; plan: .npz; pictures: the files that the
            images were read from.
        until: last rung to climb.
        skip: rungs to leave out; loss and gradients go together.
        measures_rounding: whether to repeat the passes with moved weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    recipe: Recipe
    semantics: Semantics
    own_classifier: bool
    classes: int
    seed: int
    switches: tuple[str, ...] = ()
    checkpoint: Path | None = None
    images: Path
    labels: Path
    plan: Path
    pictures: tuple[Path, ...]
    until: Rung = "metrics"
    skip: frozenset[Rung] = frozenset()
    measures_rounding: bool = False


class Job(BaseModel):
    """What one process does. Written as ``job.json`` into the job's folder, where the results go too.

    Attributes:
        kind: "compare" runs cells; "features" only puts their images through the frozen backbone; "download" fetches
            the framework's own ImageNet weights; "import" turns the file ``checkpoint`` (in the framework's own format)
            into a neutral one. Both write ``weights.safetensors``. "export" writes the neutral ``checkpoint`` as
            ``exported`` plus ``suffix``, and imports that again; "run" only puts images through a neutral checkpoint.
            "trace" climbs the parity ladder for every case. "data_set" downloads a data set that the framework offers.
        images: uint8 array (N, S, S, 3) as .npy, read a batch at a time.
        labels: int64 array (N,) as .npy.
        classes: their names, in label order.
        checkpoint: neutral checkpoint for the pretrained cells, or the file to import.
        semantics: of an imported file that does not say which it has; by default the framework's own.
        classifier: whether an imported file's own classifier is taken if there is one, must be there, or is left out.
        suffix: of the exported file, which chooses the format.
        probe: whether "import" and "export" put images through what they read, as "run" does.
        runtime: "tuned", or "stock": the framework as it is installed.
        store: folder for what frozen layers put out, kept for later runs; without one it is forgotten.
        data_digest: of the decoded images, as a key of that folder.
        data_set: name of the framework's own data set.
        switches: of the cells: what this wing is to do by itself, or as the other framework does it.
        pictures: the files of all images, for a wing that is to read them itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["compare", "features", "download", "import", "export", "run", "trace", "data_set"]
    recipe: Recipe
    threads: int
    classes: tuple[str, ...] = ()
    images: Path | None = None
    labels: Path | None = None
    checkpoint: Path | None = None
    semantics: Semantics | None = None
    classifier: ClassifierChoice = "auto"
    suffix: str = ""
    probe: bool = False
    runtime: Runtime = "tuned"
    store: Path | None = None
    data_digest: str = ""
    data_set: str = ""
    switches: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()
    cells: tuple[Cell, ...] = ()
    cases: tuple[Case, ...] = ()
