"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), computed by captum."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from cnnbench.errors import InputError
from cnnbench.inference.network import Network
from cnnbench.training.device import autocast


def check() -> None:
    """Check that captum is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("captum") is None:
        raise InputError("--only gradcam: needs captum; run `pip install 'cnnbench[explain]'`")


def grad_cam(network: Network, pixels: Tensor, layer: str, classes: Tensor) -> Tensor:
    """Return where a layer's maps speak for a class: the larger, the more.

    The maps are weighted by the mean of the logit's gradient over their positions and added up; what speaks
    against the class is 0.

    Args:
        network: the model.
        pixels: uint8 (N, colours, size, size).
        layer: name of a layer that returns (N, C, h, w).
        classes: int64 (N,), the class of each image whose evidence is asked for.

    Returns:
        float32 (N, h, w), on the CPU.
    """
    from captum.attr import LayerGradCam

    model = network.model
    with torch.enable_grad(), autocast(network.device):
        inputs = network.inputs(pixels)
        # captum sees a copy of what the layer returned, so that an in-place ReLU behind it changes nothing.
        attribution: Tensor = LayerGradCam(model, model.get_submodule(layer)).attribute(
            inputs, target=classes.clone().to(inputs.device), relu_attributions=True
        )
    return attribution.detach().float().cpu()[:, 0]
