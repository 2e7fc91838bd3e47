"""The space of a search: Hydra's overrides as Optuna's distributions, and proposals as overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer

from cnnbench.errors import InputError


def space(overrides: Sequence[Override]) -> tuple[dict[str, Any], list[str]]:
    """Return what is searched, as Optuna's distributions by key, and the overrides that all trials share.

    Raises:
        InputError: an invalid range.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    searched: dict[str, Any] = {}
    fixed: dict[str, str] = {}
    for override in overrides:
        key = override.get_key_element()
        value = override.value()
        fixed.pop(key, None)
        searched.pop(key, None)
        try:
            if not override.is_sweep_override():
                fixed[key] = f"{key}={override.get_value_element_as_str()}"
            elif isinstance(value, IntervalSweep):
                low, high = value.start, value.end
                assert low is not None
                assert high is not None
                integers = isinstance(low, int) and isinstance(high, int)
                distribution: Any = IntDistribution if integers else FloatDistribution
                searched[key] = distribution(low, high, log="log" in value.tags)
            elif isinstance(value, RangeSweep):
                assert value.start is not None
                assert value.stop is not None
                if all(isinstance(number, int) for number in (value.start, value.stop, value.step)):
                    last = range(int(value.start), int(value.stop), int(value.step))[-1]
                    searched[key] = IntDistribution(int(value.start), last, step=int(value.step))
                else:
                    searched[key] = FloatDistribution(value.start, value.stop, step=value.step)
            else:
                assert isinstance(value, ChoiceSweep)
                # As written on the command line: Optuna stores strings, and Hydra parses them.
                choices = list(override.sweep_iterator(transformer=Transformer.encode))
                searched[key] = CategoricalDistribution([str(choice) for choice in choices])
        except (ValueError, IndexError) as error:
            raise InputError(f"{override.input_line}: {error}") from None
    return searched, list(fixed.values())


def texts(params: Mapping[str, Any]) -> list[str]:
    """Return a proposal as overrides, with floats rounded to four significant digits."""
    return [
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in params.items()
    ]


def first(searched: Mapping[str, Any]) -> dict[str, Any]:
    """Return one point of the space: the first choices and the lower bounds."""
    return {key: kind.choices[0] if hasattr(kind, "choices") else kind.low for key, kind in searched.items()}
