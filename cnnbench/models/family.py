"""Families of architectures: models of one family are no independent evidence."""

from __future__ import annotations

import re

SAME = {"googlenet": "inception", "wide": "resnet"}
"""GoogLeNet is Inception v1, and `wide_resnet50_2` a ResNet."""


def family(arch: str) -> str:
    """Return the family of an architecture: its name without library, version and depth.

    `resnet` for resnet18 and torchvision.resnet50, `mobilenet` for mobilenet_v2 and timm.mobilenetv3_x.
    """
    prefix = re.match(r"[a-z]+?(?=v?\d|[^a-z]|$)", arch.rpartition(".")[2].lower())
    name = prefix[0] if prefix else arch
    return SAME.get(name, name)
