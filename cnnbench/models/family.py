"""Which architectures are of one family: models that are no independent evidence of each other."""

from __future__ import annotations

import re

SAME = {"googlenet": "inception", "wide": "resnet"}
"""GoogLeNet is Inception v1, and `wide_resnet50_2` a ResNet."""


def family(arch: str) -> str:
    """`resnet` for resnet18 and torchvision.resnet50, `mobilenet` for mobilenet_v2 and timm.mobilenetv3_x

    What an architecture's name begins with, without a library's name and its version or depth.
    """
    found = re.match(r"[a-z]+?(?=v?\d|[^a-z]|$)", arch.rpartition(".")[2].lower())
    name = found[0] if found else arch
    return SAME.get(name, name)
