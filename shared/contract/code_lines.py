"""How each framework spells what a layer or an optimizer is told: lines of code that mend a difference."""

from __future__ import annotations

from typing import Any

from transfer_parity.shared.contract.wings import TENSORFLOW, TORCH, Framework

#: By key of ``LayerRecord.config`` or of ``Training``: an argument. ``{value}`` is in neutral words, ``{rest}`` is one
#: less that value.
_ARGUMENTS: dict[Framework, dict[str, str]] = {
    TENSORFLOW: {
        "epsilon": "epsilon={value}",
        "momentum": "momentum={rest}",
        "slope": "negative_slope={value}",
        "stride": "strides={value}",
        "dilation": "dilation_rate={value}",
        "axes": "axis={value}",
        "padding": 'padding="valid"), behind ZeroPadding of {value} (before, after',
        "label_smoothing": "label_smoothing={value}",
        "weight_decay": "weight_decay={value}",
        "heads": "num_heads={value}",
        "reset_after": "reset_after={value}",
    },
    TORCH: {
        "epsilon": "eps={value}",
        "momentum": "momentum={value}",
        "slope": "negative_slope={value}",
        "stride": "stride={value}",
        "dilation": "dilation={value}",
        "axes": "normalized_shape over axes {value}",
        "padding": "padding=0), behind F.pad of {value} (before, after",
        "label_smoothing": "label_smoothing={value}",
        "weight_decay": "weight_decay={value}",
        "heads": "num_heads={value}",
        "counts_padding": "count_include_pad={value}",
    },
}
_FUNCTIONS: dict[Framework, dict[str, str]] = {
    TENSORFLOW: {
        "gelu": "activations.gelu(x, approximate=False)",
        "gelu_tanh": "activations.gelu(x, approximate=True)",
    },
    TORCH: {
        "gelu": 'F.gelu(x, approximate="none")',
        "gelu_tanh": 'F.gelu(x, approximate="tanh")',
        "hard_swish": "F.hardswish(x)",
        "hard_sigmoid": "F.hardsigmoid(x)",
    },
}
#: Where functions stand, by the names under which code usually imports it.
_MODULES: dict[Framework, str] = {TENSORFLOW: "activations", TORCH: "F"}


def number(value: Any) -> str:
    """A value as code has it: ``1e-3`` for small numbers."""
    if isinstance(value, float):
        text = repr(value)
        if value and abs(value) < 0.01:
            digits, _, power = f"{value:.6e}".partition("e")
            text = f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
        return text.removesuffix(".0") if "e" in text else text
    return str(value)


def line(framework: Framework, class_name: str, key: str, value: Any) -> str | None:
    """The line of code that gives a layer this value; None where it is not known how a framework spells it.

    Args:
        framework: of the wing.
        class_name: of the layer.
        key: of its configuration.
        value: in neutral words.
    """
    if key == "function":
        named = _FUNCTIONS.get(framework, {}).get(str(value))
        module = _MODULES.get(framework)
        return named or (f"{module}.{value}(x)" if module else None)
    spelled = _ARGUMENTS.get(framework, {}).get(key)
    if spelled is None or value is None:
        return None
    rest = number(round(1 - value, 12)) if isinstance(value, float) else ""
    return f"{class_name}(..., {spelled.format(value=number(value), rest=rest)})"
