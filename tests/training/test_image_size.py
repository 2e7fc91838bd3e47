"""Images that a layer reduces to nothing: which layer, and which size works."""

import pytest
from cells import asked
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.errors import InputError
from cnnbench.training.image_size import SIZES, least_size
from cnnbench.training.model import make, make_for_images


@given(st.integers(2, 1500), st.integers(1, 1400))
def test_the_least_size_is_found(least, side):
    if side >= least:
        return
    tried = []

    def works(size):
        tried.append(size)
        return size >= least

    assert least_size(works, side) == (least if least <= max(SIZES) else None)
    assert len(tried) <= len(SIZES) + 10


@pytest.mark.parametrize(
    ("arch", "ops", "size", "layer", "least"),
    [
        # Without padding, one window at the end covers exactly the published fields (Araujo et al., 2019).
        ("alexnet", {"padding": "valid"}, 16, "features.8 (Conv2d), which gets ", 195),
        ("vgg16", {"padding": "valid"}, 64, "features.", 212),
        ("basic", {"padding": "valid"}, 16, "features.", 22),
    ],
)
def test_the_layer_and_the_least_size_are_named(arch, ops, size, layer, least):
    settings = asked(arch, ops, width=0.125)
    with pytest.raises(InputError) as error:
        make_for_images(settings, (3, size, size), 10, 4)
    assert layer in str(error.value)
    assert "a kernel of" in str(error.value)
    assert str(error.value).endswith(f"; allowed: data.size={least} or more")
    make(settings, (3, least, least), 10, 4)
    with pytest.raises(InputError):
        make(settings, (3, least - 1, least - 1), 10, 4)


def test_errors_about_other_settings_name_no_size():
    with pytest.raises(InputError) as error:
        make_for_images(asked("resnet18", {"padding": "valid"}, width=0.125), (3, 32, 32), 10, 4)
    assert "data.size" not in str(error.value)
