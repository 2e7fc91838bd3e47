"""Layers that an ablation exchanges: their values, and the factory `Ops` that builds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.ops.factory import Ops
else:

    def __getattr__(name: str) -> Any:
        """Import `Ops` on first use, so that `cnnbench.ops.values` is imported without torch (PEP 562)."""
        if name != "Ops":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from cnnbench.ops.factory import Ops

        return Ops


__all__ = ["Ops"]
