#!/usr/bin/python3
"""End to end: networks train with coupled units, from flags and from TOML; strength 0 is the baseline; pictures; bad input."""
import json
import shutil
import struct
import unittest

from common import DEVICE, TINY_RUN, Case, metrics, tensors, write_batches


class Train(Case):
    def setUp(self):
        super().setUp()
        self.data = write_batches(self.folder / "data", train=64, test=20)

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


    def test_norms_follow_learned_geometry(self):
        """|K| and Z in a file are those at the start of its last epoch; the first one's are of what the geometry began as."""
        def norms(out, *arguments):
            found = self.train(out, "--coupling", "ephaptic", "--sites", "conv2", "--strength", "0.3", *arguments)
            return [found[f"buffers/block2.norm.coupling.{name}"] for name in ("norm", "scale")]

        learned = ("--coupling-geometry", "learned")
        fixed, one, two = norms("fixed"), norms("one", *learned, "--epochs", "1"), norms("two", *learned)
        self.assertEqual(one, fixed)
        for was, became in zip(one, two):
            self.assertNotEqual(was, became)


class Show(Case):
    def test_checkpoint(self):
        data = write_batches(self.folder / "data")
        train = ("train", *TINY_RUN, "--data", data, "--epochs", "1")
        self.json(*train, "--out", "plain")
        self.json(*train, "--out", "run", "--coupling", "energy", "--sites", "conv2,block3.norm", "--coupling-geometry",
                  "learned")
        file = ("--checkpoint", "run/checkpoint.safetensors")
        first = self.json("coupling", "show", *file)
        self.assertEqual(first["layer"], "block2.norm")
        self.assertEqual(self.json("coupling", "show", *file, "--layer", "block2.norm"), first)
        self.assertAlmostEqual(first["eigenvalues"][0] / first["norm"], 1, places=2)
        began = tensors(self.folder / "run/checkpoint.safetensors")[0]["buffers/block2.norm.coupling.norm"]
        self.assertNotEqual(first["norm"], struct.unpack("<f", began[2])[0])  # shown is what has been learned
        third = self.json("coupling", "show", *file, "--layer", "block3.norm")
        self.assertNotEqual(third["units"], first["units"])
        self.assertEqual(len(third["eigenvalues"]), third["units"])
        for arguments, words in (((*file, "--layer", "conv9"), ["conv9", "block2.norm, block3.norm"]),
                                 ((*file, "--units", "8"), ["--checkpoint", "--units"]),
                                 ((*file, "--coupling-axes", "3"), ["--checkpoint", "--coupling-axes"]),
                                 (("--layer", "block2.norm"), ["--layer", "--checkpoint"]),
                                 (("--checkpoint", "plain/checkpoint.safetensors"), ["plain/", "no layer"])):
            self.refused("coupling", "show", *arguments, saying=words)

    def test_a_law_that_reaches_no_neighbour(self):
        """|K| is that of the matrix however small it is: power iteration squares it on the way."""
        for length in ("0.1", "0.075"):
            result = self.json("coupling", "show", "--units", "32", "--coupling-law", "gaussian", "--coupling-length", length,
                               "--coupling-softening", "0.001")
            self.assertLess(result["norm"], 1e-5)
            self.assertAlmostEqual(result["eigenvalues"][0] / result["norm"], 1, places=2)

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
            for form in ("ephaptic", "epistatic", "energy and its gradient", "covariance and its gradient"):
                self.assertGreater(rows[f"{channels} channels, {form}", "bf16"]["GB/s"], 0)
        for law in ("gaussian", "full law"):
            self.assertGreater(rows[f"40 units, batch 1, {law}, 2 axes", "f32"]["ps/pair"], 0)
            self.assertGreater(rows[f"40 units, batch 256, {law}, 2 axes", "bf16"]["ps/pair"], 0)
        for what in ("squares", "squares, gradient in x", "squares, gradient in positions"):
            for batch in (64, 256):
                self.assertGreater(rows[f"40 units, batch {batch}, {what}", "f32"]["ps/pair"], 0)
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
                (("--sites", ""), "sites"),
                (("--sites", "conv2,conv2"), ["'conv2' and 'conv2'", "one layer"]),
                (("--sites", "conv2,block2.norm"), ["'conv2' and 'block2.norm'", "one layer"]), (("--coupling", "magnetic"), ["'magnetic' is unknown", "energy"]),
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
