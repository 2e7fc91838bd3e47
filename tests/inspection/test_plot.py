"""The figure of fields and maps over depth."""

import pytest

from cnnbench.errors import InputError
from cnnbench.inspection import plot
from cnnbench.inspection.description import describe
from cnnbench.pages import plot_style
from cnnbench.settings.described import described


def of(*words):
    return describe(described([*words, "data=imagenette", "data.size=224"]), " ".join(words))


def test_points_are_relative_to_the_image():
    """The published fields of AlexNet (195) and VGG-16 (212), of one path; ResNet's shortcut is one of 11."""
    last = {word: plot.points(of(word))[-1] for word in ("arch=alexnet", "arch=vgg16", "arch=resnet18")}
    windows = {word: plot.points(of(word)) for word in ("arch=alexnet", "arch=vgg16")}
    assert max(p["largest"] for p in windows["arch=alexnet"] if p["largest"]) == pytest.approx(195 / 224)
    assert max(p["largest"] for p in windows["arch=vgg16"] if p["largest"]) == pytest.approx(212 / 224)
    assert (last["arch=resnet18"]["largest"], last["arch=resnet18"]["smallest"]) == (435 / 224, 11 / 224)
    assert last["arch=resnet18"]["side"] == 7


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_each_format_is_drawn(suffix, magic):
    models = [of("arch=basic"), of("arch=efficientnet_b0", "arch.width=0.25")]
    image = plot.draw(models, suffix)
    assert image.startswith(magic)
    if suffix == ".svg":
        assert image == plot.draw(models, suffix), "equal models give equal files"
        for text in ("arch=basic, 224x224 px", "arch=efficientnet_b0 arch.width=0.25", "receptive field"):
            assert text in image.decode()


@pytest.mark.parametrize(
    ("target", "expected"),
    [("fields.gif", "no such format"), ("fields", r"\.png, \.svg, \.pdf"), ("no/such.png", "does not exist")],
)
def test_what_cannot_be_written_is_said_before(target, expected):
    with pytest.raises(InputError, match=expected):
        plot.check(target)


def test_without_matplotlib_there_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(plot_style, "installed", lambda: False)
    with pytest.raises(InputError, match=r"--plot: needs matplotlib; run `pip install 'cnnbench\[plots\]'`"):
        plot.check("fields.png")
