"""How alike two layers are: by kind and shapes, by name, and by the values of their parameters."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from transfer_parity.shared.contract.inventory import LayerRecord
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.subjects.name_map import roles_of

#: Relative: a weight that was written in float32 and read in float64 is still the same.
CLOSE = 1e-6
#: What is taken for zero.
TINY = 1e-9
#: Entries of an array that are looked at first.
FEW = 16
#: What names of kinds of layers say, which is known from the kind: nothing.
_KINDS = re.compile(
    r"(separable|depthwise)?conv(olution)?(al)?(transpose)?[123]?d?|dense|linear|fc|batch_?normali[sz]ation|bn|norm"
    r"|layer_?normali[sz]ation|ln|embedding|lstm|gru|(multi_?head_?)?attention|mha"
)

_SHORT = {"q": "query", "k": "key", "v": "value", "o": "output", "out": "output"}


@lru_cache(maxsize=65536)
def words(name: str) -> tuple[str, ...]:
    """Parts of a name that are no numbers, in lower case; ``layer1.downBranch_2`` has layer, down and branch."""
    parts = re.split(r"[^A-Za-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name))
    return tuple(part.lower() for part in parts if part)


@lru_cache(maxsize=65536)
def numbers(name: str) -> tuple[int, ...]:
    """Numbers in a name; those of many digits are cut."""
    return tuple(int(part[:9]) for part in re.findall(r"[0-9]+", name))


@lru_cache(maxsize=65536)
def telling(name: str) -> tuple[str, ...]:
    """Words of a name but for those that only say of which kind the layer is."""
    return tuple(_SHORT.get(word, word) for word in words(name) if not _KINDS.fullmatch(word))


def of_names(one: str, other: str) -> float:
    """How alike two names are, from 0 to 1: their words, and a little their numbers.

    Numbers say little: one library counts from 0, another from 1, a third not at all for the first.
    """
    return 0.9 * _of_texts(" ".join(telling(one)), " ".join(telling(other))) + 0.1 * (numbers(one) == numbers(other))


@lru_cache(maxsize=262144)
def _of_texts(one: str, other: str) -> float:
    if not one and not other:
        return 0.5
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def signature(layer: LayerRecord) -> tuple[object, ...]:
    """Kind and shapes, by which layers are counted that may be taken for each other."""
    if not layer.parameters:
        return layer.kind, layer.output_shape
    weight = {role: shape for role, shape in layer.parameters.items() if not role.endswith("bias")} or layer.parameters
    # Scales and offsets may be missing on one side; what a normalisation is of says its width.
    if layer.kind.endswith("_norm"):
        return layer.kind, max(weight.values())
    return layer.kind, *sorted((role, *(size for size in shape if size != 1)) for role, shape in weight.items())


def can_be(one: LayerRecord, other: LayerRecord) -> bool:
    """Whether a layer with parameters can be another's counterpart."""
    if one.kind != other.kind:
        return False
    if not one.parameters or not other.parameters:
        return roles_of(one, other) is not None
    return signature(one) == signature(other) and roles_of(one, other) is not None


class Values:
    """Equal weights of two sides.

    Args:
        reference: its arrays by parameter name.
        candidate: the other side's.
    """

    def __init__(self, reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> None:
        self._arrays = reference, candidate
        self._few: tuple[dict[str, list[float]], dict[str, list[float]]] = {}, {}

    def equal(self, one: LayerRecord, other: LayerRecord) -> bool:
        """Whether all parameters that two layers have in common are equal, and say something.

        Zeros and ones, as layers are made with, are no one's own.
        """
        says = False
        for mine, theirs in (roles_of(one, other) or {}).items():
            names = f"{one.name}.{mine}", f"{other.name}.{theirs}"
            if names[0] not in self._arrays[0] or names[1] not in self._arrays[1]:
                continue
            if not all(map(_close, self._first(0, names[0]), self._first(1, names[1]))):
                return False
            first, second = (self._arrays[side][name].reshape(-1) for side, name in enumerate(names))
            if first.shape != second.shape or not np.allclose(first, second, rtol=CLOSE, atol=TINY):
                return False
            says = says or (len(first) > 1 and not (first == first[0]).all())
        return says

    def _first(self, side: int, name: str) -> list[float]:
        known = self._few[side]
        if name not in known:
            flat = self._arrays[side][name].reshape(-1)
            known[name] = flat[:: max(1, len(flat) // FEW)].tolist()
        return known[name]


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=TINY)


def align(
    rows: int, columns: int, scores: Mapping[tuple[int, int], float], neighbours: float = 2.0
) -> list[tuple[int, int]]:
    """The best alignment of two sequences, as places in both (Needleman and Wunsch, 1970; gaps cost nothing).

    Args:
        rows: length of one.
        columns: of the other.
        scores: by places, of what may be aligned, above 0.
        neighbours: added where the two before are aligned with each other, too: blocks stay together.
    """
    nothing = -math.inf
    # Best score up to here, and the best that ends with these two aligned.
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    ends = [[nothing] * (columns + 1) for _ in range(rows + 1)]
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            score = scores.get((i - 1, j - 1))
            if score is not None:
                ends[i][j] = score + max(best[i - 1][j - 1], ends[i - 1][j - 1] + neighbours)
            best[i][j] = max(best[i - 1][j], best[i][j - 1], ends[i][j])
    found = []
    i, j, aligned = rows, columns, False
    while i and j:
        if aligned or ends[i][j] == best[i][j]:
            found.append((i - 1, j - 1))
            i, j = i - 1, j - 1
            aligned = ends[i][j] + neighbours >= best[i][j]
        elif best[i][j] == best[i - 1][j]:
            i -= 1
        else:
            j -= 1
    return found[::-1]
