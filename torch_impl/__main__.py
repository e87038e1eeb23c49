"""The process that the launcher starts: ``python -m torch_impl JOB_FOLDER``."""

from shared.worker import main
from torch_impl import Implementation

main(Implementation())
