#!/usr/bin/python3
"""End to end: tools/profile and tools/gpu_check with stubs in the place of what a GPU's machine has (Nsight, nvidia-smi)."""
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from common import PROGRAM, Case, Result, environment

ROOT = Path(__file__).resolve().parents[2]


class ToolCase(Case):
    """A copy of one tool in a project of its own, whose build holds stubs; every call of a stub is kept."""
    TOOL = ""

    def setUp(self):
        super().setUp()
        self.root = self.folder / "project"
        self.bin = self.folder / "bin"
        (self.root / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools" / self.TOOL, self.root / "tools")
        self.calls_file = self.folder / "calls"

    def stub(self, path, body="", status=0):
        """A Python program that keeps its arguments and then does what `body` says."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport json, os, sys\n"
                        f"open({str(self.calls_file)!r}, 'a').write(json.dumps(sys.argv) + '\\n')\n"
                        f"{body}\nsys.exit({status})\n")
        path.chmod(0o755)
        return path

    def calls(self, name):
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [call[1:] for call in map(json.loads, lines) if Path(call[0]).name == name]

    def tool(self, *arguments, env=None, status=0, timeout=120):
        path = f"{self.bin}:{os.environ['PATH']}"
        completed = subprocess.run([self.root / "tools" / self.TOOL, *map(str, arguments)], cwd=self.folder,
                                   capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout,
                                   env=environment(self.folder) | {"PATH": path} | (env or {}))
        result = Result(completed)
        self.assertEqual(result.status, status, f"{arguments}: {result}")
        return result

    def refused(self, *arguments, saying, **options):
        """One line on standard error that says every word of `saying`, and status 2."""
        result = self.tool(*arguments, status=2, **options)
        self.assertEqual(len(result.err.splitlines()), 1, str(result))
        self.assertTrue(result.err.startswith(f"tools/{self.TOOL}: "), str(result))
        for word in saying:
            self.assertIn(word, result.err)


class Profile(ToolCase):
    TOOL = "profile"

    def setUp(self):
        super().setUp()
        self.ranvier = self.stub(self.root / "build/ranvier")

    def install(self, name, status=0):
        self.stub(self.bin / name, status=status)

    def test_training_under_systems(self):
        self.install("nsys")
        result = self.tool("--steps", 7, "--out", "found", "train", "--model", "tiny")
        profile, ops, kernels = self.calls("nsys")
        self.assertEqual(profile[0], "profile")
        at = profile.index(str(self.ranvier))
        self.assertEqual(profile[at + 1:], ["train", "--model", "tiny", "--profile-steps", "7"])
        for flag in ("--trace=cuda,nvtx", "--cuda-graph-trace=node", "--capture-range=nvtx", "--nvtx-capture=profile",
                     "--capture-range-end=stop"):
            self.assertIn(flag, profile[:at])
        for stats, report in ((ops, "nvtx_gpu_proj_sum"), (kernels, "cuda_gpu_kern_sum")):
            self.assertEqual((stats[0], stats[-1]), ("stats", "found/timeline.nsys-rep"))
            self.assertEqual(stats[stats.index("--report") + 1], report)
        self.assertIn("found/timeline.nsys-rep", result.out)

    def test_captured_steps_have_no_table_of_ops(self):
        self.install("nsys")
        self.tool("--captured", "train")
        profile, kernels = self.calls("nsys")
        self.assertEqual(profile[-4:], ["train", "--profile-steps", "20", "--profile-captured"])
        self.assertIn("cuda_gpu_kern_sum", kernels)

    def test_other_commands_are_recorded_whole(self):
        self.install("nsys")
        for command in (["simulate", "--preset", "rs2003"], ["pinn", "many"], ["bench", "coupling"]):
            self.calls_file.unlink(missing_ok=True)
            self.tool(*command)
            profile = self.calls("nsys")[0]
            self.assertEqual(profile[profile.index(str(self.ranvier)) + 1:], command)
            self.assertFalse([flag for flag in profile if "capture-range" in flag])

    def test_training_under_compute(self):
        self.install("ncu")
        self.tool("--tool", "ncu", "--steps", 3, "train")
        measured, printed = self.calls("ncu")
        at = measured.index(str(self.ranvier))
        self.assertEqual(measured[at + 1:], ["train", "--profile-steps", "3"])
        self.assertEqual(measured[measured.index("--nvtx-include") + 1], "profile/")
        self.assertEqual(measured[measured.index("--graph-profiling") + 1], "node")
        self.assertEqual(printed[printed.index("--import") + 1], "runs/profile/kernels.ncu-rep")
        self.assertEqual(printed[printed.index("--print-nvtx-rename") + 1], "kernel")
        self.assertIn("gpu__time_duration.sum", printed[printed.index("--metrics") + 1])

    def test_what_fails_ends_it(self):
        self.install("nsys", status=3)
        self.tool("train", status=3)
        self.assertEqual(len(self.calls("nsys")), 1)

    def test_bad_input(self):
        self.refused("train", saying=["nsys", "not installed", "--trace"], env={"PATH": f"{self.bin}:/usr/bin:/bin"})
        self.install("nsys")
        self.refused(saying=["which command"])
        self.refused("eval", saying=["'eval'"])
        self.refused("--steps", "0", "train", saying=["--steps 0"])
        self.refused("--steps", "many", "train", saying=["--steps many"])
        self.refused("--steps", saying=["--steps needs a value"])
        self.refused("--tool", "perf", "train", saying=["--tool perf", "nsys and ncu"])
        self.refused("--captured", "simulate", saying=["--captured", "train"])
        self.ranvier.unlink()
        self.refused("train", saying=["build/ranvier is not built"])
        self.assertEqual(self.calls("nsys"), [])


if __name__ == "__main__":
    unittest.main()
