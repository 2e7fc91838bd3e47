"""Multiply-accumulates of each module, counted while a model computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

from cnnbench.models.running import Call
from cnnbench.models.shapes import RULES, Watching, answer


class MacCounter(Watching):  # type: ignore[no-untyped-call]
    """While this is active, multiply-accumulates are counted: half of the operations of torch's formulas.

    Args:
        calls: of modules that are running, as `running` yields them.
        listed: names of modules; what happens in others counts for the module around them.

    Attributes:
        macs: of each listed module on its own; of "" outside of them.
    """

    def __init__(self, calls: Sequence[Call] = (), listed: Collection[str] = ()) -> None:
        super().__init__()
        self._calls, self._listed = calls, listed
        self._flops: Counter[str] = Counter()

    @property
    def macs(self) -> dict[str, int]:
        """Multiply-accumulates by module."""
        return {name: flops // 2 for name, flops in self._flops.items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(getattr(func, "overloadpacket", func))
        if formula is None and func not in RULES and isinstance(func, OpOverload):
            with self:  # what it consists of may have one
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = answer(func, args, kwargs)
        if formula is not None:
            inside = (call.name for call in reversed(self._calls) if call.name in self._listed)
            self._flops[next(inside, "")] += formula(*args, **kwargs, out_val=result)
        return result
