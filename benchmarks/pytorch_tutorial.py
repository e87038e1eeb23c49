"""The frozen-backbone recipe as users of PyTorch's transfer-learning tutorial write it ("fixed feature extractor").

ImageFolder and DataLoader, torchvision's MobileNetV2 with a new last layer, gradients switched off in everything
before it, SGD, and a training and a validation phase in every epoch. As installed: no thread, allocator or memory
format is set. The batch is 32 instead of the tutorial's 4, and each DataLoader has the tutorial's 4 processes but not
more than there are cores, as DataLoader itself advises: both only help it. (On two cores, over 397 photographs, two
processes took 2 to 5 % less time than none, and less than four.)

The last line of its output is JSON:

    seconds        since the process began to run this file
    accuracy       of the model that the recipe ends with, on the validation images: here the best epoch's
    best_accuracy  of the best epoch
"""

from __future__ import annotations

import time

STARTED = time.time()

import argparse  # noqa: E402
import copy  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from torch import nn, optim  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import datasets, models, transforms  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def loaders(data: Path, size: int, batch: int, workers: int) -> dict[str, DataLoader[tuple[torch.Tensor, int]]]:
    """Batches of ``train/`` and ``test/``: augmented ones to train on, centre crops to validate on."""
    resize = round(size * 256 / 224)
    tensor = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    steps = {
        "train": [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), *tensor],
        "val": [transforms.Resize(resize), transforms.CenterCrop(size), *tensor],
    }
    folders = {"train": data / "train", "val": data / "test"}
    return {
        phase: DataLoader(
            datasets.ImageFolder(folders[phase], transforms.Compose(steps[phase])),
            batch_size=batch,
            shuffle=phase == "train",
            num_workers=workers,
        )
        for phase in ("train", "val")
    }


def build(weights: Path | None, classes: int) -> models.MobileNetV2:
    """MobileNetV2, frozen, with a new last layer."""
    model = models.mobilenet_v2(weights=None)
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    for parameter in model.parameters():
        parameter.requires_grad = False
    # The parameters of new modules have requires_grad=True.
    model.classifier[1] = nn.Linear(model.last_channel, classes)
    return model


def train(
    model: nn.Module, batches: dict[str, DataLoader[tuple[torch.Tensor, int]]], epochs: int, device: torch.device
) -> float:
    """Train the last layer and keep the best epoch's model. Returns its accuracy on the validation images."""
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.001, momentum=0.9)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    best, best_state = 0.0, copy.deepcopy(model.state_dict())
    for epoch in range(epochs):
        for phase in ("train", "val"):
            # Like the tutorial: this lets normalisation in the frozen part follow the batches while training.
            model.train(phase == "train")
            loss_sum, correct, seen = 0.0, 0, 0
            for inputs, labels in batches[phase]:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                loss_sum += loss.item() * len(labels)
                correct += int((outputs.argmax(1) == labels).sum())
                seen += len(labels)
            if phase == "train":
                scheduler.step()
            print(f"epoch {epoch} {phase}: loss {loss_sum / seen:.4f}, accuracy {correct / seen:.4f}")
            if phase == "val" and correct / seen > best:
                best, best_state = correct / seen, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return best


def main() -> None:
    """Run the recipe once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/class/image and test/class/image")
    parser.add_argument("--weights", type=Path, help="torchvision state_dict, .pth (default: random weights)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="of each DataLoader")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = loaders(options.data, options.image_size, options.batch_size, options.workers)
    classes = len(batches["train"].dataset.classes)  # type: ignore[attr-defined]
    model = build(options.weights, classes).to(device)
    best = train(model, batches, options.epochs, device)
    print(json.dumps({"seconds": time.time() - STARTED, "accuracy": best, "best_accuracy": best}))


if __name__ == "__main__":
    main()
