"""The process that the launcher starts: ``python -m transfer_parity.torch_impl JOB_FOLDER``."""

from transfer_parity.shared.runtime.worker import main
from transfer_parity.torch_impl.wing import WING

main(WING)
