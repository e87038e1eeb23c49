"""The wing's modules as one object, for the harness."""

from __future__ import annotations

from transfer_parity.shared.contract.wing import Wing
from transfer_parity.shared.contract.wings import KERAS
from transfer_parity.tf_impl import (
    data,
    device,
    episodes,
    explain,
    files,
    inference,
    native,
    network,
    trace,
    training,
    weights,
)

WING = Wing(
    info=KERAS,
    device=device,
    network=network,
    weights=weights,
    training=training,
    inference=inference,
    files=files,
    data=data,
    trace=trace,
    explain=explain,
    native=native,
    episodes=episodes,
)
