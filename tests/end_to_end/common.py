"""What the end-to-end tests share: running the program, small data sets, NPY, safetensors and PNG files in plain Python."""
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib
from pathlib import Path

PROGRAM = os.environ.get("RANVIER", "build/ranvier")
SANITIZED = bool(os.environ.get("RANVIER_SANITIZED"))
CLASSES = ["red", "green", "blue", "grey"]
RECORD = 3073


def environment(home):
    """A clean environment: no data of the user's own, caches inside the test's folder, sleeping threads, no GPU (what is
    expected here is the CPU's; a test that is for a device asks for it)."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "LANG", "ASAN_OPTIONS", "UBSAN_OPTIONS")
            if key in os.environ}
    return kept | {"HOME": str(home), "XDG_CACHE_HOME": str(Path(home) / "cache"), "OMP_WAIT_POLICY": "passive",
                   "CUDA_VISIBLE_DEVICES": ""}


# The first GPU where there is one, or in a build whose device is emulated that device.
DEVICE = {"RANVIER_EMULATED_DEVICE": "1", "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}


class Result:
    def __init__(self, completed):
        self.status = completed.returncode
        self.out = (completed.stdout or b"").decode(errors="replace")
        self.err = completed.stderr.decode(errors="replace")

    def __str__(self):
        return f"status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def array(path):
    """Shape and values of an NPY file in plain Python."""
    raw = path.read_bytes()
    assert raw[:8] == b"\x93NUMPY\x01\x00", raw[:8]
    (length,) = struct.unpack("<H", raw[8:10])
    assert (10 + length) % 64 == 0
    header = eval(raw[10:10 + length], {"__builtins__": {}})  # a literal dict by the format's definition
    assert header["fortran_order"] is False, header
    kind = {"<f8": "d", "<i8": "q"}[header["descr"]]
    return header["shape"], [v for (v,) in struct.iter_unpack("<" + kind, raw[10 + length:])]


class Case(unittest.TestCase):
    """A test in a folder of its own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="ranvier-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_program(self, *arguments, timeout=300, env=None, **options):
        return Result(subprocess.run([PROGRAM, *map(str, arguments)], cwd=self.folder, timeout=timeout,
                                     env=environment(self.folder) | (env or {}), stdin=subprocess.DEVNULL,
                                     **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options)))

    def start_program(self, *arguments, **options):
        return subprocess.Popen([PROGRAM, *map(str, arguments)], cwd=self.folder, env=environment(self.folder),
                                stdin=subprocess.DEVNULL,
                                **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options))

    def ok(self, *arguments, **options):
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.status, 0, f"{arguments}: {result}")
        return result

    def need_device(self):
        """Skips, aloud, where DEVICE gives no device."""
        found = self.run_program("info", "--device", "cuda", env=DEVICE)
        if found.status:
            self.skipTest(f"skipped: no CUDA device here: {found.err.strip()}")

    def json(self, *arguments, **options):
        """Runs with --json: standard output must be one JSON object and nothing else."""
        result = self.ok(*arguments, "--json", **options)
        value = json.loads(result.out)  # fails on anything before or after the object
        self.assertIsInstance(value, dict)
        self.assertEqual(result.out.count("\n"), 1, result.out)
        return value

    def same_tensors(self, want, path):
        """Every tensor of a file, byte for byte (said by name: a diff of megabytes would take minutes)."""
        found = tensors(path)[0]
        self.assertEqual(list(want), list(found))
        different = [name for name in want if want[name] != found[name]]
        self.assertEqual(different, [], f"{path}: these tensors differ")

    def refused(self, *arguments, saying, status=2, **options):
        """Bad input: the status, and one line on standard error that says every word of `saying`; no crash."""
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.status, status, f"{arguments}: {result}")
        lines = [line for line in result.err.splitlines() if line.startswith("ranvier: ")]
        self.assertEqual(len(lines), 1, f"{arguments}: one line of explanation expected: {result}")
        self.assertEqual(result.err.splitlines()[-1], lines[0], f"{arguments}: the explanation ends the output: {result}")
        for word in [saying] if isinstance(saying, str) else saying:
            self.assertIn(word, lines[0], str(arguments))
        for word in ("terminate called", "Sanitizer", "runtime error", "std::", "Aborted"):
            self.assertNotIn(word, result.err, f"{arguments}: {result}")
        return lines[0]


def write_batches(folder, train=160, test=40, seed=1, classes=CLASSES):
    """The official binary layout with a few noisy pictures whose class is their colour."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)

    def records(count):
        result = bytearray()
        for i in range(count):
            label = i % len(classes)
            result.append(label)
            for channel in range(3):
                level = 150 if channel == label else 90
                result += bytes(level + (x & 63) for x in draw.randbytes(1024))
        return bytes(result)

    counts = [train // 5 + (i < train % 5) for i in range(5)]
    names = [f"data_batch_{i + 1}.bin" for i in range(5)] + ["test_batch.bin"]
    for name, count in zip(names, counts + [test]):
        (folder / name).write_bytes(records(count))
    (folder / "batches.meta.txt").write_text("".join(f"{name}\n" for name in classes))
    (folder / "counts.txt").write_text("".join(f"{name} {count}\n" for name, count in zip(names, counts + [test])))
    return folder


def png(width, height, pixel):
    """An RGB PNG whose pixel (x, y) is pixel(x, y)."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in pixel(x, y)) for y in range(height))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_image_folder(folder, train=6, test=2, classes=CLASSES[:2], size=(32, 32)):
    """train/<class>/<i>.png and test/<class>/<i>.png."""
    for split, count in (("train", train), ("test", test)):
        for c, name in enumerate(classes):
            (Path(folder) / split / name).mkdir(parents=True)
            for i in range(count):
                picture = png(*size, lambda x, y: ((x * 7 + i) % 256, (y * 5 + 90 * c) % 256, (x * y + 40 * c) % 256))
                (Path(folder) / split / name / f"{i:03}.png").write_bytes(picture)
    return Path(folder)


def tensors(path):
    """Name -> (type, shape, bytes) of every tensor of a safetensors file; metadata apart."""
    raw = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    metadata = header.pop("__metadata__", {})
    data = raw[8 + length:]
    found = {name: (item["dtype"], tuple(item["shape"]), data[slice(*item["data_offsets"])])
             for name, item in header.items()}
    return found, metadata


def write_safetensors(path, header, data=b"", length=None):
    """Any header over any data, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def metrics(run):
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


TINY_RUN = ["--model", "tiny", "--epochs", 2, "--batch", 16, "--device", "cpu"]
