"""Exercises of grade 1: the ladder points at the line, nearly."""

from __future__ import annotations

from transfer_parity.shared.contract.wings import TENSORFLOW, TORCH
from transfer_parity.shared.exercises.edit import Edit
from transfer_parity.shared.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="washed-out",
        grade=1,
        framework=TENSORFLOW,
        symptom="Both frameworks read the same pictures with the same weights, and accuracy is worse in one of them. "
        "Nothing stops, and the inputs look plausible: small numbers.",
        rung="preprocessing",
        lesson=8,
        hints=(
            "The bytes are the same and the inputs of the network are not: what stands between them is one function, "
            "and its twin in the other wing has the same name.",
            "Write down the range of the numbers after every operation: uint8 goes from 0 to 255. In which range is "
            "the mean meant?",
            "ImageNet's mean is 0.485, 0.456, 0.406 and its deviation 0.229, 0.224, 0.225: both are of images between "
            "0 and 1. The contract's order is: divide, subtract, divide.",
        ),
        fault=Edit(
            "network.py",
            "    return (x / preprocessing.divide_by - tf.constant(preprocessing.mean, dtype)) / tf.constant(\n"
            "        preprocessing.std, dtype\n"
            "    )\n",
            "    mean, std = (tf.constant(values, dtype) for values in (preprocessing.mean, preprocessing.std))\n"
            "    return (x - mean) / preprocessing.divide_by / std\n",
        ),
        why="The mean is that of images between 0 and 1, and was subtracted while they were still between 0 and 255: "
        "half a grey level in place of half the range. Inputs then lie between 0 and 4 and not around zero; a network "
        "still makes something of them, so nobody notices. torchvision's transforms divide in ToTensor (or ToDtype "
        "with scale=True) before Normalize; in Keras preprocess_input does both, in modes that differ from model to "
        "model.",
    ),
    Exercise(
        name="third-digit",
        grade=1,
        framework=TORCH,
        symptom="The weights are loaded to the bit, and yet features agree to two or three digits only. Predictions "
        "are the same for most images, so a test of accuracy passes.",
        rung="activations",
        lesson=2,
        hints=(
            "The first layer that differs is named above. The layer before it does not differ, so this one's input is "
            "the same; its weights are those of the checkpoint. What else does this kind of layer have?",
            "Not everything that a layer computes with is in a checkpoint. Compare the arguments of this layer's "
            "constructor in the documentation of both libraries.",
            "A normalisation divides by the root of variance + epsilon. The libraries have different defaults for it, "
            "and architectures have values of their own; where does this wing take it from, and where should it?",
        ),
        fault=Edit("backbone.py", "module.eps = spec.batch_norm.epsilon", "module.eps = 1e-5"),
        why="1e-5 is the default of torch.nn.BatchNorm2d; Keras's is 1e-3, and MobileNetV3 uses 1e-3 in both "
        "libraries. Epsilon is no weight: no checkpoint brings it, so the model that it is loaded into must have the "
        "value that it was trained with. The error is largest in channels whose variance is small.",
    ),
    Exercise(
        name="slow-start",
        grade=1,
        framework=TORCH,
        symptom="Training works, in the sense that the loss falls and accuracy rises. But it falls slowly, never gets "
        "near zero, and a larger learning rate hardly helps.",
        rung="loss",
        lesson=4,
        hints=(
            "The logits are the same and the loss is not: only one function is in between. Look at what it is given.",
            "The smallest value that this loss can have is not zero, however sure the network is. Why? Try logits of "
            "10, 0, 0 with pencil and paper.",
            "In both libraries there is a cross entropy that takes logits and one that takes probabilities. Which is "
            "this, and how often is the softmax taken?",
        ),
        fault=Edit(
            "optimizers.py",
            "F.cross_entropy(logits, targets, label_smoothing=",
            "F.cross_entropy(logits.softmax(dim=1), targets, label_smoothing=",
        ),
        why="torch's cross_entropy takes logits and applies log_softmax itself; of probabilities it makes nearly equal "
        "ones, since they lie between 0 and 1. With K classes the loss cannot fall below log(e + K - 1) - 1, and "
        "gradients shrink by the softmax's derivative. Keras has the same trap the other way round: its cross entropy "
        "takes probabilities unless from_logits=True.",
    ),
)
