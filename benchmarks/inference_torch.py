"""Features of many images with torchvision, as a user writes the loop: eager, channels_last, as installed.

The last line of its output is JSON: ``images_per_second``, from the median over the full batches of one pass, after
three batches to warm up. A batch counts from uint8 pixels to a NumPy array of features.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision import models

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WARM_UP = 3


def build(name: str, weights: Path | None) -> models.MobileNetV2 | models.ResNet:
    """The backbone with its global average pooling and without its classifier."""
    model = models.mobilenet_v2(weights=None) if name == "MobileNetV2" else models.resnet50(weights=None)
    if weights is not None:
        # A file without the classifier is as good: it is taken off in the next lines.
        model.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    if name == "MobileNetV2":
        model.classifier = nn.Identity()
    else:
        model.fc = nn.Identity()
    return model.eval().to(memory_format=torch.channels_last)


def main() -> None:
    """One timed pass over the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="uint8 array (N, S, S, 3), .npy")
    parser.add_argument("backbone", choices=("MobileNetV2", "ResNet50"))
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--weights", type=Path, help="torchvision state_dict, .pth (default: random weights)")
    parser.add_argument("--features", type=Path, help="keep the features here, .npy")
    parser.add_argument("--first", type=int, help="take no more than so many images")
    options = parser.parse_args()
    images, step = np.load(options.images, mmap_mode="r")[: options.first].copy(), options.batch_size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(options.backbone, options.weights).to(device)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))

    def features(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2)
            x = x.to(torch.float32, memory_format=torch.channels_last) / 255
            return np.asarray(model((x - mean) / std).cpu().numpy())

    batches = [images[start : start + step] for start in range(0, len(images), step)]
    for number in range(WARM_UP):
        features(batches[number % len(batches)])
    outputs, seconds = [], []
    for batch in batches:
        began = time.perf_counter()
        outputs.append(features(batch))
        seconds.append((time.perf_counter() - began) / len(batch))
    # The last batch may be smaller, which is another amount of work per image.
    full = [each for each, batch in zip(seconds, batches, strict=True) if len(batch) == step]
    if options.features is not None:
        np.save(options.features, np.concatenate(outputs))
    print(json.dumps({"images_per_second": 1 / statistics.median(full or seconds), "batches": len(batches)}))


if __name__ == "__main__":
    main()
