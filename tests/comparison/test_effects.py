"""Effects from pairs of runs, rows pooled by the values of an axis, and notes."""

import random

import pytest
from comparison_support import effects, table

from cnnbench.comparison.comparison import Options, compare
from cnnbench.comparison.effects import usual_baseline
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.records import record
from cnnbench.comparison.report import wording
from cnnbench.errors import InputError


class TestEffects:
    def test_pairs_share_architecture_and_seed(self, run):
        """A shift that seeds have in common cancels: +2 in each pair, though seeds differ by 30 points."""
        runs = [run(seed=s, test=base) for s, base in enumerate((0.5, 0.6, 0.8))]
        runs += [run(norm="group", seed=s, test=base + 0.02) for s, base in enumerate((0.5, 0.6, 0.8))]
        effect = effects(runs)["ops.norm", "group", "vgg"]
        assert effect.size.mean == pytest.approx(0.02)
        assert effect.shown
        assert wording.sentence(effect, figure("test/acc")).startswith("higher: +2.0 [")
        assert effect.pairs == 3
        assert (effect.baseline, effect.families) == ("batch", 1)

    def test_without_val_no_baseline_is_the_best(self, run):
        """So that no choice has to be corrected for: two comparisons with the first by name, not three."""
        scores = {"vgg11": 0.6, "alexnet": 0.5, "resnet18": 0.7}
        runs = [
            run(arch=arch, seed=s, val=None, test=score + s * score**2 / 10)
            for arch, score in scores.items()
            for s in (0, 1)
        ]
        found = effects(runs).values()
        assert {(effect.baseline, effect.comparisons) for effect in found} == {("alexnet", 2)}

    def test_no_difference_of_shares_is_beyond_100_points(self, run):
        """With two families, Student's t has one degree of freedom and would reach far beyond."""
        left = {"vgg11": 0.1, "resnet18": 0.8}
        runs = [
            run(arch=arch, norm=norm, seed=s, test=0.95 if norm == "batch" else rest + s / 1000)
            for arch, rest in left.items()
            for norm in ("batch", "none")
            for s in (0, 1)
        ]
        size = effects(runs)["ops.norm", "none", ""].size
        assert (size.low, size.high) == (-1.0, 1.0)
        assert size.mean == pytest.approx(-0.4995)

    def test_the_family_is_the_unit_over_families(self, run):
        """Three families at +1, +2 and +3 points: t(2 df), whatever the number of seeds and of resnets."""
        gains = {"vgg11": 0.01, "alexnet": 0.02, "resnet18": 0.02, "resnet50": 0.04}
        runs = [
            run(arch=arch, norm=norm, seed=s + 1, test=0.5 + (s / 1000 + gain) * (norm == "none"))
            for arch, gain in gains.items()
            for norm in ("batch", "none")
            for s in (-1, 0, 1)
        ]
        found = effects(runs)
        over = found["ops.norm", "none", ""]
        assert (over.families, over.pairs) == (3, 12)
        assert over.size.mean == pytest.approx(0.02)
        assert over.size.high - over.size.mean == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-4)
        assert found["ops.norm", "none", "resnet"].size.mean == pytest.approx(0.03)
        assert over.comparisons == 1, "architectures against the best one are a question of their own"
        assert next(e for (axis, *_), e in found.items() if axis == "arch.name").comparisons == 6
        assert found["ops.norm", "none", "vgg"].comparisons == 3

    def test_one_pair_is_too_few(self, run):
        effect = effects([run(), run(norm="none")])["ops.norm", "none", "vgg"]
        assert wording.verdict(effect, figure("test/acc")) == "too few pairs to tell"
        assert not effect.shown

    def test_pairs_that_are_lost_are_named(self, run):
        runs = [run(seed=s) for s in range(3)]
        runs += [run(norm="none", seed=0, test=0.5), run(norm="none", seed=1, state="diverged")]
        effect = effects(runs)["ops.norm", "none", "vgg"]
        assert (effect.pairs, effect.lost) == (1, {"diverged": 1})
        assert wording.pairs(effect) == "1 pair, 1 lost (diverged)"

    def test_lost_pairs_of_several_kinds(self, run):
        runs = [run(seed=s) for s in range(3)] + [run(norm="none", seed=0, test=0.5)]
        runs += [run(norm="none", seed=s, state=state) for s, state in ((1, "diverged"), (2, "failed"))]
        effect = effects(runs)["ops.norm", "none", "vgg"]
        assert wording.pairs(effect) == "1 pair, 2 lost (1 diverged, 1 failed)"

    def test_what_is_tuned_is_no_part_of_a_pair(self, run):
        runs = [run(lr=0.1, seed=s, test=0.8) for s in range(2)]
        runs += [run(norm="none", lr=0.01, seed=s, test=0.7) for s in range(2)]
        assert ("ops.norm", "none", "vgg") in effects(runs, select=["optimizer.lr"])
        assert not effects(runs), "without it nothing differs in one setting alone"

    def test_the_baseline_can_be_chosen(self, run):
        runs = [run(norm=norm, seed=s) for norm in ("batch", "none") for s in range(2)]
        (effect,) = effects(runs, baselines={"ops.norm": "none"}).values()
        assert (effect.value, effect.baseline) == ("batch", "none")

    def test_p_is_corrected_for_the_number_of_comparisons(self, run):
        draw = random.Random(0)
        norms = ("batch", "group", "layer", "none")
        runs = [run(norm=norm, seed=s, test=draw.uniform(0.7, 0.8)) for norm in norms for s in range(3)]
        found = effects(runs)
        assert len(found) == 3
        assert all(effect.comparisons == 3 for effect in found.values())
        smallest = min(found.values(), key=lambda effect: effect.size.p)
        assert smallest.p == pytest.approx(min(1, 3 * smallest.size.p))

    def test_architectures_are_compared_with_the_best_on_val(self, run):
        runs = [run(arch=a, seed=s, val=v) for a, v in (("a", 0.5), ("b", 0.9)) for s in range(2)]
        assert effects(runs)["arch.name", "a", ""].baseline == "b"

    def test_who_is_compared_with_the_best_pays_for_all_who_might_have_been_it(self, run):
        """With four architectures, 3 differences are shown and 6 counted, or 3 with a chosen baseline."""
        draw = random.Random(1)
        runs = [run(arch=a, seed=s, val=0.5, test=draw.uniform(0.7, 0.8)) for a in "abcd" for s in range(3)]
        found = effects(runs)
        assert len(found) == 3
        assert {effect.comparisons for effect in found.values()} == {6}
        asked = effects(runs, baselines={"arch.name": "b"})
        assert {effect.comparisons for effect in asked.values()} == {3}

    def test_equal_differences_are_called_so(self, run):
        runs = [run(norm=n, seed=s, figures={"params": p}) for n, p in (("batch", 9000), ("none", 5000))
                for s in range(3)]  # fmt: skip
        (effect,) = effects(runs, metric="params").values()
        assert wording.sentence(effect, figure("params")) == "no random variation: ×0.56, 3 pairs"

    def test_ratios_that_differ_between_architectures_alone_have_no_random_variation(self, run):
        """Two resnets of one family: x0.5 and x0.8, for each seed."""
        sizes = {"resnet18": (1000, 500), "resnet50": (1000, 800)}
        runs = [
            run(arch=arch, norm=norm, seed=seed, figures={"params": params})
            for arch, both in sizes.items()
            for norm, params in zip(("batch", "none"), both, strict=True)
            for seed in range(2)
        ]
        effect = effects(runs, metric="params")["ops.norm", "none", "resnet"]
        assert wording.sentence(effect, figure("params")) == "no random variation: ×0.63, 4 pairs"

    def test_the_baseline_is_one_that_others_can_be_paired_with(self, run):
        """The best on val has no norm to share with the others."""
        runs = [run(arch="mlp", norm="-", seed=s, val=0.99) for s in range(2)]
        runs += [run(arch=a, seed=s, val=v) for a, v in (("a", 0.5), ("b", 0.9)) for s in range(2)]
        runs += [run(arch="a", norm="none", seed=s) for s in range(2)]
        found = compare([record(one) for one in runs])
        assert {e.baseline for e in found.effects if e.axis == "arch.name"} == {"b"}
        assert "arch: mlp not compared with b: no two such runs differ in arch alone" in found.notes

    def test_architectures_at_rates_of_their_own_are_compared_with_the_rate_selected(self, run):
        runs = [record(run(arch=a, lr=lr, seed=s)) for a, lr in (("a", 0.1), ("b", 0.01)) for s in range(2)]
        runs.append(record(run(arch="c", lr=0.01, act="elu")))
        notes = compare(runs).notes
        reason = (
            "no two such runs differ in arch alone, but in optimizer.lr, too; --select optimizer.lr compares"
        )
        assert any(reason in note for note in notes if note.startswith("arch: ")), notes
        selected = compare(runs[:4], Options(select=("optimizer.lr",)))
        assert [effect.pairs for effect in selected.effects if effect.axis == "arch.name"] == [2]

    @pytest.mark.parametrize(
        ("axis", "values", "default"),
        [
            ("trainer.loss", ["bce", "cross_entropy", "focal"], "cross_entropy"),
            ("data.sampler", ["balanced", "shuffle"], "shuffle"),
            ("data.class_weights", ["balanced", "null"], "null"),
            ("data.drop_last", ["false", "true"], "true"),
            ("data.augment.flip", ["alternating", "false", "true"], "false"),
            ("trainer.decay_norm_and_bias", ["false", "true"], "true"),
            ("trainer.monitor", ["val/acc", "val/balanced_acc"], "val/acc"),
            ("trainer.focal_gamma", ["1.0", "2.0"], "2.0"),
            ("arch.shortcut_zeros", ["after", "around"], "after"),
            ("trainer.focal_gamma", ["1.0", "3.0"], "1.0"),
        ],
    )
    def test_the_default_is_the_baseline_where_it_is_among_the_values(self, axis, values, default):
        assert usual_baseline(axis, values) == default

    def test_accuracies_on_different_images_are_not_subtracted(self, run):
        assert not effects([run(data=data, seed=s) for data in ("digits", "mnist") for s in range(2)])


class TestBy:
    def test_only_surroundings_in_which_all_values_finished(self, run):
        """group was only tried in the easy network, which must not raise its mean."""
        runs = [run(arch="alexnet", norm=n, seed=s, test=0.9) for n in ("batch", "group") for s in range(2)]
        runs += [run(arch="vgg11", norm="batch", seed=s, test=0.1) for s in range(2)]
        found = compare([record(one) for one in runs], Options(by=("ops.norm",)))
        assert {row.settings["ops.norm"]: row.score.mean for row in found.rows} == {
            "batch": pytest.approx(0.9),
            "group": pytest.approx(0.9),
        }
        assert any(note.startswith("1 of 3 configurations left out") for note in found.notes)
        counts = {row.settings["ops.norm"]: row.n for row in found.rows}
        assert counts == {"batch": "2 of 4 (2 left out)", "group": "2"}

    def test_a_value_that_diverged_everywhere_is_a_row_and_costs_the_others_nothing(self, run):
        runs = [run(lr=lr, arch=a, seed=s, state="diverged" if lr > 1 else "finished")
                for lr in (0.1, 0.5, 1e6) for a in ("vgg11", "alexnet") for s in range(2)]  # fmt: skip
        found = compare([record(one) for one in runs], Options(by=("optimizer.lr",)))
        assert {row.settings["optimizer.lr"]: row.n for row in found.rows} == {
            "0.1": "4",
            "0.5": "4",
            "1000000.0": "0 of 4 (4 diverged)",
        }
        assert [row.score is None for row in found.rows] == [False, False, True]
        assert table(runs, by=("optimizer.lr",))[-1][:3] == ["1000000.0", "0 of 4 (4 diverged)", "-"]

    def test_what_diverged_is_counted_where_its_surroundings_are_left_out(self, run):
        runs = [run(arch=a, norm=n, seed=s, state="diverged" if (a, n) == ("vgg11", "none") else "finished")
                for a in ("vgg11", "alexnet") for n in ("batch", "none") for s in range(2)]  # fmt: skip
        found = compare([record(one) for one in runs], Options(by=("ops.norm",)))
        assert {row.settings["ops.norm"]: row.n for row in found.rows} == {
            "batch": "2 of 4 (2 left out)",
            "none": "2 of 4 (2 diverged)",
        }

    def test_all_figures_of_a_row_are_means_of_the_same_kind(self, run):
        """Two resnets and a vgg: the family counts once in the score, in val and in every other metric."""
        runs = [run(arch=a, norm=n, seed=s, test=t, val=t, figures={"params": round(1000 * t)})
                for a, t in (("resnet18", 0.2), ("resnet50", 0.4), ("vgg11", 0.9))
                for n in ("batch", "none") for s in range(2)]  # fmt: skip
        row = compare([record(one) for one in runs], Options(by=("ops.norm",))).rows[0]
        assert row.score.mean == pytest.approx(0.6)
        assert row.val == pytest.approx(0.6)
        assert row.mean("params") == pytest.approx(600)

    def test_the_axis_that_is_tuned_is_no_row(self, run):
        runs = [run(lr=lr, norm=n, seed=s) for lr in (0.1, 0.2) for n in ("batch", "none") for s in range(2)]
        with pytest.raises(
            InputError, match=r"--by optimizer.lr: this setting is tuned, .* allowed: another axis"
        ):
            compare([record(one) for one in runs], Options(by=("optimizer.lr",), select=("optimizer.lr",)))

    def test_the_family_is_the_unit(self, run):
        tests = {"alexnet": 0.5, "vgg11": 0.6, "resnet18": 0.7}
        runs = [run(arch=a, norm=n, seed=s, test=t) for a, t in tests.items() for n in ("batch", "none")
                for s in range(2)]  # fmt: skip
        row = compare([record(one) for one in runs], Options(by=("ops.norm",))).rows[0]
        assert row.score.n == 3
        assert row.score.high - row.score.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-4)


class TestNotes:
    def test_a_mixture_of_versions_is_marked(self, run):
        runs = [run(seed=0), run(seed=1, status={"versions": {"cnnbench": "0.0.9", "torch": "2.14.1"}})]
        notes = compare([record(one) for one in runs]).notes
        assert any(n.startswith("mixed cnnbench versions: ") and "0.0.9 (1 run)" in n for n in notes)
        assert not any("torch" in n for n in notes)

    def test_other_images_under_the_same_name_are_noticed(self, run):
        runs = [run(seed=0), run(seed=1, figures={"data/split": "other"})]
        assert any("different splits" in note for note in compare([record(one) for one in runs]).notes)

    def test_the_uncertainty_from_the_test_images(self, run):
        notes = compare([record(run(seed=s, test=0.98, figures={"data/test": 360})) for s in range(2)]).notes
        assert notes == [
            "intervals cover variation between seeds only; the 360 test images add about ±1.5 points "
            "at 98.0 %, shared by all rows"
        ]

    def test_the_test_images_of_a_metric_that_is_no_share_of_them(self, run):
        """It is not a multiple of 1/N, and Wilson's interval does not apply to it."""
        made = [run(seed=s, figures={"data/test": 360, "test/f1_macro": 0.9}) for s in range(2)]
        found = compare([record(one) for one in made], Options(metric="test/f1_macro"))
        assert found.notes == [
            "intervals cover variation between seeds only; the 360 test images add to it, which is not "
            "estimated for test macro-F1"
        ]
        (row,) = found.rows
        assert (row.score.mean, row.score.low) == (0.9, None)

    def test_the_uncertainty_from_the_val_images(self, run):
        made = [run(seed=s, val=0.5, figures={"data/test": 360, "data/val": 100}) for s in range(2)]
        (note,) = compare([record(one) for one in made], Options(metric="best/val_acc")).notes
        assert "the 100 val images add about ±9.6 points at 50.0 %" in note

    @pytest.mark.parametrize(
        ("key", "higher", "share"),
        [("test/f1_macro", True, True), ("best/val_balanced_acc", True, True), ("test/ece", False, True)],
    )
    def test_which_direction_is_better(self, key, higher, share):
        assert (figure(key).higher, figure(key).share) == (higher, share)

    def test_the_test_images_of_several_data_sets_are_not_shared_by_all_rows(self, run):
        runs = [run(data="digits", figures={"data/test": 360}), run(data="mnist", test=0.98)]
        (note, *_) = compare([record(one) for one in runs]).notes
        assert note.endswith(
            "the 360 test images add about ±1.5 points at 98.0 %, shared by rows with the same images"
        )

    @pytest.mark.parametrize(("arch", "covered"), [("resnet18", "families and seeds"), ("vgg13", "seeds")])
    def test_intervals_over_families_cover_them_too(self, run, arch, covered):
        runs = [
            run(arch=a, norm=n, seed=s) for a in ("vgg11", arch) for n in ("batch", "none") for s in (0, 1)
        ]
        notes = compare([record(one) for one in runs], Options(by=("ops.norm",))).notes
        assert any(note.startswith(f"intervals cover variation between {covered} only") for note in notes)
