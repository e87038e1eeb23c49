"""Wing 2: torchvision on PyTorch. Read it side by side with ``tf_impl``: same files, same functions."""
