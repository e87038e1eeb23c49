"""What the values of the first divergence show by themselves, where nothing can be changed and tried.

A softmax too many, a missing cap, another form of GELU: one side's array is a known function of the other's, or both
are different known functions of what went in. Losses and optimizer states tell label smoothing, epsilon and decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from transfer_parity.shared.contract.inventory import Inventory
from transfer_parity.shared.contract.rungs import Array, Label, Rung
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.subjects import optimizer_values
from transfer_parity.shared.subjects.document import ArrayResult, Cause, SubjectRung
from transfer_parity.shared.subjects.name_map import NameMap

#: Relative to the largest value: far more than rounding, far less than what the functions below differ by.
CLOSE = {"float64": 1e-9, "float32": 1e-4}
#: Arrays in front of the first divergence that may be what went into it.
BEFORE = 4
Function = Callable[[Array], Array]


def _softmax(x: Array) -> Array:
    wide = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(wide / wide.sum(axis=-1, keepdims=True))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def _gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))))


#: By name. GELU and its approximation by tanh: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016; hard swish:
#: Howard et al., Searching for MobileNetV3, 2019.
FUNCTIONS: dict[str, Function] = {
    "nothing": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "gelu": _gelu,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softmax": _softmax,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "leaky_relu of 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky_relu of 0.2": lambda x: np.where(x > 0, x, 0.2 * x),
    "leaky_relu of 0.3": lambda x: np.where(x > 0, x, 0.3 * x),
}
#: What may have been done to one side's array and not to the other's.
_AFTER: dict[str, tuple[str, Function]] = {
    "softmax": ("a softmax", _softmax),
    "cap": ("a cap at 6 (relu6)", lambda x: np.minimum(x, 6)),
    "relu": ("a relu", lambda x: np.maximum(x, 0)),
    "sigmoid": ("a sigmoid", _sigmoid),
    "tanh": ("a tanh", np.tanh),
}


def recognise(
    subject: Subject,
    names: NameMap,
    inventories: tuple[Inventory, Inventory],
    rungs: Sequence[SubjectRung],
    dumps: tuple[Dump, Dump],
    weights: tuple[Mapping[str, Array], Mapping[str, Array]] | None = None,
) -> list[Cause]:
    """Causes that values show; each explains a part.

    Args:
        subject: the pair.
        names: the map of names.
        inventories: of both sides.
        rungs: as judged.
        dumps: what both sides wrote.
        weights: that both sides were given, where they are at hand.
    """
    failed = next((rung for rung in rungs if rung.first_divergence is not None), None)
    if failed is None:
        return []
    first = failed.first_divergence
    assert first is not None
    found = list(_frozen(subject, names, inventories)) if failed.name in ("loss", "gradients") else []
    if failed.name == "activations":
        shown = list(_activations(subject, failed, first, dumps))
        found += shown or _missing(subject, names, inventories, first)
    elif failed.name == "gradients" and weights is not None:
        found += _variance(subject, inventories, first, dumps, weights)
    elif failed.name == "loss":
        found += _loss(subject, dumps)
    elif failed.name == "optimizer":
        found += optimizer_values.recognise(subject, names, dumps)
    sources = [{layer.name: layer.source for layer in side.layers} for side in inventories]
    return [
        cause.model_copy(
            update={
                "reference_source": _source(sources[0], first.reference),
                "candidate_source": _source(sources[1], first.candidate),
            }
        )
        for cause in found
    ]


def _source(sources: dict[str, str | None], name: str | None) -> str | None:
    if name is None:
        return None
    return sources.get(name) or sources.get(name.rpartition(".")[0]) or sources.get(name.partition(" > ")[0])


def _cause(name: str, words: str) -> Cause:
    return Cause(
        name=name,
        sentence=f"consistent with {words}",
        explains="part",
        reference_source=None,
        candidate_source=None,
        mend_reference=None,
        mend_candidate=None,
    )


def _activations(subject: Subject, rung: SubjectRung, first: ArrayResult, dumps: tuple[Dump, Dump]) -> Iterator[Cause]:
    arrays = _read(rung.name, first, dumps)
    if arrays is None or arrays[0].shape != arrays[1].shape:
        return
    mine, theirs = arrays
    close, sides = CLOSE[subject.precision], (subject.reference, subject.candidate)
    for name, (words, function) in _AFTER.items():
        for one, other, side in ((mine, theirs, sides[1]), (theirs, mine, sides[0])):
            if _equal(function(one), other, close):
                yield _cause(name, f"{name}: {side} has {words} there, which the other side has not")
                return
    place = rung.arrays.index(first)
    for before in rung.arrays[max(0, place - BEFORE) : place][::-1]:
        given = _read(rung.name, before, dumps)
        if given is None or given[0].shape != mine.shape:
            continue
        does = [
            next((name for name, function in FUNCTIONS.items() if _equal(function(given[0]), each, close)), None)
            for each in (mine, theirs)
        ]
        if None not in does and does[0] != does[1]:
            words = f"{does[0]} in {sides[0]}, {does[1]} in {sides[1]}, of what {before.reference} puts out"
            yield _cause("activation function", f"activation function: {words}")
            return
    yield from _moved(mine, theirs, close, sides)


def _moved(mine: Array, theirs: Array, close: float, sides: tuple[str, str]) -> Iterator[Cause]:
    """The same values elsewhere, or all of a channel scaled or moved alike."""
    if mine.ndim > 2 and mine.shape[1] == mine.shape[2] and _equal(mine.swapaxes(1, 2), theirs, close):
        yield _cause("transposed", f"transposed: rows of {sides[0]} are columns of {sides[1]}")
        return
    one, other = mine.reshape(-1, mine.shape[-1]), theirs.reshape(-1, mine.shape[-1])
    if len(one) < 3:
        return
    if _equal(_in_order(one), _in_order(other), close):
        yield _cause("channel order", "channel order: both sides have the same channels in another order")
        return
    size = float(np.abs(one).max()) or 1.0
    if float(np.ptp(other - one, axis=0).max()) <= close * size:
        yield _cause("bias", "bias: both sides differ by a number for each channel, as if one had no bias there")
        return
    power = (one * one).sum()
    factor = float((one * other).sum() / power) if power else 0.0
    if factor and _equal(one * factor, other, close):
        yield _cause("scale", f"scale: {sides[1]} has {factor:.6g} times what {sides[0]} has")


def _in_order(channels: Array) -> Array:
    return np.asarray(channels[:, np.argsort(channels[0], kind="stable")])


def _read(rung: Rung, each: ArrayResult, dumps: tuple[Dump, Dump]) -> tuple[Array, Array] | None:
    if each.label is None or each.max_abs_difference is None:
        return None
    label = each.label
    other = replace(label, name=each.candidate or "")
    try:
        found = dumps[0].read(rung, label), dumps[1].read(rung, other)
    except KeyError:
        return None
    if any(array.ndim < 2 or array.dtype.kind != "f" or array.size > 2**20 for array in found):
        return None
    return found[0].astype(np.float64), found[1].astype(np.float64)


def _equal(one: Array, other: Array, close: float) -> bool:
    size = float(np.abs(other).max(initial=0)) or 1.0
    return one.shape == other.shape and bool(np.abs(one - other).max(initial=0) <= close * size)


def _missing(
    subject: Subject, names: NameMap, inventories: tuple[Inventory, Inventory], first: ArrayResult
) -> list[Cause]:
    """An activation that only one side shows between the layer in front of the first divergence and that layer."""
    mapped = {each.reference for each in names.entries}, {each.candidate for each in names.entries}
    lone: list[list[str]] = []
    for side, (inventory, name) in enumerate(zip(inventories, (first.reference, first.candidate), strict=True)):
        order = [layer.name for layer in inventory.layers]
        if name not in order:
            return []
        found = []
        for layer in reversed(inventory.layers[: order.index(name)]):
            if layer.parameters:
                break
            if layer.kind == "activation" and layer.name not in mapped[side]:
                found.append(str(layer.config.get("function", layer.class_name)))
        lone.append(found)
    if bool(lone[0]) == bool(lone[1]):
        return []
    side, other = (0, 1) if lone[0] else (1, 0)
    sides = (subject.reference, subject.candidate)
    words = f"{lone[side][0]} in front of {(first.reference, first.candidate)[side]} in {sides[side]}"
    return [_cause("activation function", f"activation function: {words}, none is seen in {sides[other]}")]


def _variance(
    subject: Subject,
    inventories: tuple[Inventory, Inventory],
    first: ArrayResult,
    dumps: tuple[Dump, Dump],
    weights: tuple[Mapping[str, Array], Mapping[str, Array]],
) -> Iterator[Cause]:
    """A variance divided by n on one side and by n - 1 on the other, as running statistics learn it."""
    names = first.reference or "", first.candidate or ""
    if first.label is None or not all(name.endswith(".running_var") for name in names):
        return
    found, counts = [], []
    for side, name in enumerate(names):
        layer = inventories[side].layer(name.rpartition(".")[0])
        rate, shape = layer.config.get("momentum"), layer.output_shape
        if not isinstance(rate, float) or not rate or shape is None or name not in weights[side]:
            return
        old = weights[side][name].astype(np.float64)
        new = dumps[side].read("gradients", replace(first.label, name=name)).astype(np.float64)
        found.append((new - (1 - rate) * old) / rate)
        counts.append(math.prod(shape) // shape[-1])
    number = counts[0]
    if number < 2 or not found[0].all() or not found[1].all():
        return
    ratios, wanted = found[0] / found[1], number / (number - 1)
    close = 1e-3 * (wanted - 1)
    for ratio, unbiased in ((wanted, 0), (1 / wanted, 1)):
        if float(np.abs(ratios - ratio).max()) <= close:
            sides = (subject.reference, subject.candidate)
            words = f"divided by n in {sides[1 - unbiased]}, by n - 1 in {sides[unbiased]}"
            yield _cause("variance", f"variance of running statistics: {words}")


def _frozen(subject: Subject, names: NameMap, inventories: tuple[Inventory, Inventory]) -> Iterator[Cause]:
    frozen = [{f"{layer.name}.{role}" for layer in side.layers for role in layer.frozen} for side in inventories]
    for mine, theirs in names.parameters.items():
        still = mine in frozen[0], theirs in frozen[1]
        if still[0] != still[1]:
            name, side = (mine, subject.reference) if still[0] else (theirs, subject.candidate)
            yield _cause("frozen", f"frozen: {name} does not train in {side}, and its counterpart does")


def _loss(subject: Subject, dumps: tuple[Dump, Dump]) -> Iterator[Cause]:
    """Cross entropy with other smoothing, of probabilities, or summed: from logits that both sides agree on."""
    if subject.training.loss != "cross_entropy":
        return
    label = Label("loss", phase="frozen")
    try:
        logits = dumps[0].read("activations", Label("logits")).astype(np.float64)
        losses = [float(dump.read("loss", label)[0]) for dump in dumps]
        targets = dumps[0].read("bytes", Label("batch_labels"))[: len(logits)]
    except (KeyError, OSError):
        return
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or not np.isfinite([*losses, logits.max()]).all():
        return
    sides = (subject.reference, subject.candidate)
    says = [_loss_says(each, logits, targets.astype(np.int64), 10 * CLOSE[subject.precision]) for each in losses]
    if None not in says and says[0] != says[1]:
        name = "label smoothing" if all("smoothing" in str(each) for each in says) else "loss"
        yield _cause(name, f"{name}: {says[0]} in {sides[0]}, {says[1]} in {sides[1]}")


def _loss_says(loss: float, logits: Array, targets: Array, close: float) -> str | None:
    """What a loss is: by Szegedy et al. (Rethinking the Inception Architecture, 2016, section 7) with smoothing s it is
    (1 - s) times the cross entropy plus s times the mean over classes."""
    logs = np.log(metrics.probabilities(logits))
    entropy, mean = -float(logs[np.arange(len(targets)), targets].mean()), -float(logs.mean())
    if math.isclose(loss, entropy * len(targets), rel_tol=close):
        return "summed over the batch"
    again = np.log(metrics.probabilities(np.exp(logs)))
    if math.isclose(loss, -float(again[np.arange(len(targets)), targets].mean()), rel_tol=close):
        return "softmax applied twice"
    if math.isclose(mean, entropy, rel_tol=1e-3):
        return None
    smoothing = (loss - entropy) / (mean - entropy)
    # Anything lies on the line; people choose numbers of few digits.
    rounded = round(smoothing, 3)
    return f"smoothing {rounded:g}" if abs(smoothing - rounded) < max(close, 1e-7) and 0 <= rounded < 1 else None
