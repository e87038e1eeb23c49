"""What one side says of its model: every layer in the order in which it computes, and every parameter.

**Canonical layout.** A wing hands over and takes parameters and outputs in one layout, whatever its framework's is, so
that nothing outside of a wing knows about layouts. Parameters are named ``layer.role``:

    kind            roles and shapes
    dense           weight (out, in), bias (out)
    conv            weight (out, in / groups, *kernel), bias (out); 1-3 d, grouped and depthwise
    conv_transpose  weight (in, out / groups, *kernel), bias (out)
    batch_norm      weight, bias, running_mean, running_var (channels)
    layer_norm      weight, bias (the normalised axes); so group_norm (channels) and rms_norm (weight alone)
    embedding       weight (entries, width)
    lstm            input_weight (4 h, in), recurrent_weight (4 h, h), bias (4 h); gates in the order i, f, g, o
    gru             input_weight (3 h, in), recurrent_weight (3 h, h), bias (3 h), recurrent_bias (3 h); gates r, z, n
    attention       query_weight, key_weight, value_weight (heads * size, in), output_weight (out, heads * size), each
                    with query_bias, key_bias, value_bias, output_bias
    prelu           weight
    custom          a layer of the user's with parameters of its own: the roles are its own names, arrays as they are

Outputs of conv, conv_transpose, batch_norm, group_norm and poolings with more than two axes are channels last. Of lstm
and gru it is the state behind the last step alone, which every layer has, whether or not it puts out the others.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from transfer_parity.shared.core.document import Document

Kind = Literal[
    "dense",
    "conv",
    "conv_transpose",
    "batch_norm",
    "layer_norm",
    "group_norm",
    "rms_norm",
    "embedding",
    "lstm",
    "gru",
    "attention",
    "prelu",
    "custom",
    "activation",
    "pooling",
    "merge",
    "dropout",
    "shape",
    "other",
]
#: Kinds whose feature maps have channels, which come last in canonical layout.
SPATIAL: frozenset[Kind] = frozenset({"conv", "conv_transpose", "batch_norm", "group_norm", "pooling"})
#: Roles that no gradient trains.
STATISTICS = frozenset({"running_mean", "running_var"})


class LayerRecord(Document):
    """A layer, or an activation, pooling or sum between layers."""

    name: str = Field(description="the framework's own, e.g. 'layer1.0.conv'; of a function 'layer1.0.conv > relu'")
    kind: Kind
    class_name: str = Field(description="of its class, or of the function")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="what decides what it computes, in neutral words: epsilon, momentum (weight of the new value), "
        "padding ([[before, after], ...] by axis, resolved for the input it had), stride, dilation, groups, kernel, "
        "function (of an activation: relu, relu6, gelu, gelu_tanh, silu, hard_swish, ...), slope, axes, heads, "
        "scale (of attention's scores), reset_after, mode (of a pooling: max, average), counts_padding",
    )
    parameters: dict[str, tuple[int, ...]] = Field(default_factory=dict, description="canonical shape by role")
    own_names: dict[str, list[str]] = Field(default_factory=dict, description="the framework's names by role")
    frozen: list[str] = Field(default_factory=list, description="roles that do not train though they could")
    source: str | None = Field(None, description="file:line that made it, as far as that could be seen")
    output_shape: tuple[int, ...] | None = Field(
        None, description="canonical, with the batch; None for several outputs"
    )
    hidden: bool = Field(False, description="whether it computes where what it puts out cannot be heard")


class Inventory(Document):
    """All of a side's model."""

    layers: list[LayerRecord] = Field(description="in the order in which they first compute")
    outputs: list[tuple[int, ...]] = Field(description="shape of every output, with the batch")
    inputs: list[str] = Field(default_factory=list, description="names of the inputs in order")

    @property
    def with_parameters(self) -> list[LayerRecord]:
        """Layers that hold any."""
        return [each for each in self.layers if each.parameters]

    def layer(self, name: str) -> LayerRecord:
        """The layer of a name.

        Raises:
            KeyError: there is none.
        """
        for each in self.layers:
            if each.name == name:
                return each
        raise KeyError(name)


class Amendment(BaseModel):
    """One change of one side, to see whether a difference goes away with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["layer", "training", "input", "weights"]
    layer: str = Field("", description="the side's own name of it; of 'weights' too")
    key: str = Field(description="a key of LayerRecord.config, of Training, or of inputs and weights: see causes")
    value: Any = None
