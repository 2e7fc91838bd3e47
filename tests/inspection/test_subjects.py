"""The models that words name."""

import pytest

from cnnbench.errors import InputError
from cnnbench.inspection.subjects import is_run, merged, subjects


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        ([], [""]),
        (["arch=vgg11"], [""]),
        (["arch=vgg11,resnet18", "data=cifar10"], ["arch=vgg11", "arch=resnet18"]),
        (
            ["arch=vgg11,vgg13", "ops.norm=batch,none"],
            [f"arch={arch} ops.norm={norm}" for arch in ("vgg11", "vgg13") for norm in ("batch", "none")],
        ),
        (["select=[optimizer.lr,optimizer.momentum]"], [""]),
    ],
)
def test_lists_stand_for_several_models(words, labels):
    found = subjects(words)
    assert [subject.label for subject in found] == labels
    for subject in found:
        for text in subject.label.split():
            key, _, value = text.partition("=")
            section = subject.settings.model_dump()
            for name in (key if "." in key else f"{key}.name").split("."):
                section = section[name]
            assert section == value


@pytest.mark.parametrize(
    ("first", "other", "expected"),
    [
        ("arch=vgg16 data=cifar10", "arch=vgg11", "data=cifar10 arch=vgg11"),
        ("arch=vgg16 arch.width=0.5 ops.act=silu", "arch=vgg11", "ops.act=silu arch=vgg11"),
        ("arch=vgg16 arch.width=0.5", "arch.width=1", "arch=vgg16 arch.width=1"),
        ("+arch.new=3 seed=1", "~arch.new", "seed=1 ~arch.new"),
        ("arch=vgg16 --config-dir=mine", "ops.norm=none", "arch=vgg16 --config-dir=mine ops.norm=none"),
    ],
)
def test_settings_of_another_model_replace_those_of_the_first(first, other, expected):
    assert merged(first.split(), other.split()) == expected.split()


def test_a_run_is_a_word_without_a_setting(tmp_path):
    (tmp_path / "a=b").mkdir()
    words = {
        "outputs/x": True,
        str(tmp_path / "a=b"): True,
        "arch=vgg16": False,
        "~arch.width": False,
        "-m": False,
    }
    assert {word: is_run(word) for word in words} == words
    with pytest.raises(InputError, match="no such folder"):
        subjects([str(tmp_path / "nothing")])
    with pytest.raises(InputError, match="the settings are those of the run"):
        subjects([str(tmp_path / "a=b"), "seed=1"])
