"""The architectures that Keras Applications and torchvision both have, described without either framework."""
