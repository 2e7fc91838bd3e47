"""Initialisation from pretrained weights."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnbench import console
from cnnbench.data import datasets
from cnnbench.errors import InputError
from cnnbench.ops import residual
from cnnbench.settings.model import Arch
from cnnbench.training import weight_files

STATISTICS = ("running_mean", "running_var")
"""Buffers by which batch norm normalises in eval mode; they are not parameters."""


class Fit(NamedTuple):
    """Weights of a file in a model.

    Attributes:
        found: the file's.
        matching: those that are loaded, by the model's names.
        left: names of parameters and batch statistics that keep their initial values.
        other: sizes in the file and in the model of those of them that are there in another size.
        unused: names of weights that the model does not have.
        renamed: a note on a layer of another name.
    """

    found: weight_files.Found
    matching: dict[str, Tensor]
    left: list[str]
    other: dict[str, str]
    unused: list[str]
    renamed: str


def load(model: nn.Module, arch: Arch, fitting: Fit | None = None) -> dict[str, Any]:
    """Load the pretrained weights that `arch.weights` names into a model.

    Parameters that match in name and shape are loaded; the rest are listed and keep their initial values,
    except that a factor of `ops.init` is 1 if the weights of its branch were loaded without one.
    With `arch.freeze` the loaded parameters are not trained.

    Args:
        model: the model, which is changed.
        arch: settings of the architecture.
        fitting: what `fit` returns for them; None: read it.

    Returns:
        `weights/loaded`, the number of loaded parameters; `weights/left`, the names of parameters and of
        batch statistics that keep their initial values; `weights/unused`, the number of tensors beside the
        loaded ones that the model does not have.

    Raises:
        InputError: see `fit`.
    """
    found, matching, left, other, unused, renamed = fitting or fit(model, arch)
    model.load_state_dict(matching, strict=False)
    residual.open_loaded(model, matching)
    if arch.freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in matching)
    loaded = sum(1 for name, _ in model.named_parameters() if name in matching)
    total = sum(1 for _ in model.parameters())
    sized = [name + (f" ({other[name]})" if name in other else "") for name in left]
    console.console.print(
        f"weights: {loaded} of {total} tensors from {arch.weights}{_among(found)}{renamed}"
        + (f"; not loaded: {', '.join(sized[:6])}" + ", …" * (len(left) > 6) if left else "")
        + (f"; {not_used(unused, arch)}" if unused else ""),
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
    return {"weights/loaded": loaded, "weights/left": " ".join(left), "weights/unused": len(unused)}


def fit(model: nn.Module, arch: Arch) -> Fit:
    """Return which weights `load` would load, without changing the model, which may be on meta tensors.

    Raises:
        InputError: there are no such weights, the file holds none, none match, nothing is left to train, or
            a frozen batch norm has no statistics.
    """
    assert arch.weights is not None
    initial = model.state_dict()
    if arch.weights == "imagenet":
        found = weight_files.Found(own := dict(_imagenet(arch)), "", [], [k for k in own if k not in initial])
    else:
        found = weight_files.read(arch.weights, initial.keys(), arch.weights_key)
    weights, renamed = _with_last_layer(model, found.tensors)
    matching = {k: v for k, v in weights.items() if k in initial and initial[k].shape == v.shape}
    for name, tensor in matching.items():
        _check(f"arch.weights={arch.weights}: {name}", tensor, initial[name])
    other = {
        name: f"{_size(weights[name])}, here {_size(initial[name])}"
        for name in initial
        if name in weights and name not in matching
    }
    left = [name for name, _ in model.named_parameters() if name not in matching]
    if not any(name in matching for name, _ in model.named_parameters()):
        reason = f"it holds {', '.join(list(weights)[:3])}, …; expected {', '.join(list(initial)[:3])}, …"
        if other:
            name, sizes = next(iter(other.items()))
            reason = f"{name} is {sizes}"
        raise InputError(f"arch.weights={arch.weights}: nothing in it fits {arch.name} ({reason})")
    without = [name for name in initial if name.endswith(STATISTICS) and name not in matching]
    if arch.freeze:
        if not left:
            raise InputError("arch.freeze=true: all weights were loaded, nothing is left to train")
        if bare := [name for name in without if f"{name.rpartition('.')[0]}.weight" in matching]:
            raise InputError(
                f"arch.freeze=true: {arch.weights} has no {bare[0]}, without which a frozen batch norm does "
                "nothing; allowed: the ops.norm that the weights were trained with, or arch.freeze=false"
            )
    unused = [name for name in found.unused if name in weights]
    return Fit(found, matching, left + without, other, unused, renamed)


def not_used(unused: Sequence[str], arch: Arch) -> str:
    """Return a sentence about weights of the file that the model does not have."""
    return f"the file also holds {len(unused)} tensors that {arch.name} does not have, such as {unused[0]}"


def _with_last_layer(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return weights with the model's name for a layer that is called otherwise in the file, if only one is.

    That is mostly the last: `fc` in torchvision, `linear` in many networks for CIFAR.

    Args:
        model: whose names count.
        weights: from the file.

    Returns:
        The weights, and a note on what was renamed.
    """
    known = model.state_dict().keys()
    missing = [name.rpartition(".") for name, _ in model.named_parameters() if name not in weights]
    extra = [name.rpartition(".") for name in weights if name not in known]
    ours, theirs = {layer for layer, *_ in missing}, {layer for layer, *_ in extra}
    if len(ours) != 1 or len(theirs) != 1 or {last for *_, last in missing} != {last for *_, last in extra}:
        return dict(weights), ""
    (layer,), (foreign,) = ours, theirs
    own = {name: value for name, value in weights.items() if name in known}
    return own | {
        f"{layer}.{last}": weights[f"{foreign}.{last}"] for *_, last in extra
    }, f"; {foreign} as {layer}"


def _among(found: weight_files.Found) -> str:
    """Return which weights were taken, if the file holds several that fit."""
    if not found.others:
        return ""
    names = ", ".join(prefix or "without a key" for prefix in found.others)
    return f": {found.taken or 'without a key'} (arch.weights_key chooses; it also holds {names})"


def _check(label: str, tensor: Tensor, initial: Tensor) -> None:
    """Check that a tensor is dense, finite and of the same kind as the model's initial one."""
    if tensor.layout != torch.strided or tensor.is_meta:
        raise InputError(f"{label} is {'without values' if tensor.is_meta else 'sparse'}")
    if tensor.is_floating_point() != initial.is_floating_point() or tensor.is_complex():
        raise InputError(f"{label} is of {tensor.dtype}; expected {initial.dtype}")
    if not tensor.isfinite().all():
        raise InputError(f"{label} holds values that are not finite")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def frozen(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose parameters are all frozen; they are to stay in eval mode."""
    return [
        module
        for module in model.modules()
        if (parameters := list(module.parameters())) and not any(p.requires_grad for p in parameters)
    ]


def _imagenet(arch: Arch) -> Mapping[str, Tensor]:
    """Return torchvision's first published weights of a model, from its cache or its server."""
    from torchvision import models

    name = arch.name.removeprefix("torchvision.")
    if name not in models.list_models(module=models):
        raise InputError(f"arch.weights=imagenet: torchvision has none for {arch.name}; allowed: a file")
    weights = next(iter(models.get_model_weights(name)))
    preset = weights.transforms()
    if (tuple(preset.mean), tuple(preset.std)) != datasets.IMAGENET:
        raise InputError(
            f"arch.weights=imagenet: those of {arch.name} expect images normalised with mean "
            f"{preset.mean[0]} and standard deviation {preset.std[0]}, not ImageNet's; allowed: another model"
        )
    target = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # without it a dead network would hang forever
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # from the network, or a damaged file
        raise InputError(
            f"arch.weights=imagenet: {target} is missing or damaged, and {weights.url} cannot be "
            f"downloaded ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error
    finally:
        socket.setdefaulttimeout(previous)
