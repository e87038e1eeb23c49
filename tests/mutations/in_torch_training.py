"""Mistakes in the training of the torch wing."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, in_wing

_TRAINING, _OPTIMIZERS = "torch_impl/training.py", "torch_impl/optimizers.py"

_planted = in_wing("torch", "torch")

MUTATIONS: tuple[Mutation, ...] = (
    _planted(
        "bn-variance",
        _TRAINING,
        'hooks = self._counting_biased_variance() if "bn_running_variance" in self.switches else []',
        "hooks = self._counting_biased_variance()",
        "the running variance counts the biased variance",
        "scratch",
        "comparison: parameters of features.*.running_var",
        "ladder: trajectory: running statistics, step * of features.0.1.running_var",
    ),
    _planted(
        "bn-not-frozen",
        _TRAINING,
        "        network.eval()\n",
        "        network.train()\n",
        "frozen normalisations use the statistics of the batch",
        "tail",
        "comparison: loss",
        "recipe ladder: activations: *",
        "recipe ladder: loss: *",
    ),
    _planted(
        "mse-summed",
        _OPTIMIZERS,
        "F.mse_loss(logits, targets)",
        "targets.shape[1] * F.mse_loss(logits, targets)",
        "squared errors are summed over the classes, not averaged",
        "maps",
        "comparison: loss",
        "recipe ladder: loss: loss*",
    ),
    _planted(
        "smoothing",
        _OPTIMIZERS,
        "label_smoothing=recipe.label_smoothing)",
        "label_smoothing=recipe.label_smoothing * targets.shape[1] / (targets.shape[1] - 1))",
        "label smoothing is off by K/(K-1)",
        "probe",
        "comparison: loss",
        "recipe ladder: loss: loss*",
    ),
    _planted(
        "adam-epsilon",
        _OPTIMIZERS,
        "eps=recipe.epsilon,",
        "eps=1.1 * recipe.epsilon,",
        "Adam's epsilon is a tenth too large",
        "probe",
        "comparison: parameters of head.*",
        "ladder: optimizer: adam, step 1: parameter of *",
    ),
    _planted(
        "adam-beta2",
        _OPTIMIZERS,
        "betas=(recipe.beta1, recipe.beta2),",
        "betas=(recipe.beta1, 0.99),",
        "Adam's second decay is another",
        "probe",
        "comparison: parameters of head.*",
        "ladder: optimizer: adam, step 1: second moment of *",
    ),
    _planted(
        "adamw-coupled",
        _OPTIMIZERS,
        'kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam',
        "kind = torch.optim.Adam",
        "AdamW couples weight decay with the gradient",
        "maps",
        "comparison: parameters of head.*",
        "ladder: optimizer: adamw, step 1: first moment of *",
    ),
    _planted(
        "sgd-nesterov",
        _OPTIMIZERS,
        "momentum=recipe.momentum, weight_decay=coupled)",
        "momentum=recipe.momentum, weight_decay=coupled, nesterov=True)",
        "SGD's momentum is Nesterov's",
        "tail",
        "comparison: parameters of *",
        "recipe ladder: trajectory: *",
    ),
    _planted(
        "decay-without-biases",
        _OPTIMIZERS,
        "return torch.optim.SGD(variables, recipe.learning_rate,",
        'flat = {"params": [each for each in variables if each.ndim < 2], "weight_decay": 0.0}\n'
        '        variables = [{"params": [each for each in variables if each.ndim > 1]}, flat]  # type: ignore\n'
        "        return torch.optim.SGD(variables, recipe.learning_rate,",
        "biases and scales do not decay",
        "scratch",
        "comparison: parameters of *.bias",
        "comparison: parameters of features.0.1.weight",
        "ladder: optimizer: sgd, step 1: momentum of features.0.1.weight",
    ),
    _planted(
        "gradients-kept",
        _TRAINING,
        "        self.optimizer.zero_grad()\n",
        "",
        "gradients of earlier steps are added",
        "probe",
        "comparison: losses*step 3*",
        "comparison: parameters of *",
        "ladder: trajectory: *",
    ),
    _planted(
        "rate-constant",
        _TRAINING,
        'group["lr"] = rate',
        'group["lr"] = self.recipe.learning_rate',
        "the learning rate does not follow its schedule",
        "scratch",
        "comparison: parameters of *",
        "ladder: optimizer: sgd, step *: parameter of *",
    ),
    _planted(
        "small-batch-dropped",
        _TRAINING,
        "    for batch in batches:\n        losses.append",
        "    for batch in batches:\n        if len(batch.labels) < recipe.batch_size:\n            continue\n"
        "        losses.append",
        "the small last batch of an epoch is dropped",
        "probe",
        "comparison: steps*",
        "recipe ladder: bytes: sizes of the batches*",
    ),
)
