"""All planted mistakes."""

from __future__ import annotations

from tests.mutations import in_shared, in_tensorflow, in_tensorflow_training, in_torch, in_torch_training
from tests.mutations.mutation import Mutation

MUTATIONS: tuple[Mutation, ...] = (
    *in_tensorflow.MUTATIONS,
    *in_tensorflow_training.MUTATIONS,
    *in_torch.MUTATIONS,
    *in_torch_training.MUTATIONS,
    *in_shared.MUTATIONS,
)
BY_ID = {mutation.id: mutation for mutation in MUTATIONS}
