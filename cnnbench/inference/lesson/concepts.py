"""The idea behind each layer, in a few sentences with the numbers of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cnnbench.inference.lesson.calls import Call
from cnnbench.inference.lesson.kinds import Kind, geometry, kind
from cnnbench.inference.lesson.matrix import Matrix


def concept(call: Call, matrix: Matrix | None) -> list[str]:
    """Return paragraphs about a layer."""
    texts: dict[Kind, Callable[[Call, Matrix | None], Iterator[str]]] = {
        "convolution": _convolution,
        "norm": _norm,
        "activation": _activation,
        "pooling": _pooling,
        "global pooling": _global_pooling,
        "flatten": _flatten,
        "linear": _linear,
        "other": _other,
    }
    found = [*texts[kind(call)](call, matrix)]
    if call.source is None:
        found.append(
            "Its input is computed between the layers: the sum of a skip connection, a concatenation of "
            "branches, or an activation that is no module."
        )
    return found


def _convolution(call: Call, matrix: Matrix | None) -> Iterator[str]:
    shape = geometry(call)
    assert shape is not None
    kernel, groups = "×".join(map(str, shape["kernel"])), shape["groups"]
    channels, outputs = call.taken.shape[1], call.returned.shape[1]
    if shape["kernel"] == [1, 1]:
        yield (
            f"A 1×1 convolution: at each position the {channels} channels are mixed to {outputs}, by the "
            "same weights everywhere. It looks at no neighbours, so that the field does not grow."
        )
    elif groups == channels > 1:
        yield (
            f"A depthwise convolution: each of the {channels} channels has a {kernel} kernel of its own, "
            "and they are not mixed; a 1×1 convolution does that. Together they cost a fraction of a full "
            "convolution (MobileNetV2, arXiv:1801.04381)."
        )
    else:
        yield (
            f"A convolution is a linear layer under two constraints. Each output depends on a {kernel} "
            "window of the map alone (locality), and each position uses the same weights (sharing), so "
            "that a pattern is found wherever it is."
        )
    if matrix is not None:
        yield (
            f"A linear layer between these maps would have {matrix.unconstrained:,} weights. Here "
            f"{matrix.nonzero:,} of them are not fixed at zero, and {matrix.free:,} are learned."
        )
    yield from _steps(call, shape)


def _steps(call: Call, shape: dict[str, Any]) -> Iterator[str]:
    """Yield what stride and padding do."""
    before, after = _size(call.taken), _size(call.returned)
    if max(shape["stride"]) > 1:
        yield (
            f"Stride {max(shape['stride'])}: the window moves on by that many positions, and the map "
            f"shrinks from {before} to {after}. From here on each step on the map is a larger step on the "
            "image, and fields grow faster."
        )
    if max(shape["kernel"]) == 1 or kind(call) != "convolution":
        return
    padding = shape["padding"]
    if padding == "same" or max(padding) > 0:
        fill = getattr(call.module, "padding_mode", "zeros")
        what = {"zeros": "zeros", "reflect": "the mirrored map", "replicate": "the last pixels, repeated"}
        yield (
            f"Padding: the map is continued beyond its edges ({what.get(fill, 'its other side')}), so that "
            f"windows at the edge are full: {before} becomes {after}. Units there see less of the image "
            "and more of the padding."
        )
    else:
        yield (
            f"Without padding the window stays inside the map, which shrinks from {before} to {after}. "
            "Some layers later nothing would be left: that limits the depth."
        )


def _norm(call: Call, matrix: Matrix | None) -> Iterator[str]:
    name = type(call.module).__name__
    if "BatchNorm" in name:
        yield (
            "Batch norm. In training, each channel is shifted and scaled to mean 0 and variance 1 over "
            "the batch, then to a mean and a deviation that are learned. Now, in evaluation, it uses "
            "averages from the training: each channel is multiplied by one number, and another is added."
        )
        yield (
            "It was proposed against internal covariate shift: inputs of a layer whose distribution moves "
            "while the layers before it learn (arXiv:1502.03167). That it makes the loss smoother "
            "explains its success better (arXiv:1805.11604)."
        )
    else:
        yield (
            f"{name} normalises the numbers of an image by their own mean or size, in training and in "
            "evaluation alike; it does not depend on the batch."
        )


def _activation(call: Call, matrix: Matrix | None) -> Iterator[str]:
    zeros = float((call.returned == 0).float().mean())
    yield (
        f"A non-linearity, {type(call.module).__name__}, applied to each number alone. Without it, the "
        "linear layers before and behind it would be one linear layer: depth would gain nothing."
    )
    if zeros > 0:
        yield f"Of its outputs for these images {100 * zeros:.0f} % are exactly 0."


def _pooling(call: Call, matrix: Matrix | None) -> Iterator[str]:
    shape = geometry(call)
    assert shape is not None
    name, kernel = type(call.module).__name__, "×".join(map(str, shape["kernel"]))
    does = "keeps the largest number" if "Max" in name else f"({name}) puts one number in the place"
    yield (
        f"Pooling {does} of each {kernel} window, channel by channel. It has nothing to learn. What moves "
        "by a pixel often gives the same output, and what follows sees more of the image at less cost."
    )
    yield from _steps(call, shape)


def _global_pooling(call: Call, matrix: Matrix | None) -> Iterator[str]:
    yield (
        f"Global pooling: of each of the {call.taken.shape[1]} maps ({_size(call.taken)}) one number "
        "remains, its mean or its largest. Where something was is forgotten; that it was there is kept. "
        "It sees the whole image."
    )


def _flatten(call: Call, matrix: Matrix | None) -> Iterator[str]:
    yield (
        f"Flattening writes the {call.returned.shape[1]:,} numbers of all maps one after the other. "
        "Nothing is computed; from here on it is no longer said which of them are neighbours."
    )


def _linear(call: Call, matrix: Matrix | None) -> Iterator[str]:
    before, after = call.taken.shape[-1], call.returned.shape[-1]
    yield (
        f"A fully connected layer: each of {after:,} outputs has a weight for each of {before:,} inputs, "
        f"{before * after:,} in all. A convolution is this, with most weights fixed at zero and the others "
        "shared."
    )


def _other(call: Call, matrix: Matrix | None) -> Iterator[str]:
    if call.taken.shape == call.returned.shape and bool((call.taken == call.returned).all()):
        yield "At this size of image, this layer leaves its input as it is."


def _size(maps: Any) -> str:
    return "×".join(map(str, maps.shape[2:]))
