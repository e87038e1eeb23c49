"""Exercises of grade 2: what a word means in either framework has to be known."""

from __future__ import annotations

from transfer_parity.shared.contract.wings import KERAS, TENSORFLOW, TORCH
from transfer_parity.shared.exercises.edit import Edit
from transfer_parity.shared.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="shuffled",
        grade=2,
        framework=TENSORFLOW,
        symptom="The checkpoint loads without a complaint: every name is found, every shape fits. The network's "
        "answers are those of chance.",
        rung="activations",
        lesson=1,
        hints=(
            "Already the first layer differs, and by as much as its output is large. Its input is the same; so look "
            "at how its weights come in.",
            "A kernel has four axes, and the two frameworks put them in different orders. That a shape fits says that "
            "there are as many numbers, not that each is in its place.",
            "To reshape keeps the numbers in their order in memory, to transpose moves them. A 3x3 kernel from 3 to 16 "
            "channels is (16, 3, 3, 3) in torch and (3, 3, 3, 16) in Keras. Read shared/checkpoints/layout.py.",
        ),
        fault=Edit(
            "weights.py",
            "        return to_keras_layout(self.kind, array, self.variable.shape).astype(self.variable.dtype)\n",
            "        return array.reshape(self.variable.shape).astype(self.variable.dtype)\n",
        ),
        why="torch's kernels are (out, in, height, width), Keras's (height, width, in, out), depthwise ones (height, "
        "width, in, multiplier), and dense ones (in, out) where torch has (out, in). reshape makes every shape fit and "
        "puts nearly every number in the wrong place. Only one-dimensional arrays survive it, so biases and "
        "normalisations look right.",
    ),
    Exercise(
        name="shifted",
        grade=2,
        framework=TORCH,
        symptom="A checkpoint of Keras's, loaded into torchvision's model: all shapes fit, features are nearly right, "
        "accuracy is lower. Class-activation maps lie a little beside the thing.",
        rung="activations",
        lesson=7,
        hints=(
            "The first convolution differs, and it is one of stride 2. Its weights and its input are the same, and so "
            "is its output's shape. Which rows and columns of the image does its first window see in either wing?",
            'With stride 1 and a 3x3 kernel, "same" pads one pixel on every side in either framework. With stride 2 on '
            "44 pixels it takes one pixel in all: on which side?",
            'TensorFlow\'s "same" makes ceil(size / stride) outputs. If the padding that this takes is odd, the pixel '
            "that is left over comes at the end: bottom and right. F.pad takes (left, right, top, bottom).",
        ),
        fault=Edit(
            "backbone.py",
            "        padding += [total // 2, total - total // 2]\n",
            "        padding += [total - total // 2, total // 2]\n",
        ),
        why="TensorFlow's \"same\" at stride 2 on an even size pads below and to the right only; torch's padding=1 "
        "pads all sides alike. Shapes are the same, but every window lies one pixel off, and after five such layers "
        "the map is shifted by most of one of its own cells. To load a checkpoint of Keras's into torch, the padding "
        "has to be made by hand, with the odd pixel at the end.",
        quiet=(
            Edit(
                "backbone.py",
                'does: so that ceil(size/stride) outputs fit, an odd pixel at the end."""',
                'does: so that ceil(size/stride) outputs fit."""',
            ),
        ),
        backbone="MobileNetV2",
        semantics=KERAS.library,
    ),
    Exercise(
        name="restless",
        grade=2,
        framework=TORCH,
        symptom="A backbone is fine-tuned with its normalisations frozen, on batches of few images. Training is "
        "unsteady, and the same weights give another loss than in the other framework before the first step.",
        rung="loss",
        lesson=3,
        hints=(
            "In inference mode everything agrees; in the pass of a training step, running statistics change although "
            "they are frozen. What decides in this framework whether they do?",
            "requires_grad=False stops an optimizer. Does it stop a running mean? Look up what train() and eval() do "
            "to a normalisation, and who calls them here.",
            "Read the lines of the trainer that set modules to training mode, and ask for each condition: would it "
            "hold if the recipe says that normalisations stay frozen (batch_norm_trains is False)?",
        ),
        fault=Edit(
            "training.py",
            "            if isinstance(module, nn.BatchNorm2d) and batch_norm_trains:\n",
            "            if isinstance(module, nn.BatchNorm2d):\n",
        ),
        why="In torch two things are separate: requires_grad says whether scale and shift are trained, and the mode "
        "(train() or eval()) says whether a normalisation uses and updates the statistics of the batch. Frozen means "
        "both. In Keras trainable=False on the layer says both at once, since TensorFlow 2.0. A batch of four images "
        "has statistics that are mostly noise.",
        quiet=(
            Edit(
                "training.py",
                "        # In torch requires_grad says nothing about the statistics: a normalisation that is not in "
                "training mode is\n"
                "        # frozen, one that is learns them, whatever its parameters do.\n",
                "",
            ),
        ),
    ),
    Exercise(
        name="shrinking",
        grade=2,
        framework=TENSORFLOW,
        symptom="The same optimizer, rate and weight decay in both frameworks, and yet the weights end elsewhere. "
        "With weight decay 0, or with AdamW, everything agrees.",
        rung="optimizer",
        lesson=5,
        hints=(
            "Gradients are given, and the same: only what the optimizer makes of them differs. Its state differs after "
            "one step already. Which step does the state see, and which does it not?",
            "Weight decay is in two places in the literature: in the gradient, as the derivative of a penalty, or "
            "beside it, as a shrinking of the weights. Does the choice matter for plain SGD? And with momentum, or "
            "Adam?",
            "torch's SGD and Adam add decay * weight to the gradient, AdamW shrinks the weight; Keras shrinks in all "
            "of its optimizers. Matched, torch's meaning counts: which of the three branches is missing here?",
        ),
        fault=Edit(
            "training.py",
            '        if decay and (self.recipe.optimizer == "adamw" or "weight_decay" in self.switches):\n'
            "            for variable, factor in zip(self.variables, self.factors, strict=True):\n"
            "                variable.assign_sub(variable * (learning_rate * factor * decay))\n"
            "        elif decay:\n"
            "            pairs = zip(gradients, self.variables, strict=True)\n"
            "            gradients = [gradient + decay * variable for gradient, variable in pairs]"
            "  # differs: weight_decay\n",
            "        if decay:\n"
            "            for variable, factor in zip(self.variables, self.factors, strict=True):\n"
            "                variable.assign_sub(variable * (learning_rate * factor * decay))\n",
        ),
        why="Coupled decay (Adam and SGD of torch) goes through momentum and through Adam's division by the root of "
        "the second moment; decoupled decay (AdamW, and every optimizer of Keras) does not (Loshchilov and Hutter, "
        "2019). One word, two optimizers: a weight_decay that is right in one library is wrong in the other.",
    ),
)
