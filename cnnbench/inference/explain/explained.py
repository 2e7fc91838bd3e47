"""From runs to pictures: loads models and images, and calls what draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cnnbench import console
from cnnbench.data.images import Images
from cnnbench.data.prefetch import labelled
from cnnbench.errors import InputError
from cnnbench.inference import trained_model
from cnnbench.inference.evaluate import images as evaluated_images
from cnnbench.inference.evaluate.images import Chosen
from cnnbench.inference.explain import grad_cam, one_run, several_runs, tiles
from cnnbench.inference.explain.examples import Examples, of_files, of_images, one_of_each_class
from cnnbench.inference.explain.maps import Maps
from cnnbench.inference.explain.mistakes import worst_mistakes
from cnnbench.inference.explain.several_runs import Subject
from cnnbench.inference.explain.survey import survey
from cnnbench.inference.explain.tiles import Picture
from cnnbench.inference.trained_model import Trained
from cnnbench.models.receptive_field import Fields, receptive_fields
from cnnbench.run_store.find import flat
from cnnbench.run_store.run import Run

EXAMPLES, MAPPED, MISTAKES, FILTERS = 8, 2, 16, 8
"""Images that Grad-CAM and the maps explain; mistakes; filters of which the top images are shown."""

GROUPS = ("arch", "ops", "data", "optimizer", "scheduler", "trainer")

Explained = tuple[str, list[str], list[Picture]]
"""Title, lines about what is explained, and the pictures."""


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        kinds: of pictures.
        images: files to explain; none: some of the split.
        split: `test` or `val`.
        layer: for maps, Grad-CAM and top images; None: chosen by the model.
        filters: whose top images are shown; None: the first ones.
        settings: words that change `data` or `device`.
        trust_code: see `cnnbench.inference.trained_model.load`.
    """

    kinds: tuple[str, ...]
    images: Sequence[Path]
    split: str
    layer: str | None
    filters: tuple[int, ...] | None
    settings: Sequence[str]
    trust_code: bool


def check(request: Request) -> None:
    """Check that the libraries which it needs are installed.

    Raises:
        InputError: they are not.
    """
    tiles.check()
    if "gradcam" in request.kinds:
        grad_cam.check()


def of_one(run: Run, request: Request) -> Explained:
    """Return the pictures of one run.

    Raises:
        InputError: its model or the images cannot be used, or there is no such layer or filter.
    """
    trained, maps, layer = _load(run, request)
    layers = [layer] if request.layer and layer else maps.stages
    kinds = [kind for kind in request.kinds if layer or kind in ("filters", "mistakes")]
    filters = _filters(request, maps, layers)
    with console.console.status("receptive fields"):
        needed = layers and {"maps", "top"} & {*kinds}
        fields = receptive_fields(trained.model, trained.shape) if needed else Fields({})
    searched = {"top", "mistakes"} & {*kinds}
    chosen = _chosen(trained, request.settings, request.split) if searched or not request.images else None
    examples = _examples(trained, request, chosen)
    pictures: list[Picture] = []
    if "filters" in kinds and (picture := one_run.filters_picture(trained, maps)):
        pictures.append(picture)
    if "maps" in kinds:
        few = Examples(examples.pixels[:MAPPED], examples.names[:MAPPED], examples.labels[:MAPPED])
        pictures += one_run.maps_pictures(trained, maps, layers, few, fields)
    if "gradcam" in kinds and layer:
        pictures.append(one_run.grad_cam_picture(trained, layer, examples))
    facts = [f"weights: {trained.weights}"]
    if chosen is not None and searched:
        facts.append(f"images: {chosen.title}")
        pictures += _searched(
            trained, chosen, kinds, layers if "top" in kinds else [], filters, fields, facts
        )
    if not layer:
        facts.append(f"{trained.settings.arch.name} has no feature maps: no maps, Grad-CAM or top images")
    return f"What {trained.name} has learned", facts, pictures


def of_several(runs: Sequence[Run], request: Request) -> Explained:
    """Return the pictures of several runs side by side, of the same images.

    Raises:
        InputError: a model or the images cannot be used; or the classes differ.
    """
    labels = _labels(runs)
    subjects: list[Subject] = []
    chosen: Chosen | None = None
    for run, label in zip(runs, labels, strict=True):
        trained, maps, layer = _load(run, request)
        if subjects and trained.preparation.classes != subjects[0].network.preparation.classes:
            raise InputError(
                f"{run.path}: has other classes than {runs[0].path}; allowed: runs of the same classes"
            )
        if chosen is None and not request.images:
            chosen = _chosen(trained, request.settings, request.split)
        subjects.append(Subject(label, trained, maps, layer, _examples(trained, request, chosen)))
    pictures = []
    if "filters" in request.kinds:
        pictures.append(several_runs.filters_picture(subjects))
    if "maps" in request.kinds:
        pictures.append(several_runs.maps_picture(subjects))
    if "gradcam" in request.kinds:
        pictures.append(several_runs.grad_cam_picture(subjects))
    facts = [f"{label}: {run.path.name}" for label, run in zip(labels, runs, strict=True)]
    return f"What {len(runs)} runs have learned", facts, pictures


def _load(run: Run, request: Request) -> tuple[Trained, Maps, str | None]:
    """Return the model of a run, its layers, and that of which Grad-CAM is asked for."""
    trained = _model(run, request.settings, trust_code=request.trust_code)
    maps = Maps(trained.model, trained.shape)
    layer = maps.last if request.layer is None else maps.named(request.layer)
    return trained, maps, layer


def _filters(request: Request, maps: Maps, layers: Sequence[str]) -> dict[str, list[int]]:
    """Return the filters of each layer whose top images are shown.

    Raises:
        InputError: a layer does not have them.
    """
    filters = {}
    for layer in layers:
        count = maps.shapes[layer][0]
        asked = range(min(FILTERS, count)) if request.filters is None else request.filters
        if max(asked) >= count:
            raise InputError(f"--filters {max(asked)}: {layer} has {count}; allowed: 0 to {count - 1}")
        filters[layer] = [*asked]
    return filters


def with_examples(
    run: Run, files: Sequence[Path], settings: Sequence[str], *, most: int, trust_code: bool
) -> tuple[Trained, Examples]:
    """Return the model of a run, and image files or up to `most` of its test images, of different classes.

    Args:
        run: the run.
        files: images of the user's; none: test images.
        settings: words that change `data` or `device`.
        most: number of images.
        trust_code: see `cnnbench.inference.trained_model.load`.

    Raises:
        InputError: the model or the images cannot be used.
    """
    trained = _model(run, settings, trust_code=trust_code)
    if files:
        return trained, of_files(files, trained.preparation)
    chosen = _chosen(trained, settings, "test")
    indices = one_of_each_class(chosen.images, most)
    return trained, of_images(chosen.images, indices, trained.preparation, chosen.memory)


def _model(run: Run, words: Sequence[str], *, trust_code: bool) -> Trained:
    changes = evaluated_images.settings(words)
    own = trained_model.settings(run, trust_code=trust_code).device
    requested = evaluated_images.device(own, changes["device"])
    return trained_model.load(run, trained_model.device_for(run, requested), trust_code=trust_code)


def _chosen(trained: Trained, words: Sequence[str], split: str) -> Chosen:
    changes = evaluated_images.settings(words)
    chosen = evaluated_images.choose(trained, split, changes["data"])
    for note in chosen.notes:
        console.console.print(note, style="yellow", highlight=False, markup=False, soft_wrap=True)
    return chosen


def _examples(trained: Trained, request: Request, chosen: Chosen | None) -> Examples:
    if request.images or chosen is None:
        return of_files(request.images, trained.preparation)
    indices = one_of_each_class(chosen.images, EXAMPLES)
    return of_images(chosen.images, indices, trained.preparation, chosen.memory)


def _searched(
    trained: Trained,
    chosen: Chosen,
    kinds: Sequence[str],
    layers: Sequence[str],
    filters: dict[str, list[int]],
    fields: Fields,
    facts: list[str],
) -> Iterator[Picture]:
    """Yield the pictures that need a pass over all images, and add to the facts what it found."""
    count = -(-len(chosen.images.labels) // chosen.batch_size)
    batches: Iterator[Any] = labelled(trained.preparation, chosen.images, chosen.batch_size, chosen.memory)
    evaluation, tops = survey(
        trained, console.progress(batches, "looking at images", count), layers, one_run.ACROSS
    )
    facts.append(f"accuracy on them: {console.percent(evaluation.accuracy)}")
    for layer, top in tops.items():
        photos = _photos(trained, chosen.images, chosen, top.images[filters[layer]].flatten().tolist())
        yield one_run.top_picture(layer, top, filters[layer], photos, fields, chosen.title)
    if "mistakes" in kinds:
        wrong = int((evaluation.probabilities.argmax(1) != evaluation.labels).sum())
        mistakes = worst_mistakes(evaluation, MISTAKES)
        photos = _photos(trained, chosen.images, chosen, [one.image for one in mistakes])
        if mistakes:
            yield one_run.mistakes_picture(trained, mistakes, photos, chosen.title, wrong)
        else:
            facts.append("no mistakes on them")


def _photos(trained: Trained, images: Images, chosen: Chosen, indices: Sequence[int]) -> dict[int, Tensor]:
    distinct = sorted({*indices})
    found = of_images(images, distinct, trained.preparation, chosen.memory)
    return dict(zip(distinct, found.pixels, strict=True))


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return what sets each run apart from the others: the settings that differ, or its name.

    An architecture's own settings follow from its name where that differs.
    """
    configs = [run.config() for run in runs]
    settings = [
        flat({key: config.get(key, {}) for key in GROUPS} | {"seed": config.get("seed")})
        for config in configs
    ]
    keys = [key for key in settings[0] if len({one.get(key) for one in settings}) > 1]
    if "arch.name" in keys:
        keys = [key for key in keys if key == "arch.name" or not key.startswith("arch.")]
    keys = [key for key in keys if not key.endswith("_target_")][:4]
    labels = [
        "\n".join(
            value if key.endswith(".name") else f"{key}={value}" for key in keys if (value := one.get(key))
        )
        for one in settings
    ]
    return labels if keys and len({*labels}) == len(labels) else [run.path.name for run in runs]
