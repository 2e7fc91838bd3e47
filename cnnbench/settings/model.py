"""`arch` and `ops`: which network, and what an ablation exchanges in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import model_validator

from cnnbench.data.options import ModelInput
from cnnbench.ops.values import ACTS, INITS, NORMS, PADDINGS, POOLS
from cnnbench.settings.base import UNRECORDED, Component, PathText, Rate, Section, added

if TYPE_CHECKING:  # a type checker cannot read the names from the tables
    Norm: TypeAlias = str
    Act: TypeAlias = str
    Pool: TypeAlias = str
    Padding: TypeAlias = str
    Init: TypeAlias = str
else:
    Norm = Literal["native", *NORMS]
    Act = Literal["native", *ACTS]
    Pool = Literal["native", *POOLS]
    Padding = Literal["native", *PADDINGS]
    Init = Literal["native", *INITS]


class Ops(Section):
    """`ops`: the ablation axes; their values are listed in `cnnbench.ops.values`."""

    norm: Norm
    act: Act
    pool: Pool
    padding: Padding
    init: Annotated[Init, added("native")] = "native"


class Native(Section):
    """`arch.native`: what `native` stands for in an architecture; axes that it does not have are absent.

    `native` itself where layers differ among each other.
    """

    norm: Norm | None = None
    act: Act | None = None
    pool: Pool | None = None
    padding: Padding | None = None
    init: Init | None = None


MemoryFormat = Literal["contiguous", "channels_last"]


class Layout(Section):
    """`arch.layout`: what `device.memory_format=auto` is for an architecture; see `bench tune=true`."""

    cpu: MemoryFormat | None = None
    gpu: MemoryFormat | None = None
    mps: MemoryFormat | None = None


class Arch(Component):
    """`arch`: a factory of `cnnbench.models`, or one of the user's own."""

    in_channels: Literal[1, 3] | None = None
    weights: PathText | None = None
    weights_key: Annotated[str | None, added(None)] = None
    freeze: bool = False
    library: str | None = None
    native: Annotated[Native | None, UNRECORDED] = None
    layout: Annotated[Layout | None, UNRECORDED] = None
    rates: Annotated[dict[str, Rate] | None, UNRECORDED] = None

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_library(cls, value: Any) -> Any:
        """`resnet18` of torchvision is `torchvision.resnet18`: not the one of cnnbench."""
        if isinstance(value, dict) and isinstance(value.get("name"), str) and value.get("library"):
            prefix = f"{value['library']}."
            value = value | {"name": prefix + value["name"].removeprefix(prefix)}
        return value

    @model_validator(mode="after")
    def _frozen_means_loaded(self) -> Arch:
        if self.freeze and self.weights is None:
            raise ValueError("freeze=true: freezes what arch.weights loads; allowed with weights alone")
        if self.weights_key is not None and self.weights in (None, "imagenet"):
            raise ValueError(f"weights_key={self.weights_key}: allowed with arch.weights=FILE alone")
        return self

    def model_input(self) -> ModelInput:
        """Return the input that the model takes from `ImageData`."""
        return ModelInput(channels=self.in_channels, imagenet_normalisation=self.weights == "imagenet")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `_target_` that the data does not determine."""
        ours = {
            "name",
            "target",
            "in_channels",
            "weights",
            "weights_key",
            "freeze",
            "library",
            "native",
            "layout",
            "rates",
        }
        return self.model_dump(exclude=ours, exclude_unset=True)


class UntrustedArch(Arch):
    """`arch` as read from a run, which somebody else may have made.

    The type is the mark: it survives copies and pickling, and no key of a file can change it. What such a
    section names is called only if cnnbench ships it; see `cnnbench.settings.instantiate`. A run whose origin
    the user trusts (`--trust-code`) is read as `Arch`.
    """
