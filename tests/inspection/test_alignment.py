"""Two models side by side: which layers correspond."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search import examples

from cnnbench.inspection.alignment import COMPARED, align, compare, similarity
from cnnbench.inspection.description import describe
from cnnbench.settings.described import described

KINDS = ("Conv2d", "ReLU", "BatchNorm2d")


def layer(name, kind="Conv2d", output=(4, 8, 8), params=0):
    return {
        "name": name, "kind": kind, "output": list(output), "params": params, "macs": 0, "window": None,
        "receptive_field": None, "activation_bytes": 1,
    }  # fmt: skip


@st.composite
def stacks(draw, most=5):
    names = draw(st.lists(st.sampled_from("abcdefgh"), max_size=most, unique=True))
    return [layer(name, draw(st.sampled_from(KINDS)), params=draw(st.integers(0, 1))) for name in names]


def likeness(pairs):
    return sum(similarity(a, b) for a, b in pairs if a is not None and b is not None)


def best(first, second):
    """Return the greatest likeness of any alignment: every choice of as many layers of both, in order."""
    totals = [0]
    for count in range(1, min(len(first), len(second)) + 1):
        for some in itertools.combinations(first, count):
            for others in itertools.combinations(second, count):
                alike = [similarity(a, b) for a, b in zip(some, others, strict=True)]
                totals.append(sum(alike) if all(alike) else 0)
    return max(totals)


@examples(100)
@given(stacks(), stacks())
def test_no_alignment_is_more_alike(first, second):
    pairs = align(first, second)
    assert [a for a, _ in pairs if a is not None] == first
    assert [b for _, b in pairs if b is not None] == second
    assert all(a is None or b is None or similarity(a, b) for a, b in pairs)
    start = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if start == 0:  # a common beginning is taken as it is
        assert likeness(pairs) == best(first, second)


@examples(50)
@given(stacks(8), st.data())
def test_what_is_inserted_stands_alone(stack, data):
    place = data.draw(st.integers(0, len(stack)))
    longer = [*stack[:place], layer("new", "Softmax"), *stack[place:]]
    expected = [(a, a) for a in stack]
    expected.insert(place, (None, longer[place]))
    assert align(stack, longer) == expected
    assert align(longer, stack) == [(b, a) for a, b in expected]


def of(*words):
    return describe(described([*words, "data=cifar10"]))


@pytest.mark.parametrize(
    ("words", "alone", "differing"),
    [
        (("arch=resnet18", "arch=resnet18"), (set(), set()), {}),
        # Four blocks more, all inside of a stage; all else is the same but for what is seen.
        (
            ("arch=resnet18", "arch=resnet34"),
            (set(), {f"layer{i}.{j}" for i, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for j in range(2, n)}),
            {"receptive_field"},
        ),
        (("arch=resnet20", "arch=resnet20 ops.norm=group"), (set(), set()), {"kind", "receptive_field"}),
        (
            ("arch=vgg11", "arch=vgg11_bn"),
            (set(), {f"features.{i}" for i in (1, 5, 9, 12, 16, 19, 23, 26)}),
            {},
        ),
    ],
)  # fmt: skip
def test_known_pairs(words, alone, differing):
    first, second = (of(*word.split()) for word in words)
    found = compare(first, second)
    pairs = found["layers"]
    for side, other, expected in zip(("first", "second"), ("second", "first"), alone, strict=True):
        names = {pair[side] for pair in pairs if pair[other] is None}
        blocks = {".".join(name.split(".")[:2]) for name in names}
        assert blocks == expected
    assert {key for pair in pairs for key in pair["differs"]} == set(differing)
    assert found["totals"]["params"] == {
        "first": first["params"], "second": second["params"],
        "difference": second["params"] - first["params"], "ratio": second["params"] / first["params"],
    }  # fmt: skip
    assert found["totals"]["macs"]["second"] == second["macs"]
    assert set(differing) <= set(COMPARED)
