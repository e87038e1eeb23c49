"""Compares what two sides of a user's own pair wrote, rung by rung, one pair of arrays at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from transfer_parity.shared.contract.rungs import UNIT, WHOLE, Array, Label, Metric, Rung, describe
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.core.arrays import finite
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.parity import tolerance
from transfer_parity.shared.parity.tolerance import Difference
from transfer_parity.shared.runtime.sampling import sample
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.subjects import places
from transfer_parity.shared.subjects.document import ArrayResult, Place, SubjectRung
from transfer_parity.shared.subjects.name_map import NameMap, fits

#: Says why a difference is accepted (rung, what, name, relative difference), or None.
Accepted = Callable[[Rung, str, str | None, float], str | None]
#: Arrays on either side of the first divergence whose places are told, too.
NEIGHBOURS = 1
#: Rungs behind several steps of training.
AMPLIFIED: tuple[Rung, ...] = ("trajectory", "predictions")
_OUTPUTS = ("logits",)


def judge(
    subject: Subject, reference: Dump, candidate: Dump, names: NameMap, accepted: Accepted | None = None
) -> list[SubjectRung]:
    """All rungs of a climb, from the lowest to the highest.

    Tolerances come from what moved weights changed on each side: the larger of both.

    Args:
        subject: the pair.
        reference: what its first side wrote.
        candidate: what the other one wrote.
        names: the map of names.
        accepted: says why a difference is accepted.
    """
    return list(_Judging(subject, (reference, candidate), names, accepted).rungs())


@dataclass
class _Compared:
    """An array of both sides, compared. ``labels``: None where a side has none."""

    labels: tuple[Label | None, Label | None]
    names: tuple[str | None, str | None]
    difference: Difference
    reason: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def passed(self) -> bool:
        return self.difference.excess <= 1


class _Judging:
    def __init__(self, subject: Subject, dumps: tuple[Dump, Dump], names: NameMap, accepted: Accepted | None) -> None:
        self.subject, self.dumps, self.names, self.accepted = subject, dumps, names, accepted
        self.rounding = [dump.rounding for dump in dumps]
        self.parameters = names.parameters
        # The candidate's parts by the reference's whole, and the other way round: compared as the whole.
        self.wholes = {each.whole: each.parts for each in names.packed}
        self.hidden = {part for each in names.packed for part in each.parts}
        self.outputs = names.outputs
        self.outputs_of_candidate = set(self.outputs.values())

    def rungs(self) -> Iterator[SubjectRung]:
        for rung in self.subject.rungs:
            lacks = [
                side
                for side, dump in zip(self.subject.sides, self.dumps, strict=True)
                if not dump.has("predictions" if rung == "metrics" else rung)
            ]
            if lacks:
                yield self._not_climbed(rung, lacks)
            elif rung == "metrics":
                yield self._result(rung, list(self._metrics()))
            else:
                yield self._result(rung, list(self._compared(rung)))

    def _not_climbed(self, rung: Rung, lacks: list[str]) -> SubjectRung:
        what = f"{rung}: not climbed by {' and '.join(lacks)}; dump that side again, as far as the other"
        array = ArrayResult(
            what=what,
            reference=None,
            candidate=None,
            max_abs_difference=None,
            max_rel_difference=None,
            tolerance=0.0,
            passed=False,
        )
        return SubjectRung(name=rung, arrays=[array], passed=False, informative=False)

    def _compared(self, rung: Rung) -> Iterator[_Compared]:
        """Every array of the reference and its counterpart, then what only the candidate has."""
        ours, theirs = (dump.labels(rung) for dump in self.dumps)
        there, used = set(theirs), set[Label]()
        scales = self._scales(rung, ours)
        skips_packed = rung == "optimizer"
        for label in ours:
            if label.name in self.hidden or (label.name in self.wholes and skips_packed):
                # What an optimizer is given for a part is not the part of what it is given for the whole.
                continue
            parts = self.wholes.get(label.name)
            if parts is not None:
                several = [replace(label, name=part) for part in parts]
                used.update(several)
                if all(part in there for part in several):
                    yield self._packed(rung, label, several, 0, scales[label.module])
                else:
                    yield self._lone(rung, label, 0)
                continue
            other = self._counterpart(label)
            if other is not None and other in there:
                used.add(other)
                yield self._pair(rung, label, other, scales[label.module])
            elif not self._expected(rung, label, 0):
                yield self._lone(rung, label, 0)
        ours_set = set(ours)
        for label in theirs:
            if label in used or label.name in self.hidden:
                continue
            parts = self.wholes.get(label.name)
            if parts is not None:
                several = [replace(label, name=part) for part in parts]
                if skips_packed:
                    continue
                if all(part in ours_set for part in several):
                    size = max(scales[part.module] for part in several)
                    yield self._packed(rung, label, several, 1, size)
                else:
                    yield self._lone(rung, label, 1)
            elif not self._expected(rung, label, 1):
                yield self._lone(rung, label, 1)

    def _counterpart(self, label: Label) -> Label | None:
        """The candidate's label of an array."""
        if label.kind == "activation":
            name = self.outputs.get(label.name)
        elif label.kind in ("images", "inputs", *_OUTPUTS) or not label.name:
            name = label.name
        else:
            name = self.parameters.get(label.name)
        return None if name is None else replace(label, name=name)

    def _expected(self, rung: Rung, label: Label, side: int) -> bool:
        """Whether nothing can be said about an array that the other side does not have.

        Libraries show different functions between layers; and a layer that cannot be called alone makes no single step.
        """
        if label.kind != "activation":
            return False
        if self.subject.single_step and rung == "activations":
            return True
        comparable = self.outputs if side == 0 else self.outputs_of_candidate
        if label.name in comparable:
            return False
        left = self.names.left_over_reference if side == 0 else self.names.left_over_candidate
        return not any(name.rpartition(".")[0] == label.name for name in left)

    def _scales(self, rung: Rung, labels: list[Label]) -> dict[Label, float]:
        """Largest value by module; 1 where all are zero. One array at a time."""
        found: dict[Label, float] = {}
        for label in labels:
            array = self.dumps[0].read(rung, label)
            most = float(np.abs(array.astype(np.float64)).max(initial=0)) if np.isfinite(array).all() else 0.0
            found[label.module] = max(found.get(label.module, 0.0), most)
        return {module: most or 1.0 for module, most in found.items()}

    def _pair(self, rung: Rung, label: Label, other: Label, scale: float) -> _Compared:
        arrays = self.dumps[0].read(rung, label), self.dumps[1].read(rung, other)
        return self._arrays(rung, (label, other), arrays, scale)

    def _packed(self, rung: Rung, whole: Label, parts: list[Label], side: int, scale: float) -> _Compared:
        """A packed parameter against its parts, one behind the other."""
        one = self.dumps[side].read(rung, whole)
        other = np.concatenate([self.dumps[1 - side].read(rung, part) for part in parts])
        if one.ndim == 1 < other.ndim:
            other = sample(other, one.size)
        named = replace(whole, name=" + ".join(part.name for part in parts))
        if side == 0:
            return self._arrays(rung, (whole, named), (one, other), scale)
        return self._arrays(rung, (named, whole), (other, one), scale)

    def _arrays(self, rung: Rung, labels: tuple[Label, Label], arrays: tuple[Array, Array], scale: float) -> _Compared:
        mine, theirs = arrays
        names = labels[0].name or None, labels[1].name or None
        allowed = self._allowed(rung, *labels) * scale
        if mine.shape != theirs.shape and labels[0].name and fits(mine.shape, theirs.shape):
            theirs = theirs.reshape(mine.shape)
        if mine.shape != theirs.shape and labels[0].kind == "inputs":
            theirs = places.turned(mine, theirs)
        if mine.shape != theirs.shape:
            lost = Difference(labels[0], math.inf, math.inf, allowed, scale)
            return _Compared(labels, names, lost, "shapes differ", (mine.shape, theirs.shape))
        absolute = float(places.absolute(mine, theirs).max(initial=0.0))
        reason = ""
        if not math.isfinite(absolute):
            bad = [
                side
                for side, array in zip(self.subject.sides, arrays, strict=True)
                if array.dtype.kind == "f" and not np.isfinite(array).all()
            ]
            reason = f"not finite in {' and '.join(bad)}"
        return _Compared(labels, names, Difference(labels[0], absolute, absolute / scale, allowed, scale), reason)

    def _lone(self, rung: Rung, label: Label, side: int) -> _Compared:
        lost = Difference(label, math.inf, math.inf, 0.0)
        name = label.name or None
        reason = f"only {list(self.subject.sides)[side]} has it"
        if side == 0:
            other = self._counterpart(label)
            return _Compared((label, None), (name, other.name or None if other else None), lost, reason)
        known = {theirs: mine for mine, theirs in (self.parameters | self.outputs).items()}
        return _Compared((None, label), (known.get(label.name), name), lost, reason)

    def _allowed(self, rung: Rung, label: Label, other: Label) -> float:
        """How far an array may differ, relative to its scale."""
        if rung in self.subject.equal and label.kind not in WHOLE:
            return self.subject.equal[rung]
        change = self._change(rung, label, other)
        if rung in AMPLIFIED and change is not None:
            # How far training amplifies rounding is the model's and its rate's doing, not a promise of this project: a
            # rung that is all rounding tells nothing, and is said to.
            few = tolerance.tolerance(rung, label, None, self.subject.recipe)
            return max(tolerance.SAFETY * change, few)
        return tolerance.tolerance(rung, label, change, self.subject.recipe)

    def _change(self, rung: Rung, label: Label, other: Label, alone: bool = False) -> float | None:
        """What moved weights changed, on the side where that is more; ``alone``: this very array."""
        found = [
            changes.get(rung, {}).get(each if alone else each.group)
            for changes, each in zip(self.rounding, (label, other), strict=True)
        ]
        known = [change for change in found if change is not None]
        return max(known) if known else None

    def _result(self, rung: Rung, found: list[_Compared]) -> SubjectRung:
        found = self._out_of_line(rung, found)
        arrays = [self._said(rung, each) for each in found]
        first = next((place for place, each in enumerate(arrays) if not each.passed and each.accepted is None), None)
        if first is not None and rung != "metrics":
            for place in range(max(0, first - NEIGHBOURS), min(len(arrays), first + NEIGHBOURS + 1)):
                where = self._place(rung, found[place])
                arrays[place] = arrays[place].model_copy(update={"place": where})
        informative = all(each.difference.tells for each in found)
        return SubjectRung(name=rung, arrays=arrays, passed=first is None and informative, informative=informative)

    def _out_of_line(self, rung: Rung, found: list[_Compared]) -> list[_Compared]:
        """In float32 the first divergence is what grows more than rounding did before it (see ``tolerance``)."""
        first = next((place for place, each in enumerate(found) if not each.passed), None)
        if first is None or self.subject.precision != "float32" or rung in self.subject.equal:
            return found
        before = found[:first]
        changes = {}
        for each in before:
            if each.labels[0] is not None and each.labels[1] is not None:
                change = self._change(rung, each.labels[0], each.labels[1], alone=True)
                if change is not None:
                    changes[each.labels[0]] = change
        early = tolerance.out_of_line((each.difference for each in before), changes, UNIT["float32"])
        if early is None:
            return found
        return [replace(each, difference=early) if each.labels[0] == early.label else each for each in found]

    def _said(self, rung: Rung, each: _Compared) -> ArrayResult:
        label = each.labels[0] or each.labels[1]
        assert label is not None
        what = describe(label) + (f"; {each.reason}" if each.reason else "")
        difference = each.difference
        accepted = None
        if not each.passed and self.accepted is not None:
            accepted = self.accepted(rung, what, each.names[0] or each.names[1], difference.relative)
        return ArrayResult(
            label=label,
            what=what,
            reference=each.names[0],
            candidate=each.names[1],
            max_abs_difference=finite(difference.absolute),
            max_rel_difference=finite(difference.relative),
            tolerance=difference.tolerance,
            passed=each.passed,
            accepted=accepted,
            shapes=[list(shape) for shape in each.shapes],
        )

    def _place(self, rung: Rung, each: _Compared) -> Place | None:
        one, other = each.labels
        if one is None or other is None or each.shapes or one.name in self.wholes or other.name in self.wholes:
            return None
        mine, theirs = self.dumps[0].read(rung, one), self.dumps[1].read(rung, other)
        if not mine.size or mine.dtype.kind not in "fiub":
            return None
        return places.of(np.atleast_1d(mine), np.atleast_1d(theirs.reshape(mine.shape)))

    def _metrics(self) -> Iterator[_Compared]:
        """What the predictions are worth, made in the one place where accuracy is made."""
        label = Label("logits")
        lacks = [side for side, dump in enumerate(self.dumps) if label not in dump.labels("predictions")]
        if lacks:
            if len(lacks) == 1:
                yield self._lone("metrics", label, 1 - lacks[0])
            return
        mine, theirs = (dump.read("predictions", label) for dump in self.dumps)
        targets = self.dumps[0].read("bytes", Label("batch_labels"))[-len(mine) :]
        size = float(np.abs(mine).max(initial=0)) if np.isfinite(mine).all() else 1.0
        allowed = self._allowed("predictions", label, label) * (size or 1.0)
        if mine.shape != theirs.shape or not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
            yield self._arrays("metrics", (label, label), (mine, theirs), size or 1.0)
        elif self.subject.training.loss == "cross_entropy" and targets.shape == mine.shape[:-1]:
            yield from self._classified(mine, theirs, targets, allowed)
        elif targets.shape == mine.shape:
            errors = [float(((each - targets) ** 2).mean()) for each in (mine, theirs)]
            most = float(np.abs(mine - targets).max(initial=0))
            yield self._metric(Label("loss"), errors, 2 * most * allowed + allowed**2, errors[0] or 1.0)

    def _classified(self, mine: Array, theirs: Array, targets: Array, allowed: float) -> Iterator[_Compared]:
        classes = mine.shape[-1]
        logits = [each.reshape(-1, classes) for each in (mine, theirs)]
        labels = targets.reshape(-1).astype(np.int64)
        # Each prediction that flips at a tie moves an average over examples or classes by at most its share.
        best = np.sort(logits[0], axis=1)[:, -2:]
        ties = int((best[:, -1] - best[:, 0] <= 2 * allowed).sum()) if classes > 1 else 0
        smallest = np.unique(labels, return_counts=True)[1].min()
        evaluated = [metrics.evaluate(each, labels) for each in logits]
        kinds: tuple[Metric, ...] = get_args(Metric)
        for kind in kinds:
            values = [getattr(each, kind) for each in evaluated]
            # Log loss moves by at most twice what logits move by; that of a model that knows nothing is log(classes).
            is_loss = kind == "log_loss"
            bound = 2 * allowed if is_loss else min(1.0, ties / smallest)
            yield self._metric(Label(kind), values, bound, (math.log(classes) or 1.0) if is_loss else 1.0)

    def _metric(self, label: Label, values: Sequence[float | None], bound: float, scale: float) -> _Compared:
        if "metrics" in self.subject.equal:
            bound = self.subject.equal["metrics"] * scale
        absolute = math.inf
        if values[0] is not None and values[1] is not None:
            absolute = abs(values[0] - values[1])
        return _Compared((label, label), (None, None), Difference(label, absolute, absolute / scale, bound, scale))
