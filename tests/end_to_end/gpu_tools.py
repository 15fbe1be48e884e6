#!/usr/bin/python3
"""End to end: tools/profile and tools/gpu_check with stubs in the place of what a GPU's machine has (Nsight, nvidia-smi)."""
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from common import PROGRAM, TINY_RUN, Case, Result, environment, write_batches

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


class ProfiledSteps(Case):
    """What tools/profile asks of the program."""

    def test_steps_of_training(self):
        data = write_batches(self.folder / "data")  # 20 steps
        train = ("train", *TINY_RUN, "--data", data, "--out", "run")
        plain = self.json(*train)
        for flags in ([], ["--profile-captured"]):
            shutil.rmtree(self.folder / "run")
            profiled = self.json(*train, "--profile-steps", 5, *flags)
            self.assertEqual(profiled["train_loss"], plain["train_loss"])
        self.refused("train", *TINY_RUN, "--data", data, "--out", "short", "--profile-steps", 10,
                     saying=["--profile-steps 10", "20 steps", "10 warm up"])


# A GPU's machine as gpu_check sees it: (what nvidia-smi is asked, its answer).
H100 = {"name": "NVIDIA H100 80GB HBM3", "driver_version": "580.1", "compute_cap": "9.0"}

CMAKE = """
if sys.argv[1] == '-E':
    os.execv({cmake!r}, sys.argv)
if '-S' in sys.argv:
    os.makedirs('build-gpu', exist_ok=True)
if '--build' in sys.argv and not {broken!r}:
    import shutil
    os.makedirs('build-gpu/tests', exist_ok=True)
    shutil.copy({ranvier!r}, 'build-gpu/ranvier')
    for name in sys.argv[sys.argv.index('ranvier') + 1:]:
        shutil.copy({test!r}, 'build-gpu/tests/' + name)
"""

# The program of the stubbed build: refuses what the real one refuses, but for the device that is not there.
RANVIER = """
import subprocess
if '--version' in sys.argv:
    sys.exit({starts})
real = subprocess.run([{program!r}, *sys.argv[1:]], capture_output=True, text=True, env={env!r})
if '--device cuda: ' not in real.stderr:
    sys.exit('not refused for want of a device: ' + real.stderr)
if 'coupling' in sys.argv:
    sys.exit(3)
print('a line for people', file=sys.stderr)
print(json.dumps({{'arguments': sys.argv[1:]}}))
"""


class GpuCheck(ToolCase):
    TOOL = "gpu_check"
    TESTS = ["elementwise_cuda", "reduce", "matmul_cuda", "norm_cuda", "ptx", "pool"]

    def setUp(self):
        super().setUp()
        self.smi(H100)
        self.stub(self.bin / "nvcc")
        self.stub(self.bin / "python3", status=1)  # no PyTorch, no pip
        self.stub(self.bin / "compute-sanitizer", "os.execv(sys.argv[5], sys.argv[5:])")
        self.stub(self.bin / "ctest", "print('\\n'.join(f'  Test #{i}: gpu_{name}' for i, name in enumerate(%r)))" %
                  self.TESTS)
        self.build()

    def smi(self, answers):
        self.stub(self.bin / "nvidia-smi", f"""
answers = {answers!r}
for key, value in answers.items():
    if sys.argv[1] == '--query-gpu=' + key:
        print(value)
        sys.exit(0)
sys.exit(9)""")

    def build(self, broken=False, starts=0):
        """What configuring and building makes."""
        env = environment(self.folder)
        program = RANVIER.format(program=os.path.abspath(PROGRAM), env=env, starts=starts)
        self.ranvier = self.stub(self.folder / "made/ranvier", program)
        self.test = self.stub(self.folder / "made/test", "print('passed')")
        self.stub(self.bin / "cmake", CMAKE.format(cmake=shutil.which("cmake"), broken=broken, ranvier=str(self.ranvier),
                                                   test=str(self.test)))

    def report(self):
        found = self.root / "runs/gpu_check"
        return json.loads((found / "gpu.json").read_text()), (found / "gpu.md").read_text()

    def test_every_stage_in_order(self):
        result = self.tool(status=1)
        self.assertIn("FAILED: bench_coupling", result.out.splitlines()[-1])
        found, text = self.report()
        self.assertEqual({key: found[key] for key in ("gpu", "driver", "complete")},
                         {"gpu": H100["name"], "driver": "580.1", "complete": True})
        stages = ["build", "info", "tests", "memcheck", "racecheck", "bench_ops", "bench_train", "tiny", "speednet",
                  "bench_neurons", "bench_networks", "pinn_many", "bench_coupling"]
        self.assertEqual(list(found["stages"]), stages, result)
        for key, stage in found["stages"].items():
            self.assertEqual(stage["status"], 3 if key == "bench_coupling" else 0, f"{key}: {result}")
        self.assertEqual([line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][2:], stages)
        self.assertIn("| bench_coupling | failed (3) |", text)
        ops = found["bench_ops"]["arguments"]
        self.assertEqual(ops[:6], ["bench", "ops", "--device", "cuda", "--model", "speednet"])
        self.assertGreater(int(ops[ops.index("--budget-s") + 1]), 100)
        self.assertNotIn("--runners-up", ops)
        configured = next(call for call in self.calls("cmake") if "-S" in call)
        self.assertIn("-DCMAKE_CUDA_ARCHITECTURES=90a-real", configured)
        for tool in ("memcheck", "racecheck"):
            checked = [Path(call[4]).name for call in self.calls("compute-sanitizer") if call[1] == tool]
            self.assertEqual(checked, [f"test_{name}" for name in self.TESTS[:5]])
        self.assertEqual(len(self.calls("test_pool")), 1)

    def test_other_gpus(self):
        self.build(broken=True)
        for capability, architecture in (("8.0", "80-real"), ("10.0", "100-real")):
            self.smi(H100 | {"compute_cap": capability})
            self.calls_file.unlink(missing_ok=True)
            result = self.tool(status=1)
            self.assertIn("the program was not built", result.err)
            configured = next(call for call in self.calls("cmake") if "-S" in call)
            self.assertIn(f"-DCMAKE_CUDA_ARCHITECTURES={architecture}", configured)
        self.assertFalse(self.report()[0]["complete"])

    def test_bad_input(self):
        for minutes in ("abc", "0", "-3", "1.5", "08x"):
            self.refused("--minutes", minutes, saying=["--minutes " + minutes])
        self.refused("--minutes", saying=["--minutes needs a value"])
        self.refused("--fast", saying=["'--fast'"])
        self.smi(H100 | {"name": "NVIDIA T4", "compute_cap": "7.5"})
        self.refused(saying=["NVIDIA T4 is sm_75", "sm_80 or newer"])
        self.smi({"name": "NVIDIA P4", "driver_version": "390.1"})
        self.refused(saying=["compute capability", "NVIDIA P4", "390.1"])
        self.smi({})
        self.refused(saying=["no NVIDIA GPU"])
        self.assertEqual(self.calls("cmake"), [])

    @unittest.skipUnless(Path("/usr/src/googletest").is_dir() and shutil.which("xz"), "skipped: no libgtest-dev or xz")
    def test_packed_programs(self):
        (self.folder / "pictures").mkdir()
        (self.folder / "pictures/one").write_text("picture")
        self.stub(self.bin / "strip")
        self.tool("--pack", "--prebuilt", "--data", "pictures")
        pack = self.root / ".gpu_pack"
        self.assertLess(sum(path.stat().st_size for path in pack.rglob("*") if path.is_file()), 60 << 20)
        for part in ("include/fmt/format.h", "include/CLI/CLI.hpp", "include/nlohmann/json.hpp", "include/stb/stb_image.h",
                     "googletest/googletest/CMakeLists.txt", "bin.tar.xz", "data.tar.xz", "commit", "architecture"):
            self.assertTrue((pack / part).exists(), part)
        for name in ("xz", "tar"):  # neither is assumed on the other machine
            self.stub(self.bin / name, status=1)
        shutil.rmtree(self.root / "build-gpu")
        self.calls_file.unlink()
        self.tool(status=1)
        found = self.report()[0]
        self.assertNotIn("build", found["stages"])
        self.assertEqual(found["stages"]["tests"]["status"], 0)
        trained = found["tiny"]["arguments"]
        self.assertEqual((Path(trained[trained.index("--data") + 1]) / "one").read_text(), "picture")
        # where they are not for the GPU, they are built
        self.smi(H100 | {"name": "NVIDIA A100", "compute_cap": "8.0"})
        result = self.tool(status=1)
        self.assertIn("the packed program is for sm_90a, NVIDIA A100 is sm_80", result.out)
        self.assertEqual(self.report()[0]["stages"]["build"]["status"], 0)


if __name__ == "__main__":
    unittest.main()
