"""Programs that import one framework each, in processes of their own, and the arrays that they leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.processes import python

Answers = dict[str, NDArray[Any]]

#: What all programs have in common: ``given`` is what the test wants, ``answers`` is what it gets.
_FRAME = """
import json, sys
import numpy as np
from transfer_parity.{wing}.wing import WING as wing
given, answers = json.loads(sys.argv[1]), {{}}
wing.device.configure(1, {precision!r}, "cpu")
{body}
np.savez(sys.argv[2], **answers)
"""

#: Units of rounding, relative to a value (half a unit in the last place).
UNIT64, UNIT32 = 2.0**-53, 2.0**-24
#: Two computations err independently, and the largest of many errors is compared with one sample of them.
SAFETY = 8.0


def ask(wing: str, body: str, given: Any, folder: Path, precision: str = "float64") -> Answers:
    """Run a program in the process of a wing; it fills ``answers``.

    Args:
        wing: "torch_impl" or "tf_impl".
        body: of the program.
        given: what JSON can say; the program has it under this name.
        folder: for what it leaves behind.
        precision: that the wing is configured for.
    """
    target = folder / f"{wing}.npz"
    program = _FRAME.format(wing=wing, precision=precision, body=body)
    python(program, json.dumps(given), target)
    with np.load(target) as arrays:
        return {name: arrays[name] for name in arrays.files}


def away(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest absolute difference."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
