"""Everything on which the outputs of frozen layers depend, as the key under which they are kept."""

from __future__ import annotations

from typing import Any

from transfer_parity.shared.contract import keys, switches
from transfer_parity.shared.contract.jobs import JobOfRuns
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Wing
from transfer_parity.shared.core import code, machine


def of_features(wing: Wing, job: JobOfRuns, spec: ModelSpec, weights_digest: str) -> dict[str, Any]:
    """The key of one backbone's outputs, JSON values by name.

    What a person chooses is in it but for what ``shared/contract/keys.py`` leaves out with a reason. The engine need
    not be: it follows from the images, the shapes, the threads and the recipe, all of which are in the key.

    Args:
        wing: whose process it is.
        job: of that process.
        spec: of its network.
        weights_digest: of the backbone, as the network holds it.
    """
    versions, device = wing.device.environment()
    parts = {
        "recipe": keys.FEATURES.rest(job.recipe),
        "job": keys.FEATURES_JOB.rest(job),
        "execution": keys.FEATURES_EXECUTION.rest(job.execution),
        "data": keys.FEATURES_DATA.rest(job.data),
        "spec": keys.FEATURES_SPEC.rest(spec),
    }
    chosen = {f"{part}.{name}": value for part, fields in parts.items() for name, value in fields.items()}
    return {
        **chosen,
        "code": code.of_wing(wing.info.package),
        "framework": wing.info.identifier,
        "versions": versions,
        "device": device,
        "cpu": machine.cpu_name(),
        "environment": keys.arithmetic(wing.info),
        "weights": weights_digest,
        "pooled": spec.pooled,
        "switches": sorted(switches.of_passes(spec.switches)),
    }
