"""`cnnbench completion bash|zsh`: print the script that completes verbs, config groups and values.

The script calls `cnnbench completion query LINE`, where LINE is the command up to the cursor. Config groups,
their choices and settings come from Hydra's own completion.
"""

from __future__ import annotations

import os
from typing import get_args

from omegaconf import DictConfig

from cnnbench.commands import VERBS
from cnnbench.errors import InputError, suggest
from cnnbench.settings import compose
from cnnbench.settings.model import Ops

BASH = r"""
_cnnbench() {
    local line="${COMP_LINE:0:COMP_POINT}" choices word
    word="${line##*[[:space:]]}"
    mapfile -t choices < <(cnnbench completion query "$line" 2>/dev/null)
    COMPREPLY=("${choices[@]}")
    # bash starts a new word at "=": remove what precedes it
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${choices[@]#"${word%"${word##*=}"}"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" != *[=.] ]]; then COMPREPLY[0]+=" "; fi
}
complete -o nospace -o default -F _cnnbench cnnbench
"""

ZSH = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u }
_cnnbench() {
    local -a choices open closed
    choices=(${(f)"$(cnnbench completion query "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
    if (( $#choices == 0 )); then _files; return; fi
    open=(${(M)choices:#*[=.]}) closed=(${choices:#*[=.]})
    compadd -S '' -- $open
    compadd -- $closed
}
compdef _cnnbench cnnbench
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH}


def main(arguments: list[str]) -> int:
    """Print a shell's completion script, or for `query LINE` the completions of the last word of LINE.

    Raises:
        InputError: an unknown shell.
    """
    match arguments:
        case ["query", line]:
            print("\n".join(choices(line)))
        case ["-h" | "--help"]:
            print("usage: cnnbench completion SHELL\n\nPrint the completion script of bash or zsh:\n")
            print('  eval "$(cnnbench completion bash)"')
        case [shell] if shell in SCRIPTS:
            print(SCRIPTS[shell].strip())
        case _:
            words = " ".join(["cnnbench completion", *arguments])
            raise InputError(f"{words}: {suggest(words.rpartition(' ')[2], SCRIPTS)}")
    return 0


def choices(line: str) -> list[str]:
    """Return the completions of the last word of `line`; none where a path is expected."""
    words = line.split()
    if line[-1:].isspace():
        words.append("")
    if len(words) <= 2:
        return [verb for verb in VERBS if verb.startswith(words[-1] if len(words) == 2 else "")]
    if words[1] in ("train", "inspect", "bench"):
        key, equals, start = words[-1].partition("=")
        if equals and key.startswith("ops.") and (field := Ops.model_fields.get(key[4:])):
            return [f"{key}={value}" for value in get_args(field.annotation) if value.startswith(start)]
        return _hydra("bench" if words[1] == "bench" else "train", " ".join(words[2:]))
    groups = {
        "evaluate": ("arch", "data", "device", "ops"),
        "explain": ("data", "device"),
        "lesson": ("data", "device"),
    }.get(words[1])
    if groups and words[-1].startswith(groups):
        return _hydra("train", words[-1])
    return [shell for shell in SCRIPTS if words[1] == "completion" and shell.startswith(words[-1])]


def _hydra(config_name: str, line: str) -> list[str]:
    """Return Hydra's completions, with the query that its own shell scripts send."""
    from contextlib import redirect_stdout
    from io import StringIO

    def never(config: DictConfig) -> None:
        raise AssertionError("a completion query must not run a job")

    os.environ["COMP_LINE"] = f"cnnbench {line}"
    with redirect_stdout(StringIO()) as output:
        compose.run(never, config_name, ["-sc", "query=bash"])
    return output.getvalue().split()
