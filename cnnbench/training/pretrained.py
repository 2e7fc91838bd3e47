"""Starting from weights that were trained elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench import console
from cnnbench.data import datasets
from cnnbench.errors import InputError
from cnnbench.settings.model import Arch

NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which a checkpoint may hold the weights."""

STATISTICS = ("running_mean", "running_var")
"""Of batch norm: what it normalises by in eval mode. They are no parameters."""

PREFIXES = ("model.", "module.")
"""What a Lightning module or a parallel wrapper puts before each name."""


def load(model: nn.Module, arch: Arch) -> dict[str, Any]:
    """Put the weights that `arch.weights` names into `model`, where name and shape agree.

    With `arch.freeze` what was loaded is not trained.

    Returns:
        `weights/loaded`, the number of parameters, and `weights/left`, the names of those that stay as
        they were initialised, and of batch statistics that are not there either.

    Raises:
        InputError: no such weights, a file that holds none, none that agree, nothing left to train, or a
            frozen batch norm without statistics.
    """
    assert arch.weights is not None
    found = _imagenet(arch) if arch.weights == "imagenet" else _file(arch.weights)
    own = model.state_dict()
    agree = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape}
    for name, tensor in agree.items():
        _check(f"arch.weights={arch.weights}: {name}", tensor, own[name])
    model.load_state_dict(agree, strict=False)
    left = [name for name, _ in model.named_parameters() if name not in agree]
    if not any(name in agree for name, _ in model.named_parameters()):
        there = next((k for k in own if k in found), None)
        why = f"it holds {', '.join(list(found)[:3])}, …; expected {', '.join(list(own)[:3])}, …"
        if there:
            why = f"{there} is {_size(found[there])}, here {_size(own[there])}"
        raise InputError(f"arch.weights={arch.weights}: nothing in it fits {arch.name} ({why})")
    without = [name for name in own if name.endswith(STATISTICS) and name not in agree]
    if arch.freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in agree)
        if not left:
            raise InputError("arch.freeze=true: all weights were loaded, nothing is left to train")
        if bare := [name for name in without if f"{name.rpartition('.')[0]}.weight" in agree]:
            raise InputError(
                f"arch.freeze=true: {arch.weights} has no {bare[0]}, without which a frozen batch norm does "
                "nothing; allowed: the ops.norm that the weights were trained with, or arch.freeze=false"
            )
    left += without
    loaded = sum(1 for name, _ in model.named_parameters() if name in agree)
    whole = sum(1 for _ in model.parameters())
    console.console.print(
        f"weights: {loaded} of {whole} tensors from {arch.weights}"
        + (f"; left as initialised: {', '.join(left[:6])}" + ", …" * (len(left) > 6) if left else ""),
        style="dim",
        highlight=False,
    )
    return {"weights/loaded": loaded, "weights/left": " ".join(left)}


def _check(what: str, tensor: Tensor, own: Tensor) -> None:
    """Whether a tensor holds numbers of the kind that the model's own has."""
    if tensor.layout != torch.strided or tensor.is_meta:
        raise InputError(f"{what} is {'without values' if tensor.is_meta else 'sparse'}")
    if tensor.is_floating_point() != own.is_floating_point() or tensor.is_complex():
        raise InputError(f"{what} is of {tensor.dtype}; expected {own.dtype}")
    if not tensor.isfinite().all():
        raise InputError(f"{what} holds values that are not finite")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def frozen(model: nn.Module) -> list[nn.Module]:
    """The modules whose parameters are all frozen: their statistics and dropout stay as in evaluation."""
    return [
        module
        for module in model.modules()
        if (parameters := list(module.parameters())) and not any(p.requires_grad for p in parameters)
    ]


def _imagenet(arch: Arch) -> Mapping[str, Tensor]:
    """torchvision's first published weights of the model of that name, from its cache or its server."""
    from torchvision import models

    name = arch.name.removeprefix("torchvision.")
    if name not in models.list_models(module=models):
        raise InputError(f"arch.weights=imagenet: torchvision has none for {arch.name}; allowed: a file")
    weights = next(iter(models.get_model_weights(name)))
    wanted = weights.transforms()
    if (tuple(wanted.mean), tuple(wanted.std)) != datasets.IMAGENET:
        raise InputError(
            f"arch.weights=imagenet: those of {arch.name} want images of mean {wanted.mean[0]} and deviation "
            f"{wanted.std[0]}, not normalised as ImageNet's; allowed: another model"
        )
    target = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # there is none otherwise: a dead network would hang for ever
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # of the network, of a file that is not what it should be
        raise InputError(
            f"arch.weights=imagenet: {target} is not there or not intact, and {weights.url} cannot be "
            f"downloaded ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _file(path: str) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint, without what it is wrapped in."""
    try:
        found = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except Exception as error:  # of unpickling, of zip files, of what weights_only forbids
        raise InputError(
            f"arch.weights={path}: is no file of weights, or cut short, or holds other objects than tensors, "
            "which could run code"
        ) from error
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    items = found.items() if isinstance(found, Mapping) else ()
    tensors = {str(key): value for key, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"arch.weights={path}: holds no weights (a dictionary of tensors)")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors
