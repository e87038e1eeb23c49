"""Exercises of grade 3: what differs shows somewhere else than where the fault is, or late."""

from __future__ import annotations

from transfer_parity.shared.contract.wings import TENSORFLOW, TORCH
from transfer_parity.shared.exercises.edit import Edit
from transfer_parity.shared.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="parting",
        grade=3,
        framework=TENSORFLOW,
        symptom="With a constant learning rate both frameworks walk the same path. With a warm-up, or a cosine, they "
        "part at the first step at which the rate changes.",
        rung="optimizer",
        lesson=5,
        hints=(
            "What the optimizer holds for a weight is another quantity from the first step on. How many times smaller "
            "is it than in the other wing? The rates of the three steps are 0.01, 0.003 and 0.01.",
            "Write both recurrences down for two steps with different rates. With one rate for both, the same weights "
            "come out. With two, by which rate is the first gradient multiplied in the second step?",
            "There are two ways to put a rate into momentum: v = m v + g and w = w - rate v, or v = m v - rate g and "
            "w = w + v. The documentation of both libraries gives the formula. Matched, torch's counts.",
        ),
        fault=Edit(
            "optimizers.py",
            "        velocity = gradient\n"
            "        if self.momentum:\n"
            "            held = momentum(self, variable)\n"
            "            velocity = held * self.momentum + gradient  # differs: sgd_momentum\n"
            "            self.assign(held, velocity)\n"
            "        self.assign_sub(variable, velocity * learning_rate)\n",
            "        velocity = gradient * learning_rate\n"
            "        if self.momentum:\n"
            "            held = momentum(self, variable)\n"
            "            velocity = held * self.momentum + gradient * learning_rate\n"
            "            self.assign(held, velocity)\n"
            "        self.assign_sub(variable, velocity)\n",
        ),
        why="Here the velocity holds gradients that were already multiplied by the rate of their time, as in Keras's "
        "own SGD; torch's holds gradients, and multiplies by the rate of today. At a constant rate the two are the "
        "same; when the rate falls, Keras's velocity still carries the old, larger one for about 1/(1 - momentum) "
        "steps.",
        quiet=(
            Edit(
                "optimizers.py",
                '    """SGD whose momentum does not hold the learning rate: v = m v + g, w = w - lr v.\n\n'
                "    Keras's own is v = m v - lr g, w = w + v. The two are the same at a constant rate; after a change "
                "of rate Keras's\n    velocity still carries the old one.\n"
                '    """\n',
                '    """SGD with momentum, as the reference has it."""\n',
            ),
        ),
    ),
    Exercise(
        name="forgetful",
        grade=3,
        framework=TENSORFLOW,
        symptom="Losses and gradients agree step by step while everything trains. The trained network, asked for its "
        "predictions, is worse than in the other framework, and worse than its own training loss.",
        rung="trajectory",
        lesson=6,
        hints=(
            "Everything that a training step computes agrees. What does a step leave behind that no training step "
            "reads, and only inference does?",
            "Compare a running mean before and after the first step: new = a * old + b * batch. How large are a and b "
            "here, and how large in the other wing?",
            "momentum is one word for two numbers: in one library it is the weight of the old value, in the other of "
            "the new one. Which does the specification hold, and which does this layer take?",
        ),
        fault=Edit("backbone.py", '"momentum": 1 - spec.batch_norm.momentum}', '"momentum": spec.batch_norm.momentum}'),
        why="torch: running = (1 - momentum) * running + momentum * batch, with 0.1 by default; Keras: moving = "
        "momentum * moving + (1 - momentum) * batch, with 0.99. The specification holds torch's, so Keras's layer "
        "needs one minus it. The other way round, the statistics are those of the last batch, nearly; training does "
        "not see that, since it uses the batch's own.",
        quiet=(Edit("backbone.py", "            # torch weighs the new value, Keras the old one.\n", ""),),
    ),
    Exercise(
        name="company",
        grade=3,
        framework=TORCH,
        symptom="An image gets one answer alone and another in a batch with others. It happens only after training: "
        "a freshly loaded network gives the same answer always.",
        rung="predictions",
        lesson=10,
        hints=(
            "Training leaves the same weights and statistics in both wings: every rung up to the trajectory passes. "
            "What is left that training leaves behind in a network and that no checkpoint holds?",
            "If an answer depends on the company, something takes a mean over the batch. Which layer does, when, and "
            "who is to tell it not to?",
            "inference_mode() and no_grad() of torch turn off the bookkeeping for gradients, nothing else. What a "
            "normalisation or a dropout does is decided by the mode of the module. Read infer() line by line.",
        ),
        fault=Edit(
            "inference.py",
            "    network.eval()\n    # A user who takes torch as it is",
            "    # A user who takes torch as it is",
        ),
        why="A torch module stays in the mode in which it was left, and after training that is training mode: "
        "normalisations use the batch's statistics (and learn them from test images), dropout drops. eval() has to be "
        "called before every evaluation; no_grad() and inference_mode() do not do it. In Keras the mode is an argument "
        "of the call, and predict() passes training=False.",
    ),
)
