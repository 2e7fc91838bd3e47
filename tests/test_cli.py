"""The command line: help, completion, and the packages that they must not import."""

import os
import shutil
import subprocess
import sys

import pytest
from running import command

HEAVY = "{'torch', 'lightning', 'torchvision', 'wandb', 'wandb_workspaces', 'sklearn', 'numpy', 'scipy'}"


def imported(*arguments):
    """Return the output of a process with these arguments, and the heavy packages that it imports."""
    script = (
        "import sys\nfrom cnnbench.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', sorted({HEAVY} & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return process.stdout.rpartition("heavy: ")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["train", "--cfg", "job"], ["train", "--help"], ["runs", "--help"],
     ["inspect", "--help"], ["compare", "--help"], ["sync", "--help"], ["dashboard", "--help"],
     ["evaluate", "--help"], ["predict", "--help"], ["export", "--help"], ["evaluate", "nowhere"],
     ["sync", "nowhere"], ["completion", "bash"], ["completion", "query", "cnnbench train arch="],
     ["train", "arch=basik"]],
    ids=" ".join,
)  # fmt: skip
def test_nothing_heavy_is_imported_for(arguments):
    output, _, heavy = imported(*arguments)
    assert heavy.strip() == "[]"
    assert output or arguments in (["train", "arch=basik"], ["sync", "nowhere"], ["evaluate", "nowhere"])


def test_help_names_every_verb_with_an_example(cli):
    code, out, _ = cli("--help")
    assert code == 0
    for verb in (
        "train",
        "inspect",
        "runs",
        "compare",
        "evaluate",
        "predict",
        "explain",
        "lesson",
        "export",
        "sync",
        "dashboard",
        "completion",
    ):
        assert f"cnnbench {verb}" in out
    assert cli() == (0, out, "")


def test_help_of_inspect(cli):
    with pytest.raises(SystemExit) as end:
        cli("inspect", "--help")
    assert end.value.code == 0


def test_help_of_train_lists_groups_and_choices(cli):
    with pytest.raises(SystemExit) as end:
        cli("train", "--help")
    assert end.value.code == 0


def test_the_console_script_and_the_module_are_the_same_command():
    script = shutil.which("cnnbench", path=os.path.dirname(sys.executable))  # noqa: PTH120
    arguments = ["train", "--cfg", "job", "arch=mlp"]
    outputs = [
        subprocess.run(start, capture_output=True, text=True, check=True).stdout
        for start in ([script, *arguments], command(*arguments))
    ]
    assert outputs[0] == outputs[1]
    assert "cnnbench.models.mlp.mlp" in outputs[0]


LINES = {
    "cnnbench tr": ["train"],
    "cnnbench train arch=ml": ["arch=mlp", "arch=mlp_macs", "arch=mlp_params"],
    "cnnbench train -m scheduler=": [
        f"scheduler={s}" for s in ("constant", "cosine", "onecycle", "plateau", "step")
    ],
    "cnnbench train arch=mlp trainer.max_e": ["trainer.max_epochs="],
    "cnnbench completion z": ["zsh"],
    "cnnbench inspect arch=ml": ["arch=mlp", "arch=mlp_macs", "arch=mlp_params"],
    "cnnbench evaluate RUN data=fash": ["data=fashion_mnist"],
    "cnnbench evaluate RUN device.thr": ["device.threads="],
    "cnnbench explain RUN device.thr": ["device.threads="],
    "cnnbench predict RUN --": [],
    "cnnbench train -m ops.pool=max": ["ops.pool=max", "ops.pool=max_blur"],
}


@pytest.mark.parametrize("line", LINES)
def test_completion(line, cli):
    assert cli("completion", "query", line)[1].split() == LINES[line]


def test_completion_in_bash():
    """Call the completion function with the variables that bash sets; `=` starts a word there."""
    script = (
        'eval "$(cnnbench completion bash)"\n'
        'COMP_LINE="cnnbench train scheduler=co"; COMP_POINT=${#COMP_LINE}\n'
        '_cnnbench; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert shell("bash", "--norc", "-c", script).split() == ["constant", "cosine"]


@pytest.mark.slow
def test_completion_in_zsh():
    """Press Tab in an interactive zsh in a pseudo-terminal."""
    script = (
        "zmodload zsh/zpty; zpty z zsh -f -i\n"
        "zpty -w z 'PS1=; eval \"$(cnnbench completion zsh)\"'; sleep 3\n"
        "zpty -n -w z $'cnnbench train arch=ml\\t'; sleep 4\n"
        "zpty -r z out; while zpty -rt z more; do out+=$more; done; print -r -- $out"
    )
    assert "arch=mlp" in shell("zsh", "-f", "-c", script)


def shell(*arguments):
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
    return subprocess.run(
        arguments, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
    ).stdout
