"""What every setting may be: its type and range.

`conf/` holds the choices and their defaults; this module says which values are allowed, so that
a wrong one is named before anything is loaded or written. A field marked `Free` does not decide
the result (where data lies, how many worker processes) and is left out of the run's identity.
"""

from cnnbench.settings.base import (
    Component,
    Count,
    NonNegative,
    Rate,
    Section,
    Seed,
    is_place,
    options,
    reason,
    shown,
)
from cnnbench.settings.bench import Bench
from cnnbench.settings.data import Data
from cnnbench.settings.device import Device
from cnnbench.settings.logger import WandbLogger
from cnnbench.settings.model import Act, Arch, Layout, Native, Norm, Ops, Padding, Pool
from cnnbench.settings.parse import parse, plain
from cnnbench.settings.run import Settings, Sweep

__all__ = [
    "Act",
    "Arch",
    "Bench",
    "Component",
    "Count",
    "Data",
    "Device",
    "Layout",
    "Native",
    "NonNegative",
    "Norm",
    "Ops",
    "Padding",
    "Pool",
    "Rate",
    "Section",
    "Seed",
    "Settings",
    "Sweep",
    "WandbLogger",
    "is_place",
    "options",
    "parse",
    "plain",
    "reason",
    "shown",
]
