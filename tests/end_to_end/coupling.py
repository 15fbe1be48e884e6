#!/usr/bin/python3
"""End to end: networks train with coupled units, from flags and from TOML; strength 0 is the baseline; pictures; bad input."""
import json
import shutil
import unittest

from common import DEVICE, TINY_RUN, Case, metrics, tensors, write_batches


class Train(Case):
    def setUp(self):
        super().setUp()
        self.data = write_batches(self.folder / "data")

    def train(self, out, *arguments):
        self.json("train", *TINY_RUN, "--data", self.data, "--out", out, *arguments)
        return tensors(self.folder / out / "checkpoint.safetensors")[0]

    def test_flags_file_and_strength_zero(self):
        baseline = self.train("baseline")
        self.same_tensors(baseline, self.coupled_to_zero())
        flags = self.train("flags", "--coupling", "energy", "--sites", "conv2,block3.norm", "--strength", "0.2")
        self.assertNotEqual(baseline["head.weight"], flags["head.weight"])
        self.assertIn("block3.norm.coupling.positions", " ".join(flags))
        (self.folder / "coupled.toml").write_text('coupling = "energy"\nsites = "conv2,block3.norm"\nstrength = 0.2\n')
        self.json("train", "coupled.toml", *TINY_RUN, "--data", self.data, "--out", "file")
        self.same_tensors(flags, self.folder / "file/checkpoint.safetensors")

    def coupled_to_zero(self):
        self.train("zero", "--coupling", "ephaptic", "--sites", "conv2", "--strength", "0")
        return self.folder / "zero/checkpoint.safetensors"

    def test_activation_forms(self):
        self.train("training", "--coupling", "ephaptic", "--sites", "conv2", "--strength", "-0.3")
        evaluated = [line for line in metrics(self.folder / "training") if "test_accuracy" in line]
        for line in evaluated:
            self.assertIn("test_accuracy_training_statistics", line)
        self.train("always", "--coupling", "epistatic", "--sites", "conv2", "--coupling-active", "always",
                   "--coupling-geometry", "learned")
        for run in ("training", "always"):  # evaluation from the file finds the same network
            result = self.json("eval", "--checkpoint", f"{run}/checkpoint.safetensors", "--data", self.data)
            self.assertEqual(result["test_accuracy"], metrics(self.folder / run)[-1]["test_accuracy"], run)

    def test_resumed_run_has_the_same_bits(self):
        arguments = ("--coupling", "ephaptic", "--sites", "conv3", "--coupling-geometry", "learned")
        whole = self.train("whole", *arguments)
        self.json("train", *TINY_RUN, "--data", self.data, "--out", "parts", *arguments, "--epochs", "2")
        self.same_tensors(whole, self.folder / "parts/checkpoint.safetensors")


class Show(Case):
    @unittest.skipUnless(shutil.which("gnuplot"), "skipped: no gnuplot")
    def test_pictures(self):
        result = self.json("coupling", "show", "--units", "30", "--out", "pictures", "--coupling-axes", "3")
        self.assertEqual(len(result["eigenvalues"]), 30)
        self.assertAlmostEqual(sum(result["eigenvalues"]), 0, places=4)  # the diagonal of K is zero
        self.assertAlmostEqual(max(result["eigenvalues"]), result["norm"], places=3)
        for name in ("law", "units", "spectrum"):
            self.assertGreater((self.folder / f"pictures/{name}.png").stat().st_size, 4000)


class Bench(Case):
    """The device's half of `bench coupling`: on a GPU, or in a build whose device is emulated."""

    def test_on_a_device(self):
        self.need_device()
        result = self.json("bench", "coupling", "--device", "cuda", "--units", 40, "--rows", 70, "--wide", 48, "--seconds",
                           0.001, "--no-peaks", env=DEVICE)  # whose measurement takes an emulated device minutes
        rows = {(row["name"], row.get("dtype")): row for row in result["rows"]}
        for row in rows.values():
            self.assertGreater(row["ms"], 0)
        for channels in (64, 128, 256):
            for form in ("ephaptic", "epistatic", "energy and its gradient"):
                self.assertGreater(rows[f"{channels} channels, {form}", "bf16"]["GB/s"], 0)
        for law in ("gaussian", "full law"):
            self.assertGreater(rows[f"40 units, batch 1, {law}, 2 axes", "f32"]["ps/pair"], 0)
            self.assertGreater(rows[f"40 units, batch 256, {law}, 2 axes", "bf16"]["ps/pair"], 0)
        for error in rows["48 units, batch 32, forward and backward", None]["relative_l2"]:
            self.assertLess(error, 1e-5)

    def test_sizes_are_checked(self):
        self.refused("bench", "coupling", "--units", "-3", saying=["--units", "-3"])


class BadInput(Case):
    def test_values(self):
        data = write_batches(self.folder / "data")
        coupled = ("train", *TINY_RUN, "--data", data, "--out", "run", "--coupling", "ephaptic", "--sites", "conv2")
        for arguments, words in (
                (("--strength", "nan"), ["strength", "nan"]), (("--strength", "inf"), ["strength", "inf"]),
                (("--strength", "1"), ["strength", "1"]), (("--sites", "conv9"), ["conv9", "block2.norm"]),
                (("--sites", ""), "sites"), (("--coupling", "magnetic"), "magnetic"),
                (("--coupling-myelin", "1"), ["myelin", "1"]), (("--coupling-myelin", "-0.1"), ["myelin", "-0.1"]),
                (("--coupling-size-spread", "-1"), ["size_spread", "-1"]), (("--coupling-length", "0"), ["length", "0"]),
                (("--coupling-law", "magic"), ["coupling_law", "magic"]),
                (("--coupling-factors", "distance,mass"), ["coupling_factors", "mass"]),
                (("--coupling-softening", "0", "--coupling-geometry", "learned"), "softening")):
            self.refused(*coupled, *arguments, saying=words)
        self.refused("train", *TINY_RUN, "--data", data, "--out", "run", "--strength", "0.5", saying="strength")
        self.refused("coupling", "show", "--units", "1", saying=["--units", "1"])
        self.assertFalse((self.folder / "run").exists())


if __name__ == "__main__":
    unittest.main()
