"""The map of names as a TOML file that a person reads and edits."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract.inventory import Inventory, LayerRecord
from transfer_parity.shared.core import files
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.text import brief
from transfer_parity.shared.subjects import mapping, name_map
from transfer_parity.shared.subjects.name_map import MappedPair, NameMap, Packed

LAYERS, ENTRIES, PARAMETERS = "layers", "entries", "parameters"
_HEAD = """\
# Map of names: {0} on the left, {1} on the right. Edit it and run again: from now on it is taken as it stands.
# Take a line out, and what it names is left over: it keeps its own weights, and is said to differ.
"""
_PARAMETERS = """\
# Parameters whose names or number differ: one of the other side's, or several that lie one behind the other in it.
"""

Line = tuple[str | list[str], str | list[str]]


def write(path: Path, mapped: NameMap, reference: Inventory, candidate: Inventory, names: tuple[str, str]) -> None:
    """Write a map of names, with what is certain, what is ambiguous and what is left over.

    Args:
        path: of the file.
        mapped: the map.
        reference: one side's layers.
        candidate: the other's.
        names: of both sides, for comments.
    """
    lines = [_HEAD.format(*names), f"{LAYERS} = ["]
    for pair in mapped.pairs:
        if _by_rule(pair):
            lines += _commented(pair, reference)
    lines += ["]", "", "# Activations, poolings, sums: only outputs are compared.", f"{ENTRIES} = ["]
    for pair in mapped.entries:
        lines += _commented(pair, reference)
    lines += ["]", "", _PARAMETERS.rstrip(), f"{PARAMETERS} = ["]
    for one, other in _parameters(mapped):
        lines.append(f"  [{_quoted(one)}, {_quoted(other)}],")
    lines.append("]")
    for name, left, inventory in zip(
        names, (mapped.left_over_reference, mapped.left_over_candidate), (reference, candidate), strict=True
    ):
        lines += ["", f"# Left over in {name}: {'nothing.' if not left else ''}".rstrip()]
        shapes = _shapes(inventory)
        lines += [f"#   {_quoted(each)}  {_shape(shapes[each])}" for each in left]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, "\n".join(lines) + "\n")


def _by_rule(pair: MappedPair) -> bool:
    """Whether all roles have their own names, so that a line with two layers says everything."""
    return pair.outputs and all(one == other for one, other in pair.roles.items())


def _commented(pair: MappedPair, reference: Inventory) -> Iterator[str]:
    if pair.certainty == "ambiguous":
        others = f"; it may be {' or '.join(map(_quoted, pair.alternatives))}" if pair.alternatives else ""
        yield f"  # ambiguous: {pair.reason}{others}"
    layer = reference.layer(pair.reference)
    shapes = ", ".join(f"{role} {_shape(shape)}" for role, shape in layer.parameters.items() if role != "bias")
    said = f"{layer.kind}{' ' + shapes if shapes else ''}"
    certainty = "" if pair.certainty in ("ambiguous", "given") else f"; {pair.certainty}: {pair.reason}"
    yield f"  [{_quoted(pair.reference)}, {_quoted(pair.candidate)}],  # {said}{certainty}"


def _parameters(mapped: NameMap) -> Iterator[Line]:
    for pair in mapped.pairs:
        if not _by_rule(pair):
            for mine, other in pair.roles.items():
                yield f"{pair.reference}.{mine}", f"{pair.candidate}.{other}"
    for each in mapped.packed:
        yield (each.whole, each.parts) if each.side == "reference" else (each.parts, each.whole)


def _quoted(name: str | Sequence[str]) -> str:
    if not isinstance(name, str):
        return f"[{', '.join(map(_quoted, name))}]"
    # A basic string of TOML escapes what a string of JSON does, and U+007F.
    return '"' + "".join(_ESCAPES.get(letter) or _escaped(letter) for letter in name) + '"'


_ESCAPES = {'"': '\\"', "\\": "\\\\"}


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 32 or ord(letter) == 127 else letter


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _shapes(inventory: Inventory) -> dict[str, tuple[int, ...]]:
    return {f"{each.name}.{role}": shape for each in inventory.layers for role, shape in each.parameters.items()}


def read(path: Path, reference: Inventory, candidate: Inventory) -> NameMap:
    """Read a map of names that a person has edited.

    Args:
        path: of the file.
        reference: one side's layers.
        candidate: the other's.

    Raises:
        BadInput: it cannot be read, a name is unknown or stands there twice, or shapes fit no rule.
    """
    return _Reading(path, reference, candidate).run()


class _Reading:
    def __init__(self, path: Path, reference: Inventory, candidate: Inventory) -> None:
        self.path, self.sides = path, (reference, candidate)
        self.layers: tuple[dict[str, LayerRecord], ...] = tuple(
            {layer.name: layer for layer in side.layers} for side in self.sides
        )
        self.shapes = tuple(map(_shapes, self.sides))
        self.seen: tuple[set[str], set[str]] = (set(), set())

    def run(self) -> NameMap:
        tables = self._loaded()
        pairs = [self._layer(line) for line in self._lines(tables, LAYERS)]
        entries = [self._entry(line) for line in self._lines(tables, ENTRIES)]
        self.seen = (
            {f"{pair.reference}.{role}" for pair in pairs for role in pair.roles},
            {f"{pair.candidate}.{role}" for pair in pairs for role in pair.roles.values()},
        )
        packed: list[Packed] = []
        more: dict[tuple[str, str], MappedPair] = {}
        for line in self._lines(tables, PARAMETERS, several=True):
            self._parameter(line, more, packed)
        known = {(pair.reference, pair.candidate): place for place, pair in enumerate(pairs)}
        for both, pair in more.items():
            if both in known:
                place = known[both]
                pairs[place] = pairs[place].model_copy(update={"roles": pairs[place].roles | pair.roles})
            else:
                pairs.append(pair)
        order = {layer.name: place for place, layer in enumerate(self.sides[0].layers)}
        pairs.sort(key=lambda pair: order[pair.reference])
        return name_map.complete(pairs, entries, packed, *self.sides)

    def _loaded(self) -> dict[str, Any]:
        try:
            tables = tomllib.loads(self.path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise BadInput(f"map {self.path} cannot be read ({error.strerror or error}); make it readable.") from None
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise BadInput(f"map {self.path} is not readable TOML ({reason}); mend the file.") from None
        known = (LAYERS, ENTRIES, PARAMETERS)
        for key in tables:
            if key not in known:
                raise BadInput(f"map {self.path}: unknown key {brief(key)}; {did_you_mean(key[:100], known)}")
        return tables

    def _lines(self, tables: dict[str, Any], key: str, several: bool = False) -> Iterator[Line]:
        lines = tables.get(key, [])
        if not isinstance(lines, list):
            raise BadInput(f"map {self.path}: {key} is no list; give pairs of names, one a line.")
        for line in lines:
            if not isinstance(line, list) or len(line) != 2 or not all(_is_name(each, several) for each in line):
                raise BadInput(f"map {self.path}: {key} holds {brief(line)}; give two names, in quotes, in brackets.")
            if not all(isinstance(each, str) for each in line) and sum(isinstance(each, str) for each in line) != 1:
                raise BadInput(f"map {self.path}: {brief(line)} has several names on both sides; split it.")
            yield line[0], line[1]

    def _named(self, line: Line, known: Sequence[Any], what: str) -> None:
        """Make sure that names are known, and stand there once."""
        for place, given in enumerate(line):
            for name in [given] if isinstance(given, str) else given:
                whose = ("left", "right")[place]
                if name not in known[place]:
                    hint = did_you_mean(name[:200], list(known[place])[:200])
                    raise BadInput(f"map {self.path}: the model on the {whose} has no {what} {brief(name)}; {hint}")
                if name in self.seen[place]:
                    raise BadInput(
                        f"map {self.path}: {what} {brief(name)} on the {whose} has two counterparts; take one out."
                    )
                self.seen[place].add(name)

    def _layer(self, line: Line) -> MappedPair:
        mains = [{name: layer for name, layer in side.items() if mapping.is_main(layer)} for side in self.layers]
        self._named(line, mains, "layer with weights")
        one, other = mains[0][str(line[0])], mains[1][str(line[1])]
        roles = name_map.roles_of(one, other)
        if roles is None:
            raise BadInput(
                f"map {self.path}: {one.name!r} ({_described(one)}) and {other.name!r} ({_described(other)}) fit no "
                f"rule; take the line out, or name their weights one by one under {PARAMETERS}."
            )
        return MappedPair(
            reference=one.name, candidate=other.name, kind=one.kind, certainty="given", reason="given", roles=roles
        )

    def _entry(self, line: Line) -> MappedPair:
        self._named(line, self.layers, "activation, pooling or sum")
        return MappedPair(
            reference=str(line[0]),
            candidate=str(line[1]),
            kind=self.layers[0][str(line[0])].kind,
            certainty="given",
            reason="given",
        )

    def _parameter(self, line: Line, pairs: dict[tuple[str, str], MappedPair], packed: list[Packed]) -> None:
        self._named(line, self.shapes, "parameter")
        one, other = line
        if isinstance(one, str) and isinstance(other, str):
            shapes = self.shapes[0][one], self.shapes[1][other]
            if not name_map.fits(*shapes):
                raise self._misfit(line, f"{_shape(shapes[0])} and {_shape(shapes[1])}")
            self._add(pairs, one, other, {one.rpartition(".")[2]: other.rpartition(".")[2]})
            return
        side = 0 if isinstance(one, str) else 1
        whole, parts = str(line[side]), list(line[1 - side])
        shape = self.shapes[side][whole]
        several = [self.shapes[1 - side][part] for part in parts]
        if any(each[1:] != shape[1:] for each in several) or sum(each[0] for each in several) != shape[0]:
            raise self._misfit(line, f"{_shape(shape)} and {', '.join(map(_shape, several))}")
        packed.append(
            Packed(
                side="reference" if side == 0 else "candidate",
                whole=whole,
                parts=parts,
                rows=[each[0] for each in several],
            )
        )
        for part in parts:
            self._add(pairs, *((whole, part) if side == 0 else (part, whole)), {})

    def _add(self, pairs: dict[tuple[str, str], MappedPair], one: str, other: str, roles: dict[str, str]) -> None:
        layers = one.rpartition(".")[0], other.rpartition(".")[0]
        before = pairs.get(layers)
        # Attention puts out what the last of its matrices does; what goes into it is seen nowhere.
        outputs = bool(roles) and not any(
            role.startswith(("query", "key", "value")) for both in roles.items() for role in both
        )
        pairs[layers] = MappedPair(
            reference=layers[0],
            candidate=layers[1],
            kind=self.layers[0][layers[0]].kind,
            certainty="given",
            reason="given",
            roles=(before.roles if before else {}) | roles,
            outputs=outputs and (before is None or before.outputs),
        )

    def _misfit(self, line: Line, shapes: str) -> BadInput:
        return BadInput(
            f"map {self.path}: {brief(line[0])} and {brief(line[1])} have shapes {shapes}, which fit no rule; "
            "they have to be equal but for axes of 1, or lie one behind the other along the first axis."
        )


def _is_name(value: object, several: bool) -> bool:
    if several and isinstance(value, list):
        return len(value) > 1 and all(isinstance(each, str) for each in value)
    return isinstance(value, str)


def _described(layer: LayerRecord) -> str:
    shapes = ", ".join(f"{role} {_shape(shape)}" for role, shape in layer.parameters.items())
    return f"{layer.kind} with {shapes or 'no weights'}"
