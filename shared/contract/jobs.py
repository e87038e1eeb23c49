"""What the parent asks of a framework's process: one model for each kind of job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.climbs import WingClimb
from transfer_parity.shared.contract.learners import LearnerName, LearnerSettings
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import Pair, Semantics

Runtime = Literal["tuned", "stock"]
ClassifierChoice = Literal["auto", "required", "none"]


class _Part(BaseModel):
    """A part of a job; never changed, and nothing in it that is not declared."""

    # Most processes need one kind of job, and building what validates all of them takes a fiftieth of a second.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Execution(_Part):
    """What a process is set to before anything is built.

    Attributes:
        threads: of the framework.
        precision: floating-point type of the arithmetic.
        device: "auto" or "cpu".
        runtime: "tuned", or "stock": the framework as it is installed.
    """

    threads: int
    precision: str = "float32"
    device: str = "auto"
    runtime: Runtime = "tuned"

    @classmethod
    def of(cls, recipe: Recipe, threads: int, runtime: Runtime = "tuned") -> Execution:
        """As a recipe wants it, with this number of threads."""
        return cls(threads=threads, precision=recipe.precision, device=recipe.device, runtime=runtime)


class DataFiles(_Part):
    """The images of a data set, N of them, as files.

    Attributes:
        images: uint8 array (N, S, S, 3) as .npy, read a batch at a time.
        labels: int64 array (N,) as .npy.
        classes: their names, in label order.
        digest: of the images as the wing sees them.
        pictures: the files of all images, for a wing that is to read them itself; else none.
        text: a vector for each class, float64 (classes, d) as .npy, for a strategy that compares with text.
        features: a vector for each image, (N, d) as .npy, where another encoder has made them and no backbone runs.
        tasks: number of classes of each task, if there are several: labels are (N, T) then (``Dataset``).
    """

    images: Path
    labels: Path
    classes: tuple[str, ...]
    digest: str
    pictures: tuple[Path, ...] = ()
    text: Path | None = None
    features: Path | None = None
    tasks: tuple[int, ...] = ()


class RunSpec(_Part):
    """One run: one subset, one seed, pretrained or not.

    Attributes:
        id: name of its folder below the job's.
        plan: file of its plan, relative to the job's folder.
        save_model: whether the trained model is kept in the framework's own format.
        explain: images to be explained by class-activation maps of the trained model, as indices of the data set.
    """

    id: str
    pretrained: bool
    shots: Shots
    seed: int
    plan: str
    save_model: bool = False
    explain: tuple[int, ...] = ()


def by_backbone(runs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Runs that begin on the same backbone, which share what is frozen in it: pretrained ones, or those of a seed."""
    groups: dict[tuple[bool, int | None], list[RunSpec]] = {}
    for run in runs:
        groups.setdefault((run.pretrained, None if run.pretrained else run.seed), []).append(run)
    return list(groups.values())


class _Job(_Part):
    """What one process does. Written as a file into the job's folder, where the results go too."""

    execution: Execution


class _JobOfRuns(_Job):
    """What is done run by run.

    Attributes:
        checkpoint: neutral checkpoint of the pretrained runs, or None where all weights are drawn.
        store: folder for what frozen layers put out, kept for later runs; without one it is forgotten.
        switches: what this wing is to do by itself, or as the other framework does it.
    """

    recipe: Recipe
    data: DataFiles
    checkpoint: Path | None
    store: Path | None
    switches: tuple[str, ...] = ()
    runs: tuple[RunSpec, ...]


class TrainJob(_JobOfRuns):
    """Train and predict.

    Attributes:
        check: the run whose first steps are checked beside it (see ``shared/runtime/short_climb.py``); empty for none.
    """

    kind: Literal["train"] = "train"
    check: str = ""


class FeaturesJob(_JobOfRuns):
    """Put the images of the runs through the frozen backbone, and hand over what comes out."""

    kind: Literal["features"] = "features"


class DownloadJob(_Job):
    """Fetch the library's own ImageNet weights, as a neutral checkpoint.

    Attributes:
        backbone: name of the pair.
    """

    kind: Literal["download"] = "download"
    backbone: str

    @property
    def pair(self) -> Pair:
        """The architecture."""
        return find_pair(self.backbone)


class ImportJob(_Job):
    """Turn a checkpoint in the framework's own format into a neutral one.

    Attributes:
        recipe: backbone, image size and preprocessing.
        checkpoint: the file.
        semantics: of a file that does not say which it has; by default those of the wing's library.
        classifier: whether the file's own classifier is taken if there is one, must be there, or is left out.
        trained_head: whether a model that this project trained is taken whole, with its head; else its backbone is.
        probe: whether to put images through what was read, as ``ProbeJob`` does.
    """

    kind: Literal["import"] = "import"
    recipe: Recipe
    checkpoint: Path
    semantics: Semantics | None = None
    classifier: ClassifierChoice = "auto"
    trained_head: bool = False
    probe: bool = False


class ExportJob(_Job):
    """Write a neutral checkpoint in the framework's own format, and import that again.

    A kept model is written as the framework's wing keeps one.

    Attributes:
        recipe: backbone, image size and preprocessing.
        checkpoint: the neutral one.
        suffix: of the file to write, which chooses the format.
        probe: whether to put images through what was read again, as ``ProbeJob`` does.
    """

    kind: Literal["export"] = "export"
    recipe: Recipe
    checkpoint: Path
    suffix: str
    probe: bool = False


class ProbeJob(_Job):
    """Put a few fixed images through a neutral checkpoint.

    Attributes:
        recipe: backbone, image size and preprocessing.
        checkpoint: the neutral one.
    """

    kind: Literal["run"] = "run"
    recipe: Recipe
    checkpoint: Path


class PredictJob(_Job):
    """Put images through a kept model.

    Attributes:
        model: its file, as the wing keeps one.
        images: uint8 array (N, S, S, 3) as .npy, in the size that the model takes.
    """

    kind: Literal["predict"] = "predict"
    model: Path
    images: Path


class LearnerClimb(_Part):
    """A method that learns from base classes, to be climbed on the features of a recipe's frozen backbone.

    Attributes:
        method: which.
        settings: how it trains; its optimizer is the recipe's.
        plans: what it learns from and is judged on in each run, relative to the climb's folder: base images are rows of
            the run's training images, those of the episodes are rows of its test images.
    """

    method: LearnerName
    settings: LearnerSettings
    plans: tuple[str, ...]


class RecipeClimb(_Part):
    """One wing's part of the ladder of a recipe.

    Attributes:
        id: name of its folder below the job's, in which the plans of the runs lie.
        job: two runs of the recipe that share a backbone, where it is pretrained: the ladder's seed and another one.
        semantics: of weights that look trained, drawn by the job's first seed in place of a checkpoint; None where the
            runs begin as the job says.
        engines_only: whether to write down nothing but what every engine puts out, for another precision to judge.
        measures_rounding: whether to repeat everything with moved weights.
        learner: what trains in place of a head of the recipe; None for that head.
    """

    id: str
    job: TrainJob
    semantics: Semantics | None = None
    engines_only: bool = False
    measures_rounding: bool = False
    learner: LearnerClimb | None = None


class TraceJob(_Job):
    """Carry out climbs of the parity ladder.

    Attributes:
        climbs: of pairs.
        recipes: of what recipes run.
    """

    kind: Literal["trace"] = "trace"
    climbs: tuple[WingClimb, ...] = ()
    recipes: tuple[RecipeClimb, ...] = ()


class Learning(_Part):
    """A method that learns from base classes, and is judged on episodes of novel ones.

    Attributes:
        id: name of its folder below the job's, which receives logits, losses and what was learned.
        method: which.
        base: features of the base images, (B, d), as .npy.
        novel: features of the images of the episodes, (M, d), as .npy.
        plan: what it learns from and is judged on, relative to the job's folder (``shared/contract/learning_plan.py``).
        seed: of its first arrays.
        settings: how it trains.
        recipe: its optimizer and learning rate.
    """

    id: str
    method: LearnerName
    base: Path
    novel: Path
    plan: str
    seed: int
    settings: LearnerSettings
    recipe: Recipe


class EpisodesJob(_Job):
    """Train methods on base classes, and classify the queries of episodes of novel ones.

    Attributes:
        features: what is done first, in the same folder, so that files of features are there; None if they are already.
        learnings: one after the other.
    """

    kind: Literal["episodes"] = "episodes"
    features: FeaturesJob | None = None
    learnings: tuple[Learning, ...]


class DataSetJob(_Job):
    """Download a data set that the library offers, as a folder of image files.

    Attributes:
        name: as the library calls it.
    """

    kind: Literal["data_set"] = "data_set"
    name: str


JobOfRuns = TrainJob | FeaturesJob
CheckpointJob = DownloadJob | ImportJob | ExportJob | ProbeJob
Job = JobOfRuns | CheckpointJob | PredictJob | TraceJob | EpisodesJob | DataSetJob
_ANY: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")], config=ConfigDict(defer_build=True))


def write(job: Job, folder: Path) -> None:
    """Write a job into its folder."""
    (folder / artifacts.JOB).write_text(job.model_dump_json(indent=1), encoding="utf-8")


def read(folder: Path) -> Job:
    """The job of a folder, by its kind.

    Raises:
        pydantic.ValidationError: the file is of another version.
    """
    return _ANY.validate_json((folder / artifacts.JOB).read_text(encoding="utf-8"))
