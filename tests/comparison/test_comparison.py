"""Comparisons: seeds are pooled, tuned settings are chosen on val, and every run is counted."""

import json

import pytest
import yaml
from cells import ARCHS
from comparison_support import effects, table
from made_runs import make_run

from cnnbench.comparison.comparison import Options, compare
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.records import read, record
from cnnbench.comparison.report import wording
from cnnbench.comparison.report.terminal import picture
from cnnbench.errors import InputError
from cnnbench.models.family import NAMES, PATTERNS, family, is_known
from cnnbench.run_store.run import Run


class TestRows:
    def test_a_setting_that_came_later_has_its_first_value_in_other_runs(self, run, tmp_path):
        for seed in range(2):
            run(norm="none", seed=seed, test=0.2)
            run(norm="none", seed=seed, test=0.6 + seed / 100, init="fixup")
        records = read([tmp_path])
        assert sorted(one.settings["ops.init"] for one in records) == ["fixup"] * 2 + ["native"] * 2
        (effect,) = [one for one in compare(records).effects if one.family]
        assert (effect.axis, effect.value, effect.baseline) == ("ops.init", "fixup", "native")
        assert effect.pairs == 2
        config = yaml.safe_load((other := run(arch="torchvision.vgg11").path / "config.yaml").read_text())
        other.write_text(yaml.safe_dump(config | {"ops": {}}))
        (foreign,) = [one for one in read([tmp_path]) if one.settings["arch.name"].startswith("torchvision")]
        assert "ops.init" not in foreign.settings, "ops do not apply to it"

    def test_the_older_name_of_a_setting_is_no_other_configuration(self, run):
        """`arch.zero_init=true` is the network of `ops.init=zero`."""
        ways = [{"zero_init": True}, {"zero_init": False, "init": "zero"}, {"zero_init": False}]
        runs = [run(arch="resnet18", seed=s, test=0.5, **way) for s, way in enumerate(ways)]
        runs.append(run(arch="resnet18", seed=0, test=0.4, zero_init=False))
        found = compare(map(record, runs), Options(by=("ops.init",)))
        assert found.axes == ["ops.init"]
        (effect,) = found.effects
        assert (effect.baseline, effect.value, effect.pairs) == ("native", "zero", 1)
        assert sorted(row[:2] for row in table(runs)[1:]) == [["native", "2"], ["zero", "2"]]

    def test_seeds_are_pooled_and_the_best_val_comes_first(self, run):
        runs = [run(norm="batch", seed=s, val=0.8, test=t) for s, t in enumerate((0.7, 0.72, 0.74))]
        runs += [run(norm="group", seed=s, val=0.9, test=0.6 + s / 100) for s in range(2)]
        headers, first, second = table(runs)
        assert headers[:4] == ["ops.norm", "n", "test acc % [95 %]", "val acc %"]
        assert first[:2] == ["group", "2"]
        assert second[:4] == ["batch", "3", "72.00 [67.03, 76.97]", "80.00"], "t(2 df) = 4.303, sd 2, n 3"

    def test_one_seed_has_no_interval_and_says_so(self, run):
        assert table([run(norm="batch", test=0.8), run(norm="none", test=0.7)])[1][2] == "80.00 [one run]"

    def test_what_did_not_finish_is_counted(self, run):
        runs = [run(seed=0), run(seed=1, state="diverged"), run(seed=2, state="failed"), run(seed=3)]
        runs += [run(norm="none", seed=s, state="failed") for s in range(2)]
        _, first, last = table(runs)
        assert first[1] == "2 of 4 (1 diverged, 1 failed)"
        assert last[:3] == ["none", "0 of 2 (2 failed)", "-"], "what failed everywhere is still a row"

    def test_an_interval_ends_where_a_share_does(self, run):
        runs = [run(seed=s, test=t) for s, t in enumerate((0.99, 0.999))]
        assert table(runs)[1][2].endswith(", 100.00]")

    def test_the_same_run_in_two_experiments_counts_once(self, run, tmp_path):
        runs = [run(seed=s, test=0.8 + s / 100) for s in range(2)]
        runs += [make_run(tmp_path / "other", seed=s, test=0.8 + s / 100, name="other") for s in range(2)]
        found = compare([record(one) for one in runs])
        assert found.rows[0].n == "2"
        assert found.rows[0].score.n == 2
        assert "2 runs are copies of another (same settings and seed): counted once" in found.notes

    def test_a_finished_run_stands_for_an_unfinished_one_of_the_same_choice(self, run, tmp_path):
        runs = [run(state="interrupted"), make_run(tmp_path / "z")]
        assert compare([record(one) for one in runs]).states == {"finished": 1}

    def test_one_is_singular(self, run, tmp_path):
        runs = [run(), make_run(tmp_path / "other")]
        note = "1 run is a copy of another (same settings and seed): counted once"
        assert note in compare(map(record, runs)).notes
        runs = [run(lr=0.2), run(lr=0.3, act="gelu")]
        (note, *_) = compare([record(one) for one in runs], Options(select=("optimizer.lr",))).notes
        assert note.startswith("optimizer.lr: chosen on val within each row, from 1 value; UNEQUAL")
        shown = picture(compare([record(one) for one in runs[:1]], Options(by=("ops.act",))))
        titles = [part.title.plain for part in shown.renderables if hasattr(part, "title")]
        assert titles == ["1 value, sorted by val acc"]

    def test_the_same_choice_with_other_figures_is_noticed(self, run, tmp_path):
        runs = [run(test=0.9), make_run(tmp_path / "other", test=0.8)]
        notes = compare([record(one) for one in runs]).notes
        assert any(note.startswith("1 copy has different metrics") for note in notes)

    def test_a_copy_of_an_older_version_has_fewer_figures(self, run, tmp_path):
        again = make_run(tmp_path / "again", figures={"test/f1_macro": 0.8})
        notes = compare([record(run()), record(again)]).notes
        assert not any("different metrics" in note for note in notes)

    def test_where_everything_diverged_there_is_still_a_table(self, run):
        runs = [run(seed=s, state="diverged") for s in range(2)]
        for one in runs:
            (one.path / "summary.json").write_text(json.dumps({"params": 1000}))
        assert table(runs)[1][1:3] == ["0 of 2 (2 diverged)", "-"]

    def test_rows_without_val_are_in_the_order_of_their_settings(self, run):
        runs = [run(lr=lr, val=None, test=lr) for lr in (0.3, 0.02, 0.1)]
        found = compare([record(one) for one in runs])
        assert [row.settings["optimizer.lr"] for row in found.rows] == ["0.02", "0.1", "0.3"]
        titles = [part.title.plain for part in picture(found).renderables if hasattr(part, "title")]
        assert titles[0] == "3 configurations", "sorted by nothing that a row has"

    def test_runs_that_ended_before_their_average_or_by_time_are_noticed(self, tmp_path):
        recipe, ended = {"swa": 0.5, "max_epochs": 4, "max_time": 1.0}, {"stopped": "trainer.max_time"}
        runs = [
            make_run(tmp_path, seed=n, trainer=recipe, val=val, curve=[0.9] * n, figures={"epochs": n} | more)
            for n, val, more in (
                (4, 0.9, {"best/epoch": 2}),
                (3, 0.9, {"best/epoch": 1} | ended),
                (1, None, ended),
            )
        ]
        said = " ".join(compare([record(one) for one in runs]).notes)
        assert "2 of 3 runs with trainer.swa tested an epoch before its average began" in said
        assert "2 of 3 runs with trainer.max_time were ended by it, after 1 to 3 epochs" in said

    def test_n_counts_the_runs_that_have_the_metric(self, run):
        runs = [run(seed=0, figures={"test/loss": 0.5}), run(seed=1), run(seed=2, state="failed")]
        runs += [run(norm="none", seed=s, figures={"test/loss": 0.4}) for s in range(2)]
        _, none, batch = table(runs, metric="test/loss", sort="test/loss")
        assert none[1] == "2"
        assert batch[1:3] == ["1 of 3 (1 failed, 1 without test/loss)", "0.5 [one run]"]
        effect = effects(runs, metric="test/loss")["ops.norm", "none", "vgg"]
        assert wording.pairs(effect) == "1 pair, 1 lost (without test/loss)"

    @pytest.mark.parametrize(
        ("sort", "first"),
        [("", "b"), ("test/acc", "a"), ("time/wall_s", "a"), ("time/images_per_s", "b"), ("arch", "a")],
    )
    def test_sorting(self, run, sort, first):
        a = {"time/wall_s": 1.0, "time/images_per_s": 1.0}
        runs = [run(arch="a", val=0.1, test=0.9, figures=a), run(arch="b", val=0.2, test=0.8)]
        assert table(runs, sort=sort)[1][0] == first

    def test_any_figure_of_the_summary_is_a_metric(self, run):
        loss = {"test/loss": 0.25}
        headers, row = table([run(seed=s, figures=loss) for s in range(2)], metric="test/loss")
        assert headers[2] == "test loss [95 %]"
        assert row[2] == "0.25"


class TestTuning:
    def test_the_rate_is_chosen_on_val_within_each_cell(self, run):
        runs = [
            run(norm="batch", lr=0.1, val=0.9, test=0.5),
            run(norm="batch", lr=0.01, val=0.8, test=0.99),
            run(norm="none", lr=0.1, val=0.1, test=0.99),
            run(norm="none", lr=0.01, val=0.7, test=0.6),
        ]
        header, *found = table(runs, select=["optimizer.lr"])
        assert header[:2] == ["ops.norm", "optimizer.lr"]
        assert [row[:5] for row in found] == [
            ["batch", "0.1", "1", "50.00 [one run]", "90.00"],
            ["none", "0.01", "1", "60.00 [one run]", "70.00"],
        ]
        assert len(table(runs)) == 5

    def test_the_choice_is_made_on_the_mean_over_seeds(self, run):
        runs = [run(lr=0.1, seed=s, val=v) for s, v in enumerate((0.99, 0.5, 0.5))]
        runs += [run(lr=0.01, seed=s, val=0.7) for s in range(3)]
        runs += [run(lr=lr, norm="none", seed=s, val=0.2) for lr in (0.1, 0.01) for s in range(3)]
        assert table(runs, select=["optimizer.lr"])[1][:3] == ["batch", "0.01", "3"]

    def test_a_rate_with_which_seeds_diverged_is_not_chosen(self, run):
        runs = [run(lr=0.1, seed=0, val=0.99), run(lr=0.1, seed=1, state="diverged")]
        runs += [run(lr=0.01, seed=s, val=0.7) for s in range(2)]
        runs += [run(lr=0.1, norm="none", seed=s, state="diverged") for s in range(2)]
        found = table(runs, select=["optimizer.lr"])[1:]
        assert [*found[0][:3], found[0][4]] == ["batch", "0.01", "2", "70.00"]
        assert found[1][:3] == ["none", "0.1", "0 of 2 (2 diverged)"]

    def test_what_an_experiment_tunes_is_known_from_its_runs(self, run):
        runs = [run(lr=lr, val=lr, select=["optimizer.lr"]) for lr in (0.1, 0.01)]
        assert [row[0] for row in table(runs)[1:]] == ["0.1"]
        assert [row[0] for row in table(runs, select=())[1:]] == ["0.1", "0.01"]

    def test_unequal_tuning_is_said(self, run):
        runs = [run(lr=lr, val=lr) for lr in (0.1, 0.2, 0.3)]
        runs += [run(lr=lr, norm="none", val=lr) for lr in (0.1, 0.2, 0.3)]
        select = ("optimizer.lr",)
        (fair, edge, *_) = compare([record(one) for one in runs], Options(select=select)).notes
        assert fair == "optimizer.lr: chosen on val within each row, from 3 values"
        assert edge.startswith("optimizer.lr: the best value is the smallest or largest tried in 2 of 2 rows")
        (unfair, *_) = compare([record(one) for one in runs[:-1]], Options(select=select)).notes
        assert "from 2 to 3 values; UNEQUAL" in unfair


class TestAxes:
    def test_what_is_native_follows_from_the_architecture(self, run):
        """An axis is a column where it differs within an architecture, not where architectures differ."""
        natives = [run(arch="resnet18"), run(arch="mobilenet_v2", act="relu6")]
        assert table(natives)[0][:2] == ["arch", "n"]
        ablated = [*natives, run(arch="resnet18", act="gelu")]
        assert table(ablated)[0][:3] == ["arch", "ops.act", "n"]

    def test_a_setting_of_an_architecture_is_a_column_where_it_was_swept(self, run):
        """Settings that follow from the name, as the target here, are no columns; the head is one."""
        runs = [run(arch=arch, head=head) for arch in ("vgg11", "alexnet") for head in ("flatten", "gap")]
        assert table(runs)[0][:3] == ["arch", "arch.head", "n"]

    def test_what_is_the_same_everywhere_is_said_once(self, run):
        found = compare([record(run(norm=norm, head="gap")) for norm in ("batch", "none")])
        assert found.constant["arch.head"] == "gap"
        assert "ops.norm" not in found.constant

    @pytest.mark.parametrize(
        ("arch", "expected"),
        [
            ("resnet18", "resnet"),
            ("resnet110", "resnet"),
            ("torchvision.resnet50", "resnet"),
            ("vgg11_bn", "vgg"),
            ("googlenet", "inception"),
            ("inception_v3", "inception"),
            ("efficientnet_b0", "efficientnet"),
            ("lenet5", "lenet"),
            ("mobilenet_v2", "mobilenet"),
            ("timm.mobilenetv3_small_050", "mobilenet"),
            ("torchvision.efficientnet_v2_s", "efficientnet"),
            ("torchvision.wide_resnet50_2", "resnet"),
            ("basic", "basic"),
            ("basically_mine", "basically"),
            ("plain20", "resnet"),
            ("timm.resnext50_32x4d", "resnet"),
            ("timm.seresnet18", "resnet"),
            ("timm.tf_efficientnet_b0", "efficientnet"),
            ("timm.tf_mobilenetv3_large_100", "mobilenet"),
            ("timm.vit_small_resnet26d_224", "vit"),
        ],
    )
    def test_families(self, arch, expected):
        assert family(arch) == expected

    def test_every_model_of_timm_and_torchvision_has_a_family(self):
        """No more families than timm has modules, which its authors grouped by what they are built on."""
        import timm
        import torchvision

        names = [*timm.list_models(), *torchvision.models.list_models(module=torchvision.models), *ARCHS]
        assert [name for name in names if not is_known(name) and name not in ("timm", "torchvision")] == []
        assert len({family(name) for name in timm.list_models()}) < len(timm.list_modules())
        assert {family(name) for name in names} - {None} >= set(NAMES) - {"basic"} | set(PATTERNS)
        assert not is_known("lenet5")

    def test_an_architecture_of_no_known_family_is_named(self, run):
        runs = [record(run(arch=a, norm=n)) for a in ("lenet5", "resnet18") for n in ("batch", "group")]
        note = "architectures of families that are not known count as their own: lenet5 as lenet"
        assert note in compare(runs, Options(by=("ops.norm",))).notes
        assert note not in compare(runs[2:], Options(by=("ops.norm",))).notes

    @pytest.mark.parametrize(("key", "said"), [("test/loss", True), ("test/ece", True), ("test/acc", False)])
    def test_probabilities_of_binary_cross_entropy_are_no_softmax(self, run, key, said):
        made = [run(norm=norm, figures={key: 0.2}) for norm in ("batch", "group")]
        notes = compare(map(record, made), Options(metric=key)).notes
        assert not any("trainer.loss=bce" in note for note in notes)
        made.append(run(norm="none", figures={key: 0.2}))
        config = made[-1].config() | {"trainer": {"loss": "bce"}}
        (made[-1].path / "config.yaml").write_text(yaml.safe_dump(config))
        notes = compare(map(record, made), Options(metric=key)).notes
        assert (
            any("softmax probabilities, which trainer.loss=bce does not train" in one for one in notes)
            == said
        )


class TestMeasured:
    @pytest.fixture
    def both(self, run, tmp_path):
        """A trained run, and two measurements of its model with different backends."""
        trained = Run(run(seed=0).path)
        found = [record(trained)]
        for backend, latency in (("eager", 2.0), ("compile", 1.0)):
            config = trained.config() | {"verb": "bench", "backend": backend}
            path = tmp_path / backend
            path.mkdir()
            (path / "config.yaml").write_text(json.dumps(config))
            (path / "status.json").write_text(json.dumps(trained.status() | {"verb": "bench"}))
            figures = {"time/latency_p50_ms": latency, "time/inference_images_per_s": 5000 / latency}
            figures |= {"memory/activations_mb": 3.0, "time/load_s": 1.0, "params": 1000, "macs": 5000}
            (path / "summary.json").write_text(json.dumps(figures))
            (path / "metrics.csv").write_text("")
            found.append(record(Run(path)))
        assert [one.verb for one in found] == ["train", "bench", "bench"]
        return found

    def test_each_way_has_columns_of_its_own(self, both):
        headers, rows = wording.table(compare(both))
        row = dict(zip(headers, rows[0], strict=True))
        assert row["latency p50 ms (backend=compile)"] == "1"
        assert row["latency p50 ms (backend=eager)"] == "2"
        assert row["inference images/s (backend=compile)"] == "5 k"
        assert row["activations MB (backend=eager)"] == "3"
        said = "2 of 2 cnnbench bench measurements matched to 1 of 1 trained run, by model and image size"
        assert said in compare(both).notes

    def test_of_one_way_the_columns_need_no_name_of_it(self, both):
        headers, _ = wording.table(compare(both[:2]))
        assert headers[-3:] == ["latency p50 ms", "inference images/s", "activations MB"]

    @pytest.mark.parametrize("way", ["", " (backend=eager)", " (accelerator=cpu, name=cpu)"])
    def test_how_it_was_measured_says_nothing_about_the_figure(self, way):
        latency, speed = figure(f"latency_p50_ms{way}"), figure(f"inference_images_per_s{way}")
        assert (latency.higher, latency.share, latency.shown(0.0907)) == (False, False, "0.0907")
        assert (speed.higher, speed.share, speed.shown(5000)) == (True, False, "5 k")


class TestFiles:
    """Damaged files are reported, and the rest is still shown."""

    @pytest.mark.parametrize(
        ("file", "text", "said"),
        [
            ("status.json", "{", "is not JSON, or is cut off"),
            ("status.json", '["a list"]', "is not a JSON object"),
            ("status.json", "[" * 100_000, "is not JSON, or is cut off"),
            ("config.yaml", "a: [", "is not YAML, or is cut off"),
            ("config.yaml", "arch: 3", "has no data"),
            ("config.yaml", "arch: 3\ndata: {}", "arch is 3; allowed: a mapping"),
            ("config.yaml", "arch: {}\ndata: {}", "has no arch.name"),
            ("config.yaml", b"\x80\xff", "is not text"),
            ("config.yaml", "a: " + "9" * 5000, "has 99999999999999999999, which is no value"),
            ("config.yaml", "a: " + "[" * 500, "is nested too deeply"),
            ("config.yaml", "[a]", "is not a mapping"),
            ("config.yaml", "arch: &a {name: *a}", "has aliases or anchors"),
            ("summary.json", "{", "is not JSON, or is cut off"),
            ("summary.json", "[]", "is not a JSON object"),
            (
                "summary.json",
                '{"test/acc": NaN, "best/val_acc": 1}',
                "test/acc is NaN; allowed: a number",
            ),
            ("summary.json", '{"test/acc": 1e999}', "test/acc is Infinity; allowed: a number from 0 to 1"),
            ("summary.json", b"\xff\xfe\x00", "is not text"),
            ("summary.json", "[" * 100_000, "is not JSON, or is cut off"),
            (
                "summary.json",
                '{"test/acc": 1%s}' % ("0" * 400),
                "test/acc is a number of many digits",
            ),
            ("summary.json", '{"test/acc": 1.5}', "test/acc is 1.5; allowed: a number from 0 to 1"),
            ("summary.json", '{"test/acc": "0.5"}', 'test/acc is "0.5"; allowed: a number from 0 to 1'),
            ("summary.json", '{"test/acc": 0.5}', "has no best/val_acc"),
            ("metrics.csv", "epoch,val/acc\n0,n/a\n", "could not convert string to float: 'n/a'"),
            ("metrics.csv", b"\x89PNG\r\n\x1a\n\x00", "is not text"),
            ("metrics.csv", "epoch,val/acc\n0,0.5\n1,0.", "is cut off"),
            ("metrics.csv", "epoch,val/acc\n0,0.5\n1\n", "has rows of different lengths"),
            ("metrics.csv", "epoch,val/acc\n0,0.5\n", "has 1 of 2 epochs"),
            ("metrics.csv", "", "has 0 of 2 epochs"),
            ("metrics.csv", "val/acc\n0.5\n0.6\n", "has no epoch"),
            ("metrics.csv", "epoch,val/acc\n0,0.5\n2,0.6\n", "row 1: epoch is 2; allowed: 1"),
            ("metrics.csv", "epoch,val/acc\n0,0.5\n1,60\n", "row 1: val/acc is 60; allowed: a number from 0"),
            ("metrics.csv", None, "is missing"),
        ],
    )
    def test_damage_is_named_and_the_rest_is_shown(self, run, tmp_path, file, text, said):
        run(seed=0, figures={"epochs": 2})
        damaged = run(seed=1, figures={"epochs": 2}).path / file
        if text is None:
            damaged.unlink()
        else:
            damaged.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = compare(read([tmp_path]))
        assert [problem[: len(f"{damaged}: {said}")] for problem in found.problems] == [f"{damaged}: {said}"]
        assert found.rows[0].score.n == 1
        assert found.states == {"finished": 1, "damaged": 1}

    def test_runs_that_never_had_an_epoch_lack_no_learning_curve(self, run, tmp_path):
        for seed, state in enumerate(("failed", "interrupted", "diverged")):
            (run(seed=seed, state=state).path / "metrics.csv").unlink()
        assert compare(read([tmp_path])).problems == []

    def test_an_older_format_is_named(self, run):
        found = compare([record(run(seed=0)), record(run(seed=1, status={"format": 0}))])
        assert "format 0, this version writes 2" in found.problems[0]
        assert found.rows[0].n == "2"

    def test_a_file_that_is_missing_is_a_run_without_figures(self, run):
        one = run(seed=0)
        (one.path / "summary.json").unlink()
        assert compare([record(one)]).states == {"interrupted": 1}

    def test_nothing_but_damage(self, run):
        one = run()
        (one.path / "config.yaml").unlink()
        found = compare([record(one)])
        assert (found.rows, found.states) == ([], {"damaged": 1})

    def test_no_run_at_all(self, tmp_path):
        with pytest.raises(InputError, match="no run here"):
            read([tmp_path])

    def test_two_folders_of_images_are_two_data_sets(self, run):
        """They have no other name than their path."""
        runs = [run(data="imagefolder", seed=s) for s in range(2)]
        path = runs[1].path / "config.yaml"
        path.write_text(path.read_text().replace("root: anywhere", "root: elsewhere"))
        assert len(compare([record(one) for one in runs]).rows) == 2


def test_json_has_all_of_it(run):
    from cnnbench.comparison.report.files import to_json

    runs = [run(norm=norm, seed=s, test=0.5 + s / 10) for norm in ("batch", "none") for s in range(2)]
    found = json.loads(to_json(compare([record(one) for one in runs])))
    assert [row["n"] for row in found["rows"]] == [2, 2]
    assert found["effects"][0]["words"].startswith("no difference shown: ")
    assert found["rows"][0]["command"] == (
        "cnnbench train -m arch=vgg11 ops.norm=batch optimizer.lr=0.1 data=digits seed=0,1"
    )
    assert len(found["runs"]) == 4
