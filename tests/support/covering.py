"""Few cases in which each pair of values of any two factors occurs together."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence

Case = dict[str, str]


def covering(
    factors: Mapping[str, Sequence[str]],
    allowed: Callable[[Case], bool] = lambda case: True,
    strength: int = 2,
    seed: int = 0,
) -> list[Case]:
    """Return cases in which all values of any `strength` factors occur together, if that is allowed.

    Greedy, as in AETG (Cohen et al. 1997): each case starts from a combination that is still missing, and
    takes for each other factor the value that adds most.

    Args:
        factors: the values of each.
        allowed: whether a case, or a part of one, is possible.
        strength: 2 for pairs, 3 for triples.
        seed: of the random order.
    """
    draw = random.Random(seed)
    missing = {
        frozenset(combination)
        for names in itertools.combinations(factors, strength)
        for combination in itertools.product(*([(name, value) for value in factors[name]] for name in names))
        if allowed(dict(combination))
    }
    cases = []
    for start in sorted(missing, key=sorted):
        if start not in missing:
            continue
        case = dict(start)
        for name in draw.sample(sorted(set(factors) - set(case)), len(factors) - strength):
            values = [value for value in factors[name] if allowed(case | {name: value})]
            gains = {value: sum(c in missing for c in _with(case, name, value, strength)) for value in values}
            best = max(gains.values())
            case[name] = draw.choice([value for value in values if gains[value] == best])
        order = {name: case[name] for name in factors}
        missing -= set(map(frozenset, itertools.combinations(order.items(), strength)))
        cases.append(order)
    return cases


def _with(case: Case, name: str, value: str, strength: int) -> list[frozenset[tuple[str, str]]]:
    """Return the combinations that a value completes."""
    return [
        frozenset((*others, (name, value))) for others in itertools.combinations(case.items(), strength - 1)
    ]
