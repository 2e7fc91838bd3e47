"""One file a verb, each with `main(arguments) -> exit code`; imported when the verb is called."""

from typing import NamedTuple


class Verb(NamedTuple):
    """One verb: a line of help, and arguments to try."""

    help: str
    example: str


RUN = "outputs/default/basic-digits-s0-51fda7a7fd"

VERBS = {
    "train": Verb("train one configuration, or a sweep with -m", "data=cifar10 arch=resnet20"),
    "inspect": Verb("show a model layer by layer: shapes, parameters, MACs", "arch=vgg16_bn data=cifar10"),
    "bench": Verb("measure speed, memory or exactness of a model on a device", "arch=resnet18 data=cifar10"),
    "runs": Verb("list runs, or show one", "outputs/quickstart"),
    "verify": Verb("check that the files of runs are as they were written", "outputs/quickstart"),
    "compare": Verb("show which choice won, by how much, and whether that is noise", "outputs/ablation_norm"),
    "evaluate": Verb("evaluate a trained run in detail: classes, confusions, calibration", RUN),
    "predict": Verb("classify image files with a trained run", f"{RUN} photos/*.png"),
    "explain": Verb("show what a trained run has learned, in pictures", f"{RUN} --html digits.html"),
    "lesson": Verb("take a trained run apart, layer by layer, on an offline page", RUN),
    "export": Verb("write a trained run as ONNX or torch.export, verified", f"{RUN} --output digits.onnx"),
    "sync": Verb("upload to W&B what was logged offline", "outputs/ablation_norm"),
    "dashboard": Verb("lay out a W&B workspace for an experiment", "outputs/ablation_norm --save"),
    "completion": Verb("print the shell completion script", "bash"),
}
