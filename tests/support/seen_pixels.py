"""What a unit of a layer really sees: the pixels of the image that have a gradient."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cnnbench.models import reach_tracing
from cnnbench.models.complexity import watched


class Means(TorchFunctionMode):
    """Mean in place of maximum pooling, whose gradient is that of a single pixel."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (F.max_pool2d, torch.max_pool2d):
            x, kernel, *more = args
            stride = kwargs.get("stride", more[0] if more else None)
            padding = kwargs.get("padding", more[1] if len(more) > 1 else 0)
            x = x.nan_to_num(neginf=0.0)  # some pad with -inf themselves
            return F.avg_pool2d(x, kernel, stride, padding, ceil_mode=kwargs.get("ceil_mode", False))
        return func(*args, **kwargs)


def positive(model: nn.Module) -> nn.Module:
    """Make every weight positive, so that no two paths cancel out; in eval mode, in float64."""
    model = model.double().eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
            if tensor.ndim > 1:
                tensor /= tensor[0].numel()
    return model


def outputs(model, images):
    """Return what each module returns, by name."""
    found = {}
    with watched(model, found.setdefault), Means():
        model(images)
    return found


def reaches(model, shape):
    """Return the traced reach of what each module returns, by name, on an image of this shape."""
    images = torch.zeros((1, *shape), dtype=torch.float64)
    found = {}

    def see(name, output):
        found.setdefault(name, reach_tracing.of(output))

    with torch.no_grad(), watched(model, see), reach_tracing.ReachTracing(images, boundless=False):
        model(images)
    return found


def differences(model, shape, units=3):
    """Return where the traced reach is not the extent of the gradient, for units of every map."""
    model = positive(model)
    traced = reaches(model, shape)
    images = torch.rand((1, *shape), dtype=torch.float64).add(0.5).requires_grad_()
    wrong = []
    for name, output in outputs(model, images).items():
        if output.ndim != 4 or not output.requires_grad:
            continue
        _, _, rows, columns = output.shape
        assert traced[name][0].shape[1:] == output.shape
        for place in range(units):
            i, j = (place * (side - 1) // max(1, units - 1) for side in (rows, columns))
            (gradient,) = torch.autograd.grad(output[0, :, i, j].sum(), images, retain_graph=True)
            seen = gradient[0].abs().sum(0) > 0
            for axis, line in enumerate((seen.any(1), seen.any(0))):
                real = line.nonzero().flatten()
                real = (int(real[0]), int(real[-1])) if len(real) else None
                sides = traced[name][axis][:2, 0, :, i, j].amax(1)
                claimed = (int(-sides[0]), int(sides[1])) if sides[1] >= 0 else None
                if real != claimed:
                    wrong.append(
                        (name, type(model.get_submodule(name)).__name__, (i, j), axis, real, claimed)
                    )
    return wrong
