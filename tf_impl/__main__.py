"""The process that the launcher starts: ``python -m transfer_parity.tf_impl JOB_FOLDER``."""

import os

# What this wing is compared as runs on TensorFlow, whatever someone has chosen for programs of their own.
os.environ["KERAS_BACKEND"] = "tensorflow"

from transfer_parity.shared.runtime.worker import main
from transfer_parity.tf_impl.wing import WING

main(WING)
