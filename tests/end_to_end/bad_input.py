#!/usr/bin/python3
"""End to end: bad input of every kind gives one clear line and exit status 2, and leaves earlier checkpoints whole."""
import json
import os
import resource
import shutil
import subprocess
import unittest

from common import CLASSES, RECORD, TINY_RUN, Case, tensors, write_batches, write_image_folder, write_safetensors


class Data(Case):
    def refused_data(self, path, saying):
        self.refused("train", *TINY_RUN, "--data", path, "--out", "run", saying=saying)
        self.refused("data", "info", "--data", path, saying=saying)
        self.assertFalse((self.folder / "run").exists())

    def test_binary_batches(self):
        data = write_batches(self.folder / "data")
        batch = data / "data_batch_2.bin"
        good = batch.read_bytes()
        batch.write_bytes(good[:-1])
        self.refused_data(data, ["data_batch_2.bin", "truncated", str(len(good) - 1)])
        batch.write_bytes(good + b"x")
        self.refused_data(data, ["data_batch_2.bin", str(len(good))])
        batch.write_bytes(good[:5 * RECORD] + bytes([len(CLASSES)]) + good[5 * RECORD + 1:])
        self.refused_data(data, ["data_batch_2.bin", "label 4", f"offset {5 * RECORD}"])
        batch.write_bytes(b"")
        self.refused_data(data, ["data_batch_2.bin", "offset 0"])
        batch.unlink()
        self.refused_data(data, "data_batch_2.bin")
        batch.mkdir()
        self.refused_data(data, "data_batch_2.bin")
        batch.rmdir()
        batch.write_bytes(good)
        (data / "counts.txt").write_text("data_batch_1.bin many\n")
        self.refused_data(data, ["counts.txt", "line 1"])
        (data / "counts.txt").unlink()  # then every batch must have the official 10,000 records
        self.refused_data(data, ["data_batch_1.bin", "10000 records"])

    def test_image_folder(self):
        folder = write_image_folder(self.folder / "pictures")
        picture = folder / "train/red/003.png"
        good = picture.read_bytes()
        for bad in (good[:60], good[:40] + b"\xff" + good[41:], b"no picture at all", b""):
            picture.write_bytes(bad)
            self.refused_data(folder, "red/003.png")
        picture.write_bytes(good)
        (folder / "test/blue").mkdir()
        self.refused_data(folder, "blue")
        (folder / "train/blue").mkdir()
        self.refused_data(folder, "blue")
        shutil.rmtree(folder / "train/blue")
        shutil.rmtree(folder / "test/blue")
        shutil.rmtree(folder / "test")
        self.refused_data(folder, "test")
        self.refused("data", "import", folder, "--out", "binary", saying="test")

    def test_other_paths(self):
        (self.folder / "file").write_text("no archive")
        (self.folder / "empty").mkdir()
        for name in ("file", "empty", "absent", "/dev/null"):
            self.refused_data(name, name)


class Config(Case):
    def setUp(self):
        super().setUp()
        self.data = write_batches(self.folder / "data", train=64, test=8)

    def refused_toml(self, text, saying):
        (self.folder / "run.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        self.refused("train", "run.toml", "--data", self.data, "--out", "run", saying=saying)
        self.assertFalse((self.folder / "run").exists())

    def test_toml(self):
        for text, saying in (
                ("epochs = 1\nepoch = 2\n", ["run.toml:2", "'epoch'"]),
                ("\nepochs = \"two\"\n", ["run.toml:2", "epochs", "whole number"]),
                ("epochs = 1.5\n", ["run.toml:1", "epochs", "whole number"]),
                ("lr = true\n", ["run.toml:1", "lr", "number"]),
                ("flip = 1\n", ["run.toml:1", "flip", "true or false"]),
                ("model = 3\n", ["run.toml:1", "model", "string"]),
                ("model = [\"tiny\"]\n", ["run.toml:1", "model"]),
                ("epochs = \n", "run.toml:1"),
                ("a = 1\n\n[[", "run.toml:3"),
                ("epochs = 1\nepochs = 2\n", "run.toml:2"),
                ("[[optimizer]]\nwarmup = 2\n", "warmup"),
                (b"model = \"\xff\xfe\"\n", "run.toml:1"),
                ("epochs = 99999999999999999999\n", "run.toml:1"),
                ("[optimizer]\nlr = 1\n", ["run.toml:1", "optimizer"]),
                ("[[optimizer]]\nrate = 1\n", ["run.toml:2", "optimizer.rate"]),
                ("[[optimizer]]\nmethod = \"sgdd\"\n", ["run.toml:1", "sgdd"]),
                ("[[optimizer]]\nschedule = \"step\"\n", ["run.toml:1", "step"]),
                ("[[optimizer]]\npattern = \"(\"\n", ["run.toml:1", "(", "pattern"]),
                ("[[optimizer]]\npattern = \"conv\"\n", "norm"),
                ("[[optimizer]]\nbeta1 = 2.0\nmethod = \"adamw\"\n", "beta1"),
                ("[[optimizer]]\nmethod = \"muon\"\niterations = -1\n", "iterations"),
                ("[[optimizer]]\nlr = nan\n", "lr"),
                ("[train]\nepochs = 1\n", ["run.toml:1", "'train'"]),
                ("lr = nan\n", "lr"), ("lr = -1\n", "lr"), ("momentum = 1.0\n", "momentum"),
                ("label_smoothing = 2\n", "label_smoothing"), ("epochs = -1\n", "epochs"), ("batch = -1\n", "batch"),
                ("limit = -5\n", "limit"), ("accumulate = 0\n", "accumulate"), ("cutout = 33\n", "cutout"),
                ("translate = -1\n", "translate"), ("threads = -1\n", "threads"), ("seed = -1\n", "seed"),
                ("eval_every = -1\n", "eval_every"), ("checkpoint_every = -1\n", "checkpoint_every"),
                ("x = " + "[" * 5000, "run.toml:1")):
            with self.subTest(text[:60]):
                self.refused_toml(text, saying)
        self.refused("train", "absent.toml", saying="absent.toml")
        self.refused("train", self.folder, saying=str(self.folder))
        self.refused("train", "--out", "run", "--resume", saying="nothing to resume")

    def test_flags(self):
        for flag, value, saying in (
                ("--epochs", "two", "epochs"), ("--epochs", "1.5", "epochs"), ("--batch", "", "batch"),
                ("--batch", "65", ["batch", "65", "64"]), ("--batch", "1000001", "batch"), ("--lr", "fast", "lr"),
                ("--lr", "1\nepochs = 3", "lr"), ("--flip", "maybe", "flip"), ("--model", "vgg", ["vgg", "tiny"]),
                ("--seed", "-3", "seed"), ("--threads", "-1", "threads"), ("--threads", "9" * 30, "threads"),
                ("--device", "cuda", ["--device cuda", "no CUDA"]), ("--device", "tpu", "tpu"),
                ("--precision", "f8", ["f8", "bf16"]),
                ("--variant", "conv2d=nothing", ["conv2d", "nothing"]), ("--variant", "conv9=native", "conv9"),
                ("--variant", "=", "variant"), ("--weights", "absent.safetensors", "absent.safetensors"),
                ("--limit", "8", ["batch", "8"]), ("--epochs", "9" * 18, "epochs")):
            with self.subTest(f"{flag} {value}"):
                self.refused("train", "--batch", 16, "--data", self.data, "--out", "run", flag, value, saying=saying)
        self.refused("train", "--frobnicate", saying="--frobnicate")
        for command in (["info"], ["bench", "ops"], ["bench", "train"], ["bench", "plan"]):
            self.refused(*command, "--device", "cuda", saying="--device cuda")

    VARIANTS = (("conv2d=nothing", ["conv2d", "'nothing'", "native"]), ("conv9=native", "'conv9'"), ("=", "variant"),
                ("cudnn", ["'cudnn'", "on cpu"]), ("handwritten", ["'handwritten'", "on cpu"]), ("foo", "'foo'"),
                ("conv2d=cudnn", ["conv2d", "'cudnn' on cpu", "native"]), ("reference,foo=bar", "'foo'"),
                ("muon=handwritten", ["muon", "none"]), ("native,,reference", "''"))

    def test_variants(self):
        """A variant that is not there is an error on every command that runs networks, before anything else is done."""
        self.json("train", *TINY_RUN, "--data", self.data, "--out", "run", "--epochs", 1)
        self.ok("data", "sample", "one.png", "--data", self.data)
        trained = ("--checkpoint", "run/checkpoint.safetensors")
        for command in (["train", *TINY_RUN, "--data", self.data, "--out", "other"], ["eval", *trained, "--data", self.data],
                        ["predict", "one.png", *trained], ["bench", "ops", "--model", "tiny"],
                        ["bench", "train", "--model", "tiny"], ["bench", "plan", "--model", "tiny", "--repeats", 1]):
            for variant, saying in self.VARIANTS if command[0] == "train" else self.VARIANTS[3:7]:
                with self.subTest(f"{command} --variant {variant}"):
                    self.refused(*command, "--variant", variant, saying=saying)
        self.assertFalse((self.folder / "other").exists())
        for command in (["info"], ["data", "info"], ["simulate", "--preset", "rs2007"], ["simulate", "compare"], ["pinn"],
                        ["coupling", "show"], ["bench", "neurons"], ["bench", "coupling"], ["view"]):
            self.refused(*command, "--variant", "foo", saying="--variant")  # they run no network
        # a name that asks every op is taken where an op has it, and what runs otherwise is said once
        result = self.ok("bench", "plan", "--model", "tiny", "--variant", "native", "--repeats", 2)
        told = [line for line in result.err.splitlines() if line.startswith("variant native: does not run ")]
        self.assertEqual(len(told), 1, result)
        self.assertIn("batch_norm", told[0])
        self.assertNotIn("conv2d", told[0])
        self.assertNotIn("variant", self.ok("bench", "plan", "--model", "tiny", "--repeats", 1).err)

    def test_flags_before_a_download(self):
        """What is wrong with the flags is said without the data set that is not there."""
        curl = self.folder / "bin/curl"
        curl.parent.mkdir()
        curl.write_text(f"#!/bin/sh\ntouch '{self.folder}/asked'\nexit 6\n")
        curl.chmod(0o755)
        (self.folder / "file").write_text("in the way")
        without_data = {"PATH": f"{curl.parent}:{os.environ['PATH']}"}
        for flags, saying in ((("--precision", "f8"), "f8"), (("--precision", "bf16"), ["bf16", "CPU"]),
                              (("--variant", "conv2d=foo"), "'foo'"), (("--variant", "cudnn"), "'cudnn'"),
                              (("--model", "speednet", "--variant", "conv2d=winograd"), "conv2d=winograd"),
                              (("--device", "tpu"), "tpu"), (("--weights", "absent"), "absent"),
                              (("--weights", self.data), str(self.data)), (("--name-map", "absent"), "absent"),
                              (("--coupling", "energy", "--strength", "0.1", "--sites", "conv9"), "conv9"),
                              (("--out", "file"), "file"), (("--out", "file/run"), "file/run")):
            with self.subTest(str(flags)):
                self.refused("train", *flags, saying=saying, env=without_data)
        self.assertFalse((self.folder / "asked").exists())
        self.refused("data", "fetch", saying="cifar", env=without_data)
        self.assertTrue((self.folder / "asked").exists(), "the stub is what fetches")


class Checkpoint(Case):
    def setUp(self):
        super().setUp()
        self.data = write_batches(self.folder / "data", train=64, test=8)
        self.json("train", *TINY_RUN, "--data", self.data, "--out", "run")
        self.good = self.folder / "run/checkpoint.safetensors"
        self.bytes = self.good.read_bytes()

    def refused_file(self, name, saying):
        picture = self.folder / "one.png"
        if not picture.exists():
            self.ok("data", "sample", picture, "--data", self.data)
        self.refused("eval", "--checkpoint", name, "--data", self.data, saying=saying)
        self.refused("predict", picture, "--checkpoint", name, saying=saying)

    def test_damaged_files(self):
        bad = self.folder / "bad.safetensors"
        length = int.from_bytes(self.bytes[:8], "little")
        for content, saying in ((self.bytes[:-1], []), (self.bytes[:8 + length + 100], []), (self.bytes[:100], []),
                                (self.bytes[:5], []), (b"", []), (self.bytes + b"x", []),
                                ((2**63).to_bytes(8, "little") + self.bytes[8:], []),
                                (self.bytes[:8] + b"}" + self.bytes[9:], [])):
            bad.write_bytes(content)
            self.refused_file(bad, ["bad.safetensors", *saying])
        self.refused_file("absent.safetensors", "absent.safetensors")
        self.refused_file(self.folder, str(self.folder))

    def test_hostile_headers(self):
        bad = self.folder / "bad.safetensors"
        metadata = tensors(self.good)[1]
        one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        for header in ({"a": one | {"data_offsets": [0, 800]}}, {"a": one, "b": one},
                       {"a": one | {"data_offsets": [8, 0]}}, {"a": one | {"shape": [2**62, 2**62]}},
                       {"a": one | {"shape": [-2]}}, {"a": one | {"dtype": "F99"}}, {"a": 3}, [], {"a": {}}):
            if isinstance(header, dict):
                header["__metadata__"] = metadata
            write_safetensors(bad, header, b"\0" * 8)
            self.refused_file(bad, "bad.safetensors")

    def test_metadata(self):
        bad = self.folder / "bad.safetensors"
        length = int.from_bytes(self.bytes[:8], "little")
        header = json.loads(self.bytes[8:8 + length])
        for key, value in (("model", "vgg"), ("model", "speednet"), ("classes", "[1, 2]"), ("classes", "{"),
                           ("classes", '["a", "b"]'), ("mean", "[1]"), ("mean", '["x", 1, 2]'), ("std", "null"),
                           ("weights", "nothing"), ("model", None), ("weights", None), ("classes", "[]"),
                           ("std", "[0, 0, 0]")):
            changed = dict(header["__metadata__"])
            changed.pop(key)
            if value is not None:
                changed[key] = value
            write_safetensors(bad, header | {"__metadata__": changed}, self.bytes[8 + length:])
            with self.subTest(f"{key} = {value}"):
                self.refused_file(bad, "bad.safetensors")
        for step in ("-1", "1e9", "99999999999999999999", "", "7 "):
            write_safetensors(self.good, header | {"__metadata__": header["__metadata__"] | {"step": step}},
                              self.bytes[8 + length:])
            with self.subTest(f"step = {step}"):
                self.refused("train", "--resume", "--out", "run", saying=["run/checkpoint.safetensors", "step"])

    def test_weights_and_name_maps(self):
        bad = self.folder / "bad.safetensors"
        bad.write_bytes(self.bytes[:-1])
        train = ["train", *TINY_RUN, "--data", self.data, "--out", "other", "--weights"]
        self.refused(*train, bad, saying="bad.safetensors")
        write_safetensors(bad, {"head.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8)
        self.refused(*train, bad, saying=["bad.safetensors", "head.weight"])
        self.refused(*train, self.good, "--name-map", "absent.toml", saying="absent.toml")
        (self.folder / "map.toml").write_text("[[rule]]\nregex = \"(\"\nto = \"\"\n")
        self.refused(*train, self.good, "--name-map", "map.toml", saying="map.toml")


class Places(Case):
    def setUp(self):
        super().setUp()
        self.data = write_batches(self.folder / "data", train=64, test=8)
        self.train = ["train", *TINY_RUN, "--data", self.data]

    def test_unwritable(self):
        (self.folder / "file").write_text("in the way")
        self.refused(*self.train, "--out", "file", saying="file")
        self.refused(*self.train, "--out", "file/run", saying="file/run")
        self.refused("data", "sample", "file/x.png", "--data", self.data, saying="file/x.png")
        self.refused("data", "sample", "absent/x.png", "--data", self.data, saying="absent/x.png")
        pictures = write_image_folder(self.folder / "pictures")
        self.refused("data", "import", pictures, "--out", "file/binary", saying="file/binary")
        if os.geteuid() != 0:
            (self.folder / "closed").mkdir(mode=0o500)
            self.refused(*self.train, "--out", "closed", saying="closed")

    def test_file_size_limit(self):
        """A checkpoint needs 0.8 MB; the earlier one stays whole where a write fails."""
        self.json(*self.train, "--out", "run", "--epochs", 1, "--lr", 0.01)
        before = (self.folder / "run/checkpoint.safetensors").read_bytes()
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        self.refused("train", "--resume", "--out", "run", "--epochs", 2, preexec_fn=limit,
                     saying="run/checkpoint.safetensors")
        self.assertEqual(hash(before), hash((self.folder / "run/checkpoint.safetensors").read_bytes()))
        self.assertEqual([p.name for p in (self.folder / "run").glob("*.part*")], [])
        self.json("train", "--resume", "--out", "run", "--epochs", 2)

    def mount(self, options):
        place = self.folder / "mounted"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
        if done.returncode:
            self.skipTest("skipped: no right to mount a small file system here")
        self.addCleanup(subprocess.run, ["umount", "-l", place])
        return place

    def test_full_disk(self):
        place = self.mount("size=1400k")  # one checkpoint (0.8 MB) fits, a second beside it does not
        self.json(*self.train, "--out", place / "run", "--epochs", 1)
        before = (place / "run/checkpoint.safetensors").read_bytes()
        self.refused("train", "--resume", "--out", place / "run", "--epochs", 2,
                     saying=["checkpoint.safetensors", "No space left"])
        self.assertEqual(hash(before), hash((place / "run/checkpoint.safetensors").read_bytes()))
        with open(place / "more", "wb", buffering=0) as more:
            try:
                while more.write(b"\0" * 4096):
                    pass
            except OSError:
                pass
        for out in ("other", "run"):
            self.refused(*self.train, "--out", place / out, *(["--resume"] if out == "run" else []), saying=str(place))

    def test_read_only(self):
        place = self.mount("size=8m")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        self.refused(*self.train, "--out", place / "run", saying=[str(place), "Read-only"])
        self.refused(*self.train, "--out", place, saying=[str(place), "Read-only"])


class Diverging(Case):
    def test_nan(self):
        data = write_batches(self.folder / "data", train=64, test=8)
        self.json("train", *TINY_RUN, "--data", data, "--out", "run", "--epochs", 1, "--lr", 0.01)
        before = (self.folder / "run/checkpoint.safetensors").read_bytes()
        self.refused("train", "--resume", "--out", "run", "--epochs", 20, "--lr", "1e6", "--momentum", 0.999,
                     "--weight-decay", 1000, "--checkpoint-every", 0, saying=["loss", "step", "checkpoint"])
        self.assertEqual(hash(before), hash((self.folder / "run/checkpoint.safetensors").read_bytes()))
        self.refused("train", *TINY_RUN, "--data", data, "--out", "other", "--epochs", 20, "--lr", "1e6",
                     "--momentum", 0.999, "--weight-decay", 1000, "--checkpoint-every", 0,
                     saying=["the loss is", "step", "no checkpoint"])


if __name__ == "__main__":
    unittest.main()
