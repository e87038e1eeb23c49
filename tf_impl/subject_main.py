"""The process of one side of a user's own pair: ``python -m transfer_parity.tf_impl.subject_main JOB_FOLDER``."""

from transfer_parity.shared.contract.wings import KERAS
from transfer_parity.shared.runtime.subject_worker import main
from transfer_parity.tf_impl import subject

main(subject, KERAS)
