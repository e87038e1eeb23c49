"""The wing's modules as one object, for the harness."""

from __future__ import annotations

from transfer_parity.shared.contract.wing import Wing
from transfer_parity.shared.contract.wings import TORCHVISION
from transfer_parity.torch_impl import (
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
    info=TORCHVISION,
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
