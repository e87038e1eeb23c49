"""What a framework's process does to use a kept model: images in, logits out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from transfer_parity.shared.checkpoints import kept_model
from transfer_parity.shared.contract import artifacts
from transfer_parity.shared.contract.jobs import PredictJob
from transfer_parity.shared.contract.wing import Wing
from transfer_parity.shared.core.arrays import Rows
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.passes import Passes


def carry_out(wing: Wing, job: PredictJob, folder: Path, events: Events) -> Passes:
    """Write the logits of all images, (N, classes), into the folder. Returns the pass that gave them.

    Raises:
        BadInput: the file is damaged, or not that of a kept model.
    """
    recipe = kept_model.required(job.model).recipe
    network, _ = wing.weights.restore(job.model)
    passes, images = Passes(wing, network, recipe, job.execution.threads, events), Rows(job.images)
    np.save(folder / artifacts.LOGITS, passes.logits("all", images, np.arange(len(images)), "predicting"))
    return passes
