"""The layers that an ablation exchanges.

Example:
    from cnnbench.ops import Ops  # in the module of an architecture of one's own
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.ops.factory import Ops
else:

    def __getattr__(name: str) -> Any:
        """Import `Ops` when it is asked for: the names of the values are read without torch (PEP 562)."""
        if name != "Ops":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from cnnbench.ops.factory import Ops

        return Ops


__all__ = ["Ops"]
