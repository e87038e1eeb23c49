"""Mistakes that ports of one's own make, each of which is planted alone in a copy of an example."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tests.conftest import ROOT
from transfer_parity.shared.contract.rungs import Rung

EXAMPLES = ROOT / "examples"
#: A side is refused before anything is climbed.
REFUSED: Final = "refused"


@dataclass(frozen=True)
class Edit:
    """What is put in place of a text that stands once in a file of the example."""

    file: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Mistake:
    """One mistake, and what the ladder has to say of it.

    Attributes:
        name: in words.
        example: folder below ``examples/``.
        edits: that plant it, nearly always one.
        rung: at which it has to be caught.
        layer: part of a name, of either side, of the first array that differs; None where that has no layer.
        cause: name of the known difference that explains it; None where there is none to find. Of a side that is
            refused, a word of the sentence.
    """

    name: str
    example: str
    edits: Sequence[Edit]
    rung: Rung | Literal["refused"]
    layer: str | None
    cause: str | None

    def plant(self, folder: Path) -> Path:
        """Copy the example with the mistake. Returns the path of its ``pair.toml``.

        Raises:
            ValueError: a text does not stand exactly once where it is to be replaced.
        """
        shutil.copytree(EXAMPLES / self.example, folder, ignore=shutil.ignore_patterns("__pycache__"))
        for edit in self.edits:
            path = folder / edit.file
            text = path.read_text(encoding="utf-8")
            if text.count(edit.right) != 1:
                raise ValueError(f"{self.example}/{edit.file} has {text.count(edit.right)} times {edit.right!r}")
            path.write_text(text.replace(edit.right, edit.wrong), encoding="utf-8")
        return folder / "pair.toml"


KERAS, TORCH, AFTER = "keras_model.py", "torch_model.py", "after.py"

SWAPPED_GATES = '''class Swapped(layers.LSTM):
    """Takes the forget gate for the input gate."""

    def build(self, shape):
        super().build(shape)
        right = self.cell._compute_carry_and_output_fused
        self.cell._compute_carry_and_output_fused = lambda z, c: right((z[1], z[0], z[2], z[3]), c)


def build('''

TRANSPOSED = '''class Transposed(nn.Linear):
    """Multiplies by the weight as it is, where torch transposes it."""

    def forward(self, x):
        return x @ self.weight + self.bias


class Residual('''

SMOOTHED = """def loss(targets, outputs):
    return F.cross_entropy(outputs, targets, label_smoothing=0.1)


def preprocess("""

MISTAKES = (
    Mistake(
        "epsilon left at Keras's 1e-3",
        "residual",
        [Edit(KERAS, "SampleVariance(epsilon=1e-5, ", "SampleVariance(")],
        *("activations", "entry_norm", "epsilon"),
    ),
    Mistake(
        "momentum left at Keras's 0.99",
        "residual",
        [Edit(KERAS, "momentum=0.9, name", "momentum=0.99, name")],
        *("gradients", "norm", "momentum"),
    ),
    Mistake(
        "padding 'same' at stride 2",
        "residual",
        [
            Edit(KERAS, '    y = layers.ZeroPadding2D(1, name=f"{name}_pad")(y)\n', ""),
            Edit(
                KERAS,
                'y = conv(width, 3, f"{name}_conv_b", strides)(y)',
                'y = layers.Conv2D(width, 3, strides, "same", use_bias=False, name=f"{name}_conv_b")(y)',
            ),
        ],
        *("activations", "three_conv_b", "padding"),
    ),
    Mistake(
        "stride in the first convolution of a block",
        "residual",
        [
            Edit(KERAS, '(conv(width, 1, f"{name}_conv_a")(x))', '(conv(width, 1, f"{name}_conv_a", strides)(x))'),
            Edit(KERAS, 'y = conv(width, 3, f"{name}_conv_b", strides)(y)', 'y = conv(width, 3, f"{name}_conv_b")(y)'),
        ],
        *("activations", "three_conv_a", "stride"),
    ),
    Mistake(
        "a square kernel transposed",
        "refactoring",
        [
            Edit(AFTER, "class Residual(", TRANSPOSED),
            Edit(AFTER, "nn.Linear(channels, channels)", "Transposed(channels, channels)"),
        ],
        *("activations", "head.1", "transposed"),
    ),
    Mistake(
        "ReLU without its cap of 6",
        "residual",
        [Edit(KERAS, 'layers.ReLU(6, name=f"{name}_relu_out")', 'layers.ReLU(name=f"{name}_relu_out")')],
        *("activations", "one_norm_c > sum > activation", "function"),
    ),
    Mistake(
        "GELU by tanh",
        "vit",
        [Edit(TORCH, "nn.GELU()", 'nn.GELU(approximate="tanh")')],
        *("activations", "encoder.0.mlp.0 > activation", "function"),
    ),
    Mistake(
        "normalisation over the steps",
        "lstm",
        [Edit(KERAS, "axis=-1", "axis=1")],
        *("activations", "scaled", "axes"),
    ),
    Mistake(
        "two gates of an LSTM swapped",
        "lstm",
        [Edit(KERAS, "def build(", SWAPPED_GATES), Edit(KERAS, "kind(hidden, name", "Swapped(hidden, name")],
        *("activations", "recurrent_2", "gate order"),
    ),
    Mistake(
        "heads merged in the wrong order",
        "vit",
        [Edit(TORCH, "mixed.transpose(1, 2).flatten(2)", "mixed.permute(0, 2, 3, 1).flatten(2)")],
        *("activations", "encoder.1.attn.out", "head order"),
    ),
    Mistake(
        "attention without its scale",
        "vit",
        [Edit(TORCH, "F.scaled_dot_product_attention(q, k, v)", "F.scaled_dot_product_attention(q, k, v, scale=1.0)")],
        *("activations", "encoder.1.attn", "scale"),
    ),
    Mistake(
        "flattened in Keras's order",
        "residual",
        [Edit(KERAS, '    x = layers.Permute((3, 1, 2), name="channels_first")(x)\n', "")],
        *("activations", "scores", "flatten order"),
    ),
    Mistake(
        "BGR",
        "vit",
        [Edit(TORCH, "(images / 127.5 - 1)", "(images[..., ::-1] / 127.5 - 1)")],
        *("preprocessing", "image", "channel order"),
    ),
    Mistake(
        "softmax twice",
        "residual",
        [Edit(KERAS, 'layers.Dense(classes, name="scores")', 'layers.Dense(classes, "softmax", name="scores")')],
        *("activations", None, "softmax"),
    ),
    Mistake(
        "label smoothing forgotten",
        "residual",
        [
            Edit("pair.toml", "[sides.torch]\n", '[sides.torch]\nloss = "torch_model.py:loss"\n'),
            Edit(TORCH, "def preprocess(", SMOOTHED),
        ],
        *("loss", None, "label smoothing"),
    ),
    Mistake(
        "decay on biases",
        "refactoring",
        [Edit(AFTER, "groups[0.05 if value.ndim > 1 else 0.0]", "groups[0.05]")],
        *("optimizer", "bias", "weight decay"),
    ),
    Mistake(
        "a scale that does not train",
        "residual",
        [
            Edit(
                KERAS,
                '    x = layers.ReLU(6, name="entry_relu")(norm("entry_norm")(x))\n',
                '    entry = norm("entry_norm")\n'
                '    x = layers.ReLU(6, name="entry_relu")(entry(x))\n'
                "    entry.gamma.trainable = False\n",
            )
        ],
        *("gradients", "entry_norm", "frozen"),
    ),
    Mistake(
        "dropout left on",
        "vit",
        [Edit(TORCH, "x + self.mlp(self.ln_2(x))", "x + F.dropout(self.mlp(self.ln_2(x)), 0.1)")],
        *(REFUSED, "encoder.", "dropout"),
    ),
    Mistake(
        "biased variance remembered",
        "residual",
        [Edit(KERAS, "return SampleVariance(epsilon", "return layers.BatchNormalization(epsilon")],
        *("gradients", "norm", "biased variance"),
    ),
    Mistake(
        "Adam's epsilon",
        "refactoring",
        [Edit(AFTER, "eps=1e-8", "eps=1e-6")],
        *("optimizer", "", "epsilon"),
    ),
)
