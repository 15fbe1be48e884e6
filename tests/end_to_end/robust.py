#!/usr/bin/python3
"""End to end: `ranvier eval --robust` and `ranvier study`: what they print, files, a killed study, bad input."""
import json
import pathlib
import re
import signal
import time
import unittest

from common import Case, write_batches

DESIGN = """
model = "tiny"
epochs = 1
batch = 16
held_out = 40
seeds = [1, 2, 3, 4, 5, 6]
images = 12
strong_images = 6
square_queries = 10
low_data = 0.3
strong_attacks = ["square"]
treatment = "dropout"
falsifier = ["none"]
[tuning]
epochs = 1
[[arm]]
name = "none"
[[arm]]
name = "dropout"
kind = "dropout"
sites = ["block3"]
strengths = [0.1, 0.5]
"""


class Eval(Case):
    def setUp(self):
        super().setUp()
        write_batches(self.folder / "data", train=64)
        self.ok("train", "--data", "data", "--epochs", 2, "--batch", 16, "--device", "cpu", "--out", "run")
        self.command = ["eval", "--checkpoint", "run/checkpoint.safetensors", "--data", "data", "--no-tta", "--robust"]

    def test_everything(self):
        result = self.json(*self.command, "--images", 8, "--strong-images", 2, "--square-queries", 10)["robustness"]
        self.assertEqual(result["images"], 8)
        self.assertEqual([row["attack"] for row in result["attacks"]],
                         ["fgsm", "fgsm", "fgsm", "pgd20", "pgd20", "pgd50x10", "apgd-ce", "apgd-t", "square"])
        for row in result["attacks"]:
            self.assertLessEqual(row["robust_accuracy"], 1)
        self.assertEqual(len(result["red_flags"]), 5)
        self.assertEqual({flag["state"] for flag in result["red_flags"]} - {"clear", "raised"}, set())
        self.assertEqual(result["corruptions"]["name"], "CIFAR-10-C-style, seed 0")
        self.assertEqual(len(result["corruptions"]["rows"]), 15)
        self.assertGreater(result["calibration"]["temperature"], 0)
        self.assertEqual(len(result["weight_noise"]), 4)
        again = self.json(*self.command, "--images", 8, "--attacks", "pgd20", "--no-corruptions",
                          "--no-damage")["robustness"]
        self.assertEqual(again["attacks"][0]["robust_accuracy"], result["attacks"][3]["robust_accuracy"])
        self.assertNotIn("corruptions", again)

    def test_bad_input(self):
        for arguments, saying in [
            (["--epsilon", "-1"], ["--epsilon -1"]),
            (["--epsilon", "8/0"], ["--epsilon 8/0"]),
            (["--epsilon", "nan"], ["--epsilon nan"]),
            (["--attacks", "magic"], ["--attacks magic", "pgd20"]),
            (["--images", "0"], ["--images", "not in range 1 to 1000000"]),
            (["--strong-images", "0"], ["--strong-images", "not in range 1 to 1000000"]),
            (["--precision", "bf16"], ["--precision bf16", "f32"]),
        ]:
            self.refused(*self.command, *arguments, saying=saying)
        plain = [word for word in self.command if word != "--robust"]
        for arguments in (["--epsilon", "4/255"], ["--images", "8"], ["--strong-images", "8"], ["--subset-seed", "1"],
                          ["--square-queries", "10"], ["--attacks", "pgd20"], ["--no-corruptions"], ["--no-damage"]):
            self.refused(*plain, *arguments, saying=[arguments[0], "--robust"])


class Study(Case):
    def setUp(self):
        super().setUp()
        write_batches(self.folder / "data")
        (self.folder / "study.toml").write_text(DESIGN)
        self.command = ["study", "coupling", "study.toml", "--data", "data", "--out", "s", "--device", "cpu"]

    def runs(self):
        log = self.folder / "s" / "runs.jsonl"
        return log.read_text().splitlines() if log.exists() else []

    def test_killed_and_resumed(self):
        process = self.start_program(*self.command)
        until = time.monotonic() + 120
        while len(self.runs()) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept = self.runs()
        self.assertGreaterEqual(len(kept), 4)
        with (self.folder / "s" / "runs.jsonl").open("a") as log:
            log.write('{"stage":"main","arm":"no')  # a line that a kill cut short
        result = self.json(*self.command, timeout=600)
        runs = self.runs()
        self.assertEqual(runs[:len(kept)], kept)
        self.assertEqual(len(runs), 2 + 2 * 6 * 2)
        keys = [(run["stage"], run["arm"], run["seed"], run["strength"]) for run in map(json.loads, runs)]
        self.assertEqual(len(set(keys)), len(keys))
        primary = [row for row in result["rows"] if row["metric"] == "corruption_accuracy" and row["arm"] == "none"][0]
        self.assertEqual(primary["seeds"], 6)
        self.assertIn("p", primary)
        report = (self.folder / "s" / "report.md").read_text()
        self.assertIn("falsifier: dropout must beat none", report)
        taken = max((run for run in map(json.loads, runs) if run["stage"] == "tuning"),
                    key=lambda run: run["metrics"]["score"])["strength"]
        self.assertRegex(report, rf"\| dropout \| {taken} \| [0-9.]+ \| taken \|")
        self.assertRegex(report, rf"\| dropout \| {taken} \| [0-9.]+ \([0-9.]+\) \|")
        for said in ("strengths were not matched", "In favour of dropout:", "Against dropout:"):
            self.assertIn(said, report)
        self.assertEqual(json.loads((self.folder / "s" / "report.json").read_text())["claim_stands"],
                         result["claim_stands"])
        before = runs
        again = self.ok(*self.command)  # nothing left to do, nothing to be timed
        self.assertIn("0 runs left", again.out)
        self.assertNotIn("estimate", again.out + again.err)
        self.assertEqual(json.loads((self.folder / "s" / "report.json").read_text())["rows"], result["rows"])
        self.assertEqual(self.runs(), before)
        (self.folder / "study.toml").write_text(DESIGN.replace("images = 12", "images = 10"))
        self.refused(*self.command, saying=["another design"])
        (self.folder / "study.toml").write_text(DESIGN)
        (self.folder / "s" / "runs.jsonl").write_text("{}\n" + "\n".join(runs) + "\n")
        self.refused(*self.command, saying=["runs.jsonl:1", "damaged"])

    def test_couplings(self):
        head = DESIGN.split("[[arm]]")[0].replace('"dropout"', '"full"').replace("low_data = 0.3", "low_data = 0")
        head = head.replace("images = 12", "images = 4").replace('["square"]', "[]")
        head = head.replace("[1, 2, 3, 4, 5, 6]", "[1, 2, 3, 4, 5, 6, 7, 8]")
        text = head + '[[arm]]\nname = "none"\n'
        for name, more in [("full", ""), ("reshuffled", 'geometry = "reshuffled"'),
                           ("spectrum", 'geometry = "spectrum"')]:
            text += (f'[[arm]]\nname = "{name}"\nkind = "energy"\nsites = ["block2", "block3"]\n'
                     f'strengths = [5.0]\n{more}\n')
        (self.folder / "study.toml").write_text(text)
        rows = self.json(*self.command, timeout=600)["rows"]
        found = {row["arm"]: row["values"] for row in rows if row["metric"] == "nll"}
        self.assertEqual(len(found["full"]), 8)
        for a in found:  # every arm trained a network of its own
            self.assertEqual([b for b in found if found[b] == found[a]], [a])

    def test_norms_follow_learned_geometry(self):
        head = DESIGN.split("[[arm]]")[0].replace('"dropout"', '"learned"').replace('["none"]', '["fixed"]')
        head = head.replace("low_data = 0.3", "low_data = 0").replace("images = 12", "images = 4")
        text = head.replace("epochs = 1", "epochs = 2", 1).replace('["square"]', "[]")
        for name in ("fixed", "learned"):
            text += (f'[[arm]]\nname = "{name}"\nkind = "ephaptic"\nsites = ["block2"]\nstrengths = [0.3]\n'
                     f'geometry = "{name}"\n')
        (self.folder / "study.toml").write_text(text)
        self.json(*self.command, timeout=600)
        found = {(run["arm"], run["seed"]): run["metrics"]["coupling"] for run in map(json.loads, self.runs())}
        for seed in range(1, 7):  # both begin with the same geometry
            for fixed, learned in zip(found["fixed", seed], found["learned", seed]):
                self.assertEqual(fixed["scope"], "block2.norm.coupling")
                self.assertNotEqual(fixed["norm"], learned["norm"])
                self.assertNotEqual(fixed["scale"], learned["scale"])

    def test_every_arm_of_the_big_study(self):
        source = pathlib.Path(__file__).resolve().parents[2] / "tools/studies/coupling_big.toml"
        text = source.read_text().replace("batch = 2000", "batch = 8").replace("held_out = 5000", "held_out = 40")
        (self.folder / "study.toml").write_text(text)
        rows = {row["arm"]: row for row in self.json(*self.command, "--rehearse", 4, timeout=600)["rows"]}
        self.assertEqual(list(rows), re.findall(r'^name = "(.*)"', text, re.M))
        self.assertFalse((self.folder / "s").exists())
        # every arm has gone its own way
        losses = [row["loss"] for row in rows.values()]
        self.assertEqual(len(set(losses)), len(losses))
        plain = rows["none"]["parameters"]
        self.assertEqual(rows["extra_parameters"]["parameters"], plain + 4 * 512)
        self.assertEqual(rows["learned"]["parameters"], plain + 4 * 512)
        self.assertEqual(rows["free_matrix"]["parameters"], plain + 2 * 256 * 256)

    def test_bad_designs(self):
        for old, new, saying in [
            ("[1, 2, 3, 4, 5, 6]", "[1, 2, 3, 4, 5]", ["5 seeds and 1 comparisons", "0.062", "6 seeds are enough"]),
            ("[1, 2, 3, 4, 5, 6]", "[1, 2, 3, 4, 5, 5]", ["a seed comes twice"]),
            ("epochs = 1", "epochs = 0", ["epochs = 0"]),
            ('kind = "dropout"', 'kind = "magic"', ["arm 'dropout'", "no kind 'magic'", "energy"]),
            ("[0.1, 0.5]", "[0.1, nan]", ["arm 'dropout'", "nan"]),
            ("[0.1, 0.5]", "[1.0]", ["strength 1"]),
            ('["block3"]', '["block3", "block3"]', ["arm 'dropout'", "site 'block3' comes twice"]),
            ('["block3"]', '["conv9"]', ["no site 'conv9'", "block1"]),
            ('treatment = "dropout"', 'treatment = "full"', ["treatment = 'full'"]),
            ('["none"]', '["dropout"]', ["falsifier 'dropout'"]),
            ('sites = ["block3"]', 'geometry = "learned"\nsites = ["block3"]', ["geometry means nothing"]),
            ('kind = "dropout"', 'kind = "covariance"\ngeometry = "spectrum"', ["spectrum needs kind energy"]),
            ('kind = "dropout"', 'kind = "energy"\nfactors = ["charge"]', ["factor 'charge'"]),
            ("low_data", "low_date", ["study.toml:10", "low_date"]),
            ("low_data = 0.3", "low_data = 0.01", ["low_data = 0.01", "batch of 16"]),
            ("held_out = 40", "held_out = 4000", ["held_out = 4000", "160"]),
        ]:
            (self.folder / "study.toml").write_text(DESIGN.replace(old, new, 1))
            self.refused(*self.command, saying=saying)
        self.assertFalse((self.folder / "s").exists())
        self.refused("study", "coupling", "none.toml", saying=["none.toml"])


if __name__ == "__main__":
    unittest.main()
