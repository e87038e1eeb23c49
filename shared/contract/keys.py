"""What keys of caches leave out: fields that cannot change what is kept, each with its reason.

A key is made of everything but these, so that a new field is part of it until somebody can say why it need not be.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from transfer_parity.shared.contract.jobs import DataFiles, Execution, ImportJob, TrainJob
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wings import WingInfo

#: Environment variables with which a user may change the arithmetic of libraries that all frameworks use. Those of a
#: single framework stand in its ``WingInfo``.
ARITHMETIC = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "MKL_CBWR")


class LeftOut:
    """Fields of a model that cannot change what is kept under a key.

    Args:
        model: a pydantic model or a dataclass.
        reasons: by field; why what is kept is the same whatever its value, or where else in the key it stands.

    Raises:
        TypeError: the model has no such field, or there is no reason.
    """

    def __init__(self, model: type, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        known = set(model.model_fields) if issubclass(model, BaseModel) else _names(model)
        if unknown := sorted(self.reasons.keys() - known):
            raise TypeError(f"{model.__name__} has no field {', '.join(unknown)}")
        if bare := sorted(name for name, reason in self.reasons.items() if not reason.strip()):
            raise TypeError(f"{model.__name__}: nothing says why {', '.join(bare)} cannot matter")

    def rest(self, value: Any) -> dict[str, Any]:
        """All other fields of a value of the model, or of one that has part of its fields: JSON values by name."""
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json", exclude=set(self.reasons))
        kept = _names(type(value)) - self.reasons.keys()
        return {name: _plain(getattr(value, name)) for name in sorted(kept)}


def arithmetic(wing: WingInfo) -> dict[str, str]:
    """What the environment says about the arithmetic of a wing: those variables that are set."""
    return {name: os.environ[name] for name in (*wing.arithmetic, *ARITHMETIC) if name in os.environ}


def _names(model: type) -> set[str]:
    return {each.name for each in dataclasses.fields(model)}


def _plain(value: Any) -> Any:
    """A field of a dataclass as a JSON value; dataclasses in it show all of their fields."""
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


_TRAINING = "what trains comes behind the frozen layers"
_WHICH_RUNS = "says which runs there are; every run, and every image, has a place of its own"
_JUDGED = "says how finished runs are judged"
_LABEL = "a name for people"
_UNSEEN = "frozen layers do not see them"
_DIVISION = "the digest of the classes of every image stands in the key"
_PIXELS = "the digest of the decoded images stands in the key"
_GIVEN = "with it, no layer runs"
_SPEC = "what it amounts to stands in the model's description"

#: Of the results of one run, which stand under a key and the run's shots and seed.
RUNS = LeftOut(
    Recipe,
    {
        "name": _LABEL,
        "data": _PIXELS,
        "seeds": _WHICH_RUNS,
        "first_seed": _WHICH_RUNS,
        "skip_unreadable": _PIXELS,
        "unlabeled": _PIXELS,
        "labels": _DIVISION,
        "tasks": _DIVISION,
        "frameworks": _WHICH_RUNS,
        "margin": _JUDGED,
        "check": "the short check is kept beside the runs, and comes after them",
    },
)
#: Of what frozen layers put out for one image.
FEATURES = LeftOut(
    Recipe,
    {
        "name": _LABEL,
        "data": _PIXELS,
        "shots": _WHICH_RUNS,
        "seeds": _WHICH_RUNS,
        "first_seed": _WHICH_RUNS,
        "test_fraction": _WHICH_RUNS,
        "skip_unreadable": _PIXELS,
        "unlabeled": _PIXELS,
        "labels": _UNSEEN,
        "tasks": _UNSEEN,
        "weights": "the digest of the weights stands in the key, as the network holds them",
        "strategy": _SPEC,
        "finetune_stages": _SPEC,
        "freeze_batch_norm": "frozen layers always run in inference mode",
        "head": _SPEC,
        "solver": _TRAINING,
        "first_head": _TRAINING,
        "ridge_penalty": _TRAINING,
        "logit_scale": _TRAINING,
        "text_features": _TRAINING,
        "image_features": _GIVEN,
        "cache_alpha": _TRAINING,
        "cache_beta": _TRAINING,
        "head_units": _TRAINING,
        "image_size": _SPEC,
        "resize": _SPEC,
        "preprocessing": _SPEC,
        "flip": "with it, no layer is frozen",
        "crop": "with it, no layer is frozen",
        "loss": _TRAINING,
        "label_smoothing": _TRAINING,
        "optimizer": _TRAINING,
        "learning_rate": _TRAINING,
        "momentum": _TRAINING,
        "beta1": _TRAINING,
        "beta2": _TRAINING,
        "epsilon": _TRAINING,
        "weight_decay": _TRAINING,
        "schedule": _TRAINING,
        "warmup_epochs": _TRAINING,
        "epochs": _TRAINING,
        "stage_rate_decay": _TRAINING,
        "batch_size": _TRAINING,
        "unlabeled_ratio": _TRAINING,
        "unlabeled_weight": _TRAINING,
        "threshold": _TRAINING,
        "label_temperature": _TRAINING,
        "teacher_decay": _TRAINING,
        "pair_margin": _TRAINING,
        "views": _TRAINING,
        "precision": "the process's stands in the key",
        "frameworks": "the framework stands in the key",
        "control": _WHICH_RUNS,
        "runtime": "the process's stands in the key",
        "repeats": "repeats keep nothing",
        "cache": "without it, nothing is kept",
        "margin": _JUDGED,
        "check": "it comes after the runs",
        "device": "the device that was found stands in the key",
        "threads": "the process's stand in the key",
    },
)
#: The same, of a job of runs.
FEATURES_JOB = LeftOut(
    TrainJob,
    {
        "kind": "both kinds put the same images through the same layers",
        "execution": "stands in the key field by field",
        "recipe": "stands in the key field by field",
        "data": "stands in the key field by field",
        "checkpoint": "the digest of the weights stands in the key, as the network holds them",
        "store": "where everything is kept",
        "switches": "those that change what layers put out stand in the key",
        "runs": _WHICH_RUNS,
        "check": "it comes after the runs",
    },
)
#: The same, of a process.
FEATURES_EXECUTION = LeftOut(Execution, {"device": "the device that was found stands in the key"})
#: The same, of a data set.
FEATURES_DATA = LeftOut(
    DataFiles,
    {
        "images": "a place; their digest stands in the key",
        "labels": _UNSEEN,
        "classes": _UNSEEN,
        "tasks": _UNSEEN,
        "pictures": "places; the digest stands for them, too",
        "text": _TRAINING,
        "features": _GIVEN,
    },
)
#: The same, of a model.
FEATURES_SPEC = LeftOut(
    ModelSpec,
    {
        "pair": "its name stands in the key as the backbone, and the table of pairs is code",
        "head": "whether features are pooled stands in the key, which is all that frozen layers have of it",
        "head_units": _TRAINING,
        "classes": _TRAINING,
        "given": _GIVEN,
        "tasks": _TRAINING,
        "switches": "those that change what layers put out stand in the key",
    },
)
#: Of a user's checkpoint in the neutral format, as the job that reads it.
IMPORTED = LeftOut(
    ImportJob,
    {
        "kind": "there is but this one",
        "checkpoint": "its name and the digest of its bytes stand in the key",
        "probe": "images that are put through the weights leave them as they are",
        "execution": "arrays are read as they stand in the file; the precision stands in the key",
    },
)
