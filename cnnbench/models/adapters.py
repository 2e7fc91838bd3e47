"""Unchanged models of torchvision and timm, for comparison with cnnbench's own; ops do not apply to them."""

from __future__ import annotations

from typing import Any

from torch import nn

from cnnbench.errors import InputError, suggest


def torchvision(*, name: str, num_classes: int, in_channels: int, weights: str | None = None) -> nn.Module:
    """Return a classification model of torchvision for colour images, as torchvision initialises it.

    Args:
        name: as in `torchvision.models.list_models()`.
        num_classes, in_channels: see `cnnbench.models`.
        weights: if "imagenet", the models whose weights were trained in TensorFlow (GoogLeNet, Inception v3)
            convert their input to TensorFlow's normalisation. `cnnbench.training.pretrained` loads the
            weights.

    Raises:
        InputError: torchvision has no such model; grey images.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        near = suggest(name, names).split("allowed:")[0]
        raise InputError(
            f"arch.name={name}: torchvision has no such model; {near}"
            "allowed: names in torchvision.models.list_models()"
        )
    if in_channels != 3:
        raise InputError(
            f"arch.in_channels={in_channels}: torchvision's models take colour images; allowed: 3"
        )
    options: dict[str, Any] = {"num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True, "transform_input": weights == "imagenet"}
    return models.get_model(name, weights=None, **options)  # type: ignore[no-any-return]


def timm(*, name: str, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Return a model of timm (https://github.com/huggingface/pytorch-image-models), as timm initialises it.

    Args:
        name: as in `timm.list_models()`.
        num_classes, in_channels, image_size: see `cnnbench.models`.

    Raises:
        InputError: timm is not installed, or has no such model.
    """
    try:
        import timm as library
    except ImportError:
        raise InputError("arch=timm: not installed; run `pip install 'cnnbench[timm]'`") from None
    if not library.is_model(name):
        near = suggest(name, library.list_models()).split("allowed:")[0]
        raise InputError(
            f"arch.name={name}: timm has no such model; {near}allowed: names in timm.list_models()"
        )
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    try:
        return library.create_model(name, img_size=image_size, **options)  # type: ignore[no-any-return]
    except TypeError:  # a convolutional network takes any size, and has no such argument
        return library.create_model(name, **options)  # type: ignore[no-any-return]
