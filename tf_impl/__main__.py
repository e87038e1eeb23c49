"""The process that the launcher starts: ``python -m tf_impl JOB_FOLDER``."""

from shared.worker import main
from tf_impl import Implementation

main(Implementation())
