"""Measurements in a comparison: matched by model, compared by ratios, and never dropped silently."""

import json
from math import exp, log

import pytest
from made_runs import make_measurement, make_run

from cnnbench.comparison import filter as run_filter
from cnnbench.comparison.comparison import Options, compare
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.records import read, record
from cnnbench.comparison.report import files, wording
from cnnbench.comparison.report.page import page
from cnnbench.comparison.report.terminal import constant
from cnnbench.errors import InputError

OUT_OF_MEMORY = {"error": {"type": "OutOfMemory", "message": "batch_sizes=64: out of memory in training"}}


@pytest.fixture
def measure(tmp_path):
    return lambda **said: make_measurement(tmp_path / "bench", **said)


@pytest.fixture
def trained(tmp_path):
    return lambda **said: record(make_run(tmp_path / "trained", **said))


class TestWhatBelongsTogether:
    @pytest.mark.parametrize(
        ("model", "figures"),
        [
            ({"width": 0.25}, {}),
            ({"norm": "group"}, {}),
            ({"arch": "vgg13"}, {}),
            ({}, {"macs": 6000}),  # larger images
            ({}, {"params": 1001}),  # another class
        ],
    )
    def test_another_model_or_size_has_another_latency(self, measure, trained, model, figures):
        found = compare([trained(), measure(**model, figures=figures)])
        assert not any("latency" in key for key in found.rows[0].members[0].records[0].figures)
        (note,) = [note for note in found.notes if "cnnbench bench" in note]
        assert note.startswith("0 of 1 cnnbench bench measurement matched to 0 of 1 trained run")
        (key,) = {**model, **figures}
        assert {"width": "arch.width", "norm": "ops.norm", "arch": "arch."}.get(key, key) in note

    def test_the_data_set_and_the_training_do_not_matter(self, measure, trained):
        """Only the image size and the number of classes matter, and params and MACs reflect both."""
        runs = [trained(data=data, lr=lr) for data in ("digits", "mnist") for lr in (0.1, 0.2)]
        found = compare([*runs, measure(data="cifar10", lr=0.3, ms=7.0)])
        assert [row.mean("latency_p50_ms") for row in found.rows] == [7.0] * 4

    def test_ways_have_a_column_each(self, measure, trained):
        ways = [measure(backend=b, threads=t, ms=m) for b, t, m in (("eager", 1, 4.0), ("compile", 2, 2.0))]
        (row,) = compare([trained(), *ways]).rows
        assert row.mean("latency_p50_ms (backend=eager, threads=1)") == 4.0
        assert row.mean("latency_p50_ms (backend=compile, threads=2)") == 2.0

    def test_weights_that_a_run_started_from_are_no_way_to_measure(self, measure, trained):
        (row,) = compare([trained(), measure(ms=4.0), measure(ms=6.0, weights="imagenet", seed=1)]).rows
        assert row.mean("latency_p50_ms") == 5.0


class TestRepeats:
    def test_what_auto_was_counts(self, measure):
        """Runs on all cores of two machines are no repeats, though both were configured with `null`."""
        asked = {"device": {"name": "auto", "threads": None}}
        two, sixteen = (
            measure(seed=seed, threads=threads, asked=asked) for seed, threads in enumerate((2, 16))
        )
        found = compare([two, sixteen])
        assert found.columns == ["device.threads"]
        assert [row.n for row in found.rows] == ["1", "1"]
        spelled = measure(seed=2, threads=2, asked={"device": {"name": "cpu", "threads": 2}})
        assert [row.n for row in compare([two, spelled]).rows] == ["2"], "auto was the CPU, and null 2"

    def test_two_measurements_of_one_choice_always_differ(self, measure, tmp_path):
        twice = [make_measurement(tmp_path / name, ms=ms, name=name) for name, ms in (("a", 4.0), ("b", 5.0))]
        notes = compare(twice).notes
        assert any("counted once" in note for note in notes)
        assert not any("different metrics" in note for note in notes)

    def test_versions_of_what_ran_the_model(self, measure, trained):
        runtimes = [
            measure(backend="onnxruntime", seed=i, device_is={"runtime": f"onnxruntime 1.{i}"})
            for i in range(2)
        ]
        said = "mixed onnxruntime versions: onnxruntime 1.0 (1 run), onnxruntime 1.1 (1 run)"
        assert said in compare(runtimes).notes
        assert f"measurements: {said}" in compare([trained(), *runtimes]).notes


class TestBesideTrainedRuns:
    def test_a_figure_by_its_key_in_the_summary(self, measure, trained):
        run, eager = trained(), measure(ms=4.0)
        found = compare([run, eager], Options(metric="time/latency_p50_ms"))
        assert found.metric.key == "latency_p50_ms"
        assert found.rows[0].mean(found.metric.key) == 4.0
        ways = [run, eager, measure(backend="compile")]
        with pytest.raises(InputError, match=r"did you mean latency_p50_ms \(backend=\w+\)\?"):
            compare(ways, Options(metric="time/latency_p50_ms"))
        assert compare(ways, Options(metric="time/latency_p50_ms (backend=eager)")).metric.label

    def test_their_settings_are_no_axes(self, measure, trained):
        run, eager = trained(), measure()
        said = r"--by backend: a setting of measurements, .* allowed: as a condition \(backend=VALUE\)"
        with pytest.raises(InputError, match=said):
            compare([run, eager], Options(by=("backend",)))
        with pytest.raises(InputError, match="--baseline backend: a setting of measurements"):
            compare([run, eager], Options(baselines={"backend": "eager"}))
        assert compare([eager], Options(by=("backend",))).rows


class TestNothingVanishes:
    @pytest.mark.parametrize("beside", [True, False])
    def test_a_measurement_that_failed_is_named(self, measure, trained, beside):
        failed = measure(state="failed", error="it broke")
        found = compare([failed, *([trained()] if beside else [measure(arch="vgg13")])])
        assert f"{failed.run.path.name} failed: RuntimeError: it broke" in found.notes
        if beside:
            assert [one["error"] for one in json.loads(files.to_json(found))["measurements"]] == [
                failed.error
            ]

    @pytest.mark.parametrize("beside", [True, False])
    def test_what_fits_counts_where_a_batch_did_not(self, measure, trained, beside):
        full = measure(state="failed", status=OUT_OF_MEMORY, ms=4.0)
        found = compare([full, *([trained()] if beside else [])])
        (row,) = found.rows
        assert row.mean("latency_p50_ms" if beside else "time/latency_p50_ms") == 4.0
        assert row.n == "1"
        assert any("batch_sizes=64: out of memory in training" in note for note in found.notes)

    def test_damaged_files_of_measurements_are_problems(self, measure, trained):
        broken = measure()
        (broken.run.path / "metrics.csv").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
        found = compare([trained(), record(broken.run)])
        assert any("metrics.csv: was changed since the run ended" in problem for problem in found.problems)

    def test_parity_and_tune(self, measure, trained):
        parity = measure(asked={"parity": True})
        said = "1 parity or tune run left out (cnnbench runs lists them)"
        assert said in compare([trained(), parity]).notes
        assert said in compare([measure(), parity]).notes
        assert said not in compare([parity]).notes, "there is nothing else"

    def test_noise(self, measure):
        loud = {"noise/others_cpu": 0.4, "noise/latency_spread": 0.05, "noise/training_spread": 0.3}
        notes = compare([measure(figures=loud), measure(seed=1)]).notes
        assert any(note.startswith("other processes used the CPU in 1 of 2") for note in notes)
        assert any(note.startswith("rounds varied in 1 of 2 measurements (up to 30 %)") for note in notes)

    def test_what_belongs_to_no_run_says_nothing(self, measure, trained):
        loud = {"noise/others_cpu": 0.4, "memory/batch": 256}
        notes = compare([trained(), measure(), measure(arch="vgg13", backend="compile", figures=loud)]).notes
        assert not any("other processes" in note or "activations" in note for note in notes)
        assert any(note.startswith("1 of 2 cnnbench bench measurements matched") for note in notes)

    def test_unequal_batches_are_not_to_be_compared(self, measure):
        cells = [measure(arch="vgg11"), measure(arch="vgg13", figures={"memory/batch": 256})]
        found = compare(cells)
        assert (
            "activations MB was measured at batch sizes of 1 to 256 images: not comparable between rows"
            in found.notes
        )
        assert "memory/batch" in found.columns_of_figures
        assert "memory/batch" not in compare(cells[:1]).columns_of_figures


class TestRatios:
    """A millisecond is much for a small network and little for a large one."""

    @pytest.fixture
    def cells(self, measure):
        families = {"vgg11": (4.0, 0.5), "resnet18": (40.0, 0.5), "alexnet": (400.0, 0.32)}
        return [
            measure(arch=arch, backend=backend, ms=ms * (factor if backend == "compile" else 1), seed=seed)
            for arch, (ms, factor) in families.items()
            for backend in ("eager", "compile")
            for seed in (0, 1)
        ]

    def test_the_effect_is_a_ratio(self, cells):
        found = compare(cells)
        effect = next(e for e in found.effects if e.axis == "backend" and e.families == 3)
        logs = [log(0.5), log(0.5), log(0.32)]
        mean = sum(logs) / 3
        error = (sum((x - mean) ** 2 for x in logs) / 2 / 3) ** 0.5
        assert effect.size.mean == pytest.approx(exp(mean))
        assert effect.size.low == pytest.approx(exp(mean - 4.302653 * error), rel=1e-5)
        assert effect.size.high == pytest.approx(exp(mean + 4.302653 * error), rel=1e-5)
        inner = next(e for e in found.effects if e.axis == "backend" and e.family == "resnet")
        assert wording.sentence(inner, found.metric).startswith("no random variation: ×0.50, 2 pairs")
        assert "backend=compile against eager, latency p50 ms: " in files.to_markdown(found)

    def test_lower_is_said_of_a_ratio_below_one(self, measure):
        cells = [
            measure(arch=arch, backend=backend, ms=ms * (0.5 + 0.01 * i if backend == "compile" else 1))
            for i, (arch, ms) in enumerate({"vgg11": 4.0, "resnet18": 9.0, "alexnet": 2.0}.items())
            for backend in ("eager", "compile")
        ]
        found = compare(cells)
        effect = next(e for e in found.effects if e.axis == "backend" and e.families == 3)
        assert effect.shown
        assert wording.verdict(effect, found.metric) == "lower"
        speed = compare(cells, Options(metric="time/inference_images_per_s"))
        effect = next(e for e in speed.effects if e.axis == "backend" and e.families == 3)
        assert wording.verdict(effect, speed.metric) == "higher"
        assert effect.size.mean == pytest.approx(1 / 0.51, rel=1e-3)

    def test_two_repeats_that_hardly_agree_are_still_a_number(self, measure):
        found = {"eager": (1e-3, 1e3), "compile": (1e30, 1e-30)}
        cells = [measure(backend=b, seed=s, ms=ms) for b, both in found.items() for s, ms in enumerate(both)]
        (effect,) = compare(cells).effects
        json.dumps([effect.size.low, effect.size.high], allow_nan=False)

    @pytest.mark.parametrize(
        ("key", "ratio"),
        [
            ("time/latency_p50_ms", True),
            ("latency_p50_ms (backend=eager)", True),
            ("memory/activations_mb", True),
            ("time/wall_s", True),
            ("params", True),
            ("time/share_of_roofline", False),
            ("test/acc", False),
            ("test/loss", False),
            ("best/epoch", False),
        ],
    )
    def test_which(self, key, ratio):
        assert figure(key).ratio is ratio


class TestWhatIsAskedFor:
    def test_the_fastest_stands_for_what_is_selected(self, measure):
        cells = [measure(threads=threads, ms=8 / threads) for threads in (1, 2, 4)]
        found = compare(cells, Options(select=("device.threads",)))
        (row,) = found.rows
        assert row.score.mean == 2.0
        assert any(note.startswith("device.threads: chosen on latency p50 ms within") for note in found.notes)

    @pytest.mark.parametrize(
        ("condition", "runs", "latency"),
        [
            ("seed=1", 1, 4.0),  # of what was trained
            ("optimizer.lr=0.2", 1, 4.0),
            ("name=made", 3, 4.0),
            ("backend=compile", 3, 2.0),  # of the measurements
            ("device.threads=2", 3, 2.0),
            ("batch_sizes=[1,8]", 3, 3.0),
            ("batch_sizes=auto,[1, 8]", 3, 3.0),
            ("arch=vgg11", 2, 4.0),  # of both
        ],
    )
    def test_conditions(self, measure, trained, tmp_path, condition, runs, latency):
        trained(), trained(seed=1, arch="vgg13"), trained(lr=0.2)
        for arch in ("vgg11", "vgg13"):
            measure(arch=arch, ms=4.0)
            measure(arch=arch, ms=2.0, backend="compile", threads=2)
            measure(arch=arch, ms=3.0, asked={"batch_sizes": [1, 8]})
        key, _, value = condition.partition("=")
        found = compare(run_filter.select_records(read([tmp_path]), [(key, value)]))
        assert len(found.records) == runs
        names = [k for k in found.columns_of_figures if k.startswith("latency")]
        assert latency in [row.mean(name) for row in found.rows for name in names]

    def test_the_machine_is_named_before_anything_else(self, measure):
        found = compare([measure(width=0.5, head="gap"), measure(arch="vgg13", width=0.5, head="gap")])
        first = constant(found.constant).split("  ")[:8]
        assert {"all runs: backend=eager", "device.model=a CPU", "device.threads=1"} <= set(first)
        assert "device.model=a CPU" in files.to_markdown(found)
        assert "device.model=a CPU" in files.to_latex(found)

    def test_the_page_has_what_was_measured(self, measure, trained, tmp_path):
        text = page(compare([trained(), measure()]), "x", tmp_path / "page.html")
        data = json.loads(text.split('id="data"')[1].split(">", 1)[1].split("</script>")[0])
        assert {"latency_p50_ms", "inference_images_per_s", "memory_activations_mb"} <= set(data["costs"])
