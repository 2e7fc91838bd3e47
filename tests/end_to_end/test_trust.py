"""No verb runs, imports, downloads or writes what a run of somebody else's names.

Every section in `hostile_runs.SECTIONS` with every verb that reads a run: some of the pairs each time, all of
them with CNNBENCH_SEARCH=all.
"""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hostile_runs import (
    CALLING,
    QUICK,
    READING,
    SECTIONS,
    STRANGE,
    SWEEPS,
    content,
    lay_traps,
    places,
    rewrite,
    spell,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from search import ALL, examples, sample

from cnnbench import commands
from cnnbench.errors import InputError
from cnnbench.inference import trained_model
from cnnbench.ops.factory import Ops
from cnnbench.run_store.run import Run
from cnnbench.settings import instantiate
from cnnbench.settings.bench import Bench, UntrustedBench
from cnnbench.settings.code import own_code
from cnnbench.settings.model import Arch, UntrustedArch
from cnnbench.settings.parse import parse
from cnnbench.sweeps import preflight
from cnnbench.training.model import assemble, sketch

pytest_plugins = ["finished_fixtures"]

VERBS = CALLING | SWEEPS | READING

PAIRS = [(verb, section) for verb in VERBS for section in SECTIONS]


LONG = pytest.mark.timeout(7200 if ALL else 300)


@pytest.fixture
def hostile(digits, copied, tmp_path):
    """`hostile(section)`: a run with this `arch`, in a folder with traps; and the words that name it."""
    run, other = copied(digits), copied(digits, "again/other")
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    lay_traps(tmp_path)
    around = places(run, tmp_path) | {"other": other.path, "image": tmp_path / "image.png"}
    around["above"] = tmp_path / "copies" / "copied"
    original = run.config()

    def make(section):
        arch = {"name": "basic", **spell(SECTIONS[section], **around)}
        for copy in (run, other):
            rewrite(copy, original | {"arch": arch})
        return around

    return make


def check(verb, section, around, cli):
    """Nothing is written, and whoever would build the model says so in one line."""
    before = content(Path.cwd())
    code, out, err = cli(*spell(VERBS[verb], **around))
    assert content(Path.cwd()) == before, (verb, section)
    assert str(Path.cwd()) not in sys.path, (verb, section)
    assert not [name for name in sys.modules if name.startswith(STRANGE)], (verb, section)
    assert "Traceback" not in out + err, (verb, section)
    if verb not in READING:
        assert code == 2, (verb, section, out, err)
        assert (out, err.count("\n")) == ("", 1), (verb, section, out, err)
        assert err.startswith("error: "), (verb, section, err)


def test_every_verb_that_reads_runs_is_tried():
    others = {"train", "completion"}  # which read no run that a user names
    writing = {"dashboard"}  # of texts alone; tests/commands/test_dashboard.py
    assert {words[0] for words in VERBS.values()} == commands.VERBS.keys() - others - writing


@pytest.mark.parametrize("verb", CALLING | READING)
def test_each_verb_refuses(verb, hostile, cli):
    for section in ("_target_=os.system", f"_target_={STRANGE}.net"):
        around = hostile(section)
        check(verb, section, around, cli)
        if verb in CALLING:
            _, _, err = cli(*spell(VERBS[verb], **around))
            assert "is not an architecture of cnnbench" in err
            assert "--trust-code (bench: trust_code=true)" in err


@LONG
def test_some_of_all_pairs(hostile, cli):
    for verb, section in sample([pair for pair in PAIRS if pair[0] not in SWEEPS], share=0.05):
        check(verb, section, hostile(section), cli)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_all_sections(verb, hostile, cli):
    for section in sample(list(SECTIONS), share=1 if verb not in SWEEPS else 0.2):
        check(verb, section, hostile(section), cli)


@pytest.mark.parametrize("words", [CALLING["evaluate"], CALLING["bench"]], ids=["evaluate", "bench"])
def test_what_is_trusted_leaves_a_trace(words, hostile, cli):
    """So the tests above would see it."""
    around = hostile(f"_target_={STRANGE}.net")
    trust = "trust_code=true" if words[0] == "bench" else "--trust-code"
    _, _, err = cli(*spell(words, **around), trust)
    assert Path("trace").exists(), err


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["${oc.env:HOME}", "${", "???", "os.system", "~nobody", "/dev/zero", "\0", "x" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

KEYS = ("seed", "arch", "ops", "data", "device", "name", "verb", "of", "backend", "hydra", "optimizer")


@st.composite
def configs(draw):
    """Changes of a config: sections replaced or with other keys, and a target that is not to be called."""
    changes = draw(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=3))
    arch = SECTIONS[draw(st.sampled_from(sorted(SECTIONS)))]
    extra = draw(
        st.dictionaries(st.sampled_from(["blocks", "width", "weights", "freeze", "native", "_code_"]), JUNK)
    )
    return draw(
        st.sampled_from([{"arch": {"name": "basic", **extra, **arch}} | changes, changes | {"arch": arch}])
    )


@LONG
def test_configs_of_any_kind(hostile, cli):
    around = hostile("no target")
    run = Run(around["run"])
    original = run.config()

    @examples(25)
    @given(configs(), st.sampled_from(sorted(CALLING)))
    def search(changes, verb):
        rewrite(run, original | spell(changes, **around))
        check(verb, changes, around, cli)

    search()


# --- the types ------------------------------------------------------------------------------------


def measurement(run, **changes):
    """A measurement of a run, as the command line describes it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from cnnbench.settings.compose import CONF

    GlobalHydra.instance().clear()
    with initialize_config_dir(CONF, version_base="1.3"):
        plain = OmegaConf.to_container(compose("bench", [f"of={run.path}"]), resolve=True)
    return parse(plain | changes)


def test_the_mark_of_a_run_survives_copies_and_pickling(digits):
    for settings in (measurement(digits), trained_model.settings(digits)):
        assert type(settings.arch) is UntrustedArch
        for copy in (pickle.loads(pickle.dumps(settings)), settings.model_copy(update={"seed": 3})):
            assert type(copy.arch) is UntrustedArch
        assert type(pickle.loads(pickle.dumps(settings.arch.model_copy()))) is UntrustedArch
    trusted = (measurement(digits, trust_code=True), trained_model.settings(digits, trust_code=True))
    assert [type(settings.arch) for settings in trusted] == [Arch, Arch]


def test_the_call_itself_refuses(digits):
    """Whoever asks for the model, and whether or not it was asked before."""
    section = {"name": "basic", "_target_": "os.system", "command": "touch trace"}
    settings = measurement(digits).model_copy(update={"arch": UntrustedArch.model_validate(section)})
    with pytest.raises(InputError, match="is not an architecture of cnnbench"):
        assemble(settings.arch, Ops(**settings.resolved_ops()), (1, 8, 8), 10)
    with pytest.raises(InputError, match="is not an architecture of cnnbench"):
        sketch(settings)
    (reason,) = preflight.check([settings], cores=1, here=True).errors.values()
    assert "is not an architecture of cnnbench" in reason
    assert not Path("trace").exists()


def test_the_mark_is_not_part_of_what_is_recorded(digits):
    marked, trusted = measurement(digits), measurement(digits, trust_code=True)
    assert (type(marked), type(trusted)) == (UntrustedBench, Bench)
    assert marked.choice() == trusted.choice()
    assert marked.config() | {"trust_code": True} == trusted.config()


def test_every_architecture_that_is_shipped_can_be_called():
    folder = Path(instantiate.__file__).parents[2] / "conf" / "arch"
    targets = {yaml.safe_load(file.read_text())["_target_"] for file in folder.glob("*.yaml")}
    assert instantiate.shipped("arch") == targets
    assert len(targets) > 10


# --- the working folder, which may be the run itself ----------------------------------------------


MISSING = """
import importlib.abc, json, sys
asked = set()
class Spy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if path is None:
            asked.add(name)
sys.meta_path.append(Spy())
from cnnbench.cli import main
code = main(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps(sorted(asked)))
sys.exit(code)
"""


INSIDE = [
    ["evaluate", "."],
    ["predict", ".", "image.png"],
    ["export", ".", "--output", "../net.onnx"],
    ["bench", "of=.", "output_dir=../outputs", *QUICK],
    ["bench", "of=.", "backend=onnxruntime", "output_dir=../outputs", *QUICK],
]
"""Commands that are given inside the folder of a run."""


@pytest.mark.slow
@pytest.mark.parametrize("words", sample(INSIDE, least=2), ids=lambda words: " ".join(words[:3]))
def test_libraries_find_nothing_in_the_working_folder(words, digits, tmp_path):
    """They try to import dozens of modules that are not installed; a run could bring them along."""
    shutil.copytree(digits.path, tmp_path / "run")
    Image.new("L", (8, 8)).save(tmp_path / "run" / "image.png")
    script = [sys.executable, "-P", "-c", MISSING, str(tmp_path / "asked"), *words]
    done = subprocess.run(script, cwd=tmp_path / "run", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = yaml.safe_load((tmp_path / "asked").read_text())
    assert len(names) > 10
    for name in [*names, "json", "numpy", "torch", "sitecustomize"]:
        (tmp_path / "run" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})")
    shutil.rmtree(tmp_path / "outputs", ignore_errors=True)
    script = [str(Path(sys.executable).parent / "cnnbench"), *words]
    done = subprocess.run(script, cwd=tmp_path / "run", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


def test_the_working_folder_is_searched_for_nothing_but_code_of_the_user(digits, cli):
    """So the libraries in the test above find nothing."""
    assert cli("evaluate", digits.path)[0] == 0
    assert cli("inspect", "arch=basic")[0] == 0
    assert own_code("torch.optim.SGD") is None
    assert str(Path.cwd()) not in sys.path
    Path("mine.py").write_text("")
    assert own_code("mine.net") is not None
    assert str(Path.cwd()) in sys.path


def test_only_a_folder_that_the_user_names_receives_a_download(digits, copied, tmp_path, cli, monkeypatch):
    asked = []

    def download(self):
        asked.append(Path(self.root))
        raise RuntimeError("no network here")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)
    run, place = copied(digits), tmp_path / "of" / "the" / "stranger"
    config = run.config()
    config["data"] |= {"name": "mnist", "root": str(place)}
    rewrite(run, config)
    code, _, err = cli("evaluate", run.path)
    assert (code, err.count("\n"), asked, place.exists()) == (2, 1, [], False)
    assert "data.root=FOLDER downloads to it" in err
    assert cli("evaluate", run.path, f"data.root={tmp_path / 'mine'}")[0] == 2
    assert asked == [tmp_path / "mine"]


class Touches:
    def __reduce__(self):
        return Path.touch, (Path("trace"),)


@pytest.mark.parametrize("flag", ["--experimental-rerun", "--exp"])
def test_no_pickled_configuration_is_run_again(flag, cli):
    Path("config.pickle").write_bytes(pickle.dumps(Touches()))
    code, _, err = cli("train", f"{flag}=config.pickle")
    assert (code, Path("trace").exists()) == (2, False)
    assert "no such option" in err
