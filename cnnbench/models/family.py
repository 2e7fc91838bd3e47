"""Families of architectures: models of one family are no independent evidence.

What is built on one idea is one family, so that an interval over families is not too narrow: ResNeXt and
plain nets are ResNets, GoogLeNet is Inception v1, DeiT and EVA are vision transformers.
"""

from __future__ import annotations

import re
from functools import cache

ORIGIN = re.compile(r"^(?:tf|tv|gluon|ssl|swsl|ig|legacy|adv|ens|dm|jx|test|eca|ese|gc|wide)_")
"""Prefixes of timm's names that say where weights come from, or which attention was added."""

PATTERNS = {
    "inceptionnext": "inception_?next",
    "inception": "inception|^googlenet",
    "vit": "^(?:vit|samvit|flexivit|naflexvit|deit|beit|eva|aim|deepseek|gemma|qwen)",
    "dla": "^dla",
    "resnet": "res(?:net|nest|next|2net|2next)|^senet154|^plain",
    "regnet": "regnet",
    "nfnet": "nfnet",
    "mobilenet": "mobilenet",
    "efficientnet": "efficientnet",
    "efficientvit": "efficientvit",
    "mnasnet": "^(?:se|sp)?m?nasnet_|^mnasnet",
    "fbnet": "^fbnet",
    "densenet": "^densenet",
    "vovnet": "vovnet",
    "cspnet": "^(?:cs3|cspdarknet|sedarknet|darknet)",
    "xception": "^xception",
    "maxvit": "^(?:coatne[tx]t?|rmlp|maxx?vit)",
    "metaformer": "^(?:caformer|convformer|poolformer)",
    "botnet": "botne[tx]|^(?:se)?halone[tx]|^bat_",
    "mlp_mixer": "^(?:gmixer|gmlp|mixer|resmlp)",
    "hiera": "^(?:hiera|sam2)",
    "rexnet": "^rexnet",
    "nasnet": "^p?nasnet",
    "lcnet": "^lcnet",
}
"""Families whose models have several names, with a pattern each; the first that matches counts."""

NAMES = (
    *("alexnet", "basic", "locally_connected", "mlp", "vgg"),
    *(
        "byobnet",
        "cait",
        "coat",
        "convit",
        "convmixer",
        "convnext",
        "cpubone",
        "crossvit",
        "csatv",
        "cspnext",
    ),
    *("davit", "dpn", "edgenext", "efficientformer", "efficientvim", "fasternet", "fastvit", "focalnet"),
    *("gcvit", "gernet", "ghostnet", "hardcorenas", "hgnet", "hrnet", "iformer", "levit", "lowformer"),
    *("mambaout", "mixnet", "mobileone", "mobilevit", "mvit", "nest", "nextvit", "pit", "pvt", "rdnet"),
    *("repghostnet", "repvgg", "repvit", "selecsls", "sequencer", "shufflenet", "shvit", "squeezenet"),
    *("starnet", "swiftformer", "swin", "tiny_vit", "tinynet", "tnt", "twins", "visformer"),
    *("volo", "xcit"),
)
"""Families whose models have its name, with a version or a size."""


def family(arch: str) -> str:
    """Return the family of an architecture: `resnet` for resnet18, torchvision.resnext50_32x4d and plain20.

    An architecture that is not known is of a family of its own, by its name without version and depth.
    """
    if known := _known(arch):
        return known
    prefix = re.match(r"[a-z]+?(?=v?\d|[^a-z]|$)", arch.rpartition(".")[2].lower())
    return prefix[0] if prefix else arch


def is_known(arch: str) -> bool:
    """Return whether the family of an architecture is known."""
    return _known(arch) is not None


@cache
def _known(arch: str) -> str | None:
    name = ORIGIN.sub("", arch.rpartition(".")[2].lower())
    for known, pattern in PATTERNS.items():
        if re.search(pattern, name):
            return known
    return next((known for known in NAMES if re.match(rf"{known}(?=v?\d|[^a-z]|$)", name)), None)
