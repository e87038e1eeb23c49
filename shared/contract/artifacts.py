"""Names of the files and folders that a process, a run or a command leaves behind. They are spelled nowhere else."""

from __future__ import annotations

#: Suffix of a neutral checkpoint.
NEUTRAL = ".safetensors"

# In the folder of a job, which one process works through.
JOB = "job.json"
WORKER_RESULT = "result.json"
#: What the process wrote to its error output.
LOG = "worker.log"
IMAGES = "images.npy"
#: Vectors of the classes, of a text encoder.
TEXT = "text.npy"
#: Vectors of the images, of an image encoder.
GIVEN_FEATURES = "given-features.npy"
LABELS = "labels.npy"
PLAN = "plan.npz"
#: A neutral checkpoint that the process made, and what it says about the file that it read for it.
WEIGHTS = f"weights{NEUTRAL}"
IMPORTED = "imported.json"
#: A checkpoint that the process wrote in its framework's own format: this and a suffix.
EXPORTED = "exported"
#: Image files for a wing that reads them itself, and what it made of them.
PICTURES = "pictures"
NATIVE_IMAGES = "native-images.npy"
#: A data set that the process brought: what it downloaded, and the image files in one folder for each class.
DOWNLOADS = "downloads"
DATA_SET = "images"

# In the folder of a finished run.
RUN_RESULT = "cell.json"
LOGITS = "logits.npy"
LOSSES = "losses.npy"
#: What a method has learned from base classes.
LEARNED = "learned.npz"
#: In the folder of a job: what its short check wrote, in files as those of a climb, and how far rounding moved a run.
CHECK = "check"
SHADOW = "shadow.json"
#: Class-activation maps.
MAPS = "explained.npy"
#: What the frozen backbone puts out for the training and the test images.
TRAIN_FEATURES = "train.npy"
TEST_FEATURES = "test.npy"
#: A kept model, in the framework's own format: this and a suffix.
MODEL = "model"

# In the folder of a climb of the parity ladder, in one wing: the framework's names of layers and parameters, and how
# far rounding may move each array.
NAMES = "names.json"
ROUNDING = "rounding.json"

# In the output folder of a command.
RECIPE = "recipe.toml"
COMPARISON = "comparison.json"
STUDY = "study.json"
ATTRIBUTION = "attribution.json"
RANKING = "rank.json"
EPISODES = "episodes.json"
PARITY = "parity.json"
#: What there is to say about a kept model, and the same for people.
CARD = "model-card.json"
CARD_TEXT = "model-card.md"
#: Pages and tables for people.
STUDY_PAGE = "report.html"
STUDY_TABLES = "report.md"
ATTRIBUTION_TABLES = "attribution.md"
PARITY_TABLES = "parity.md"
#: Of a pair of one's own, besides: its page, and the map of names, to be edited.
PARITY_PAGE = "report.html"
NAME_MAP = "map.toml"
#: Plots: these and a suffix.
CURVES_PLOT = "curves"
ORDER_PLOT = "order"
DIFFERENCES_PLOT = "differences"
ATTRIBUTION_PLOT = "attribution"
#: Folders: test logits and models of a comparison, finished cells of a sweep, comparisons of ranked backbones, events.
LOGITS_FOLDER = "logits"
MODELS = "models"
CELLS = "cells"
TRAINED = "trained"
TENSORBOARD = "tensorboard"
#: Of the comparison that says how good a kept model is.
ESTIMATE = "estimate"

# Folders of work in progress; what is left of them after an interruption can be thrown away.
FETCHING = ".fetching-"
IMPORTING = ".importing-"
CONVERTING = ".converting-"
#: Of temporary files, where the system has them.
SCRATCH = "transfer-parity-"

# In the cache.
DATA = "data"
CHECKPOINTS = "weights"
FEATURES = "features"
CONVERSIONS = "conversions"


def kept_log(whose: str) -> str:
    """File in an output folder with what a failed process wrote: of a framework, or of a ranked backbone."""
    return f"{whose}-{LOG}"


def run_id(pretrained: bool, shots: int | str, seed: int) -> str:
    """Name of a run, and of its folder in the job's."""
    return f"{'pretrained' if pretrained else 'untrained'}-shots{shots}-seed{seed}"


def plan_file(shots: int | str, seed: int) -> str:
    """File of a run's plan in the job's folder."""
    return f"plan-shots{shots}-seed{seed}.npz"


def rung_file(rung: str) -> str:
    """File of a rung's arrays in the folder of a climb."""
    return f"{rung}.safetensors"


def cell_name(framework: str, configuration: str, shots: int | str, seed: int) -> str:
    """Name of a cell of a sweep for people; a folder's has a digest behind it.

    Args:
        framework: whose cell.
        configuration: strategy and what differs from a matched run, in a few words.
        shots: training images a class, or all.
        seed: of the subset, the order and the initial weights.
    """
    return f"{framework}-{configuration}-shots{shots}-seed{seed}"


# In the working folder of an exercise: what is noted of it, its text, and what the learner's copy printed at last.
EXERCISE = "exercise.json"
EXERCISE_TEXT = "README.md"
EXERCISE_LOG = "log.txt"
