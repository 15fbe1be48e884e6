"""What the routes of `ranvier simulate` have in common: flags without effect are refused, Ctrl-C keeps what is done."""

import json
import signal
import time
import unittest

import populations
from common import Case


class Useless(Case):
    def test_options_without_effect_are_refused(self):
        """Each flag on a route that has no use for it: one line that names it."""
        (self.folder / "net.toml").write_text(populations.Networks.FILE)
        one = ("simulate", "--preset", "rs2003")
        for arguments, words in (
                ((*one, "--noise-sd", 5), ["--noise-sd", "noise:sd"]), ((*one, "--resume", "x"), ["--resume", "--n 1"]),
                ((*one, "--record-means"), ["--record-means", "--n 1"]), ((*one, "--formats", "csv"), ["--formats"]),
                ((*one, "--kappa", 3), ["--kappa", "networks"]), ((*one, "--rtol", 1e-3), ["--rtol", "linear-implicit-adaptive"]),
                ((*one, "--variant", "foo=bar"), ["--variant"]), ((*one, "--device", "cuda"), ["--device cuda", "CPU"]),
                ((*one, "--mode", "published:2003", "--solver", "euler"), ["--solver euler", "published:2003"]),
                ((*one, "--n", 3, "--kappa", 3), ["--kappa", "a population"]),
                ((*one, "--n", 3, "--noise-dt-ms", 2), ["--noise-dt-ms", "--noise-sd"]),
                ((*one, "--n", 3, "--atol", 1), ["--atol"]), ((*one, "--n", 3, "--record-means"), ["--record-means", "--out"]),
                ((*one, "--n", 3, "--mode", "published:2004", "--solver", "rk4"), ["--solver rk4"]),
                (("simulate", "net.toml", "--n", 10), ["--n", "a network"]),
                (("simulate", "net.toml", "--noise-sd", 5), ["--noise-sd"]),
                (("simulate", "net.toml", "--spike-event", "0mV"), ["--spike-event", "file"]),
                (("simulate", "net.toml", "--rtol", 3), ["--rtol"]), (("simulate", "net.toml", "--current", 3), ["--current", "file"]),
                (("simulate", "--preset", "cortical1000", "--solver", "euler"), ["--solver euler", "published:2003"]),
                ((*one, "--sweep", "a=0.02:0.1:2", "--record", "0"), ["--record", "a sweep"]),
                ((*one, "--sweep", "a=0.02:0.1:2", "--resume", "x"), ["--resume"]),
                ((*one, "--sweep", "seed=0:2:3", "--seed", 4), ["--seed", "sets it"]),
                ((*one, "--sweep", "noise-sd=0:2:3", "--solver", "reference"), ["noise-sd", "reference"]),
                (("simulate", "net.toml", "--sweep", "seed=0:1:2", "--n", 3), ["--n"]),
                (("simulate", "stability", "--dt-ms", 7), ["--dt-ms", "--steps"]),
                (("simulate", "stability", "--rtol", 1), ["--rtol"]),
                (("simulate", "compare", "--steps", "0.1", "--dt-ms", 7), ["--dt-ms", "--steps"]),
                (("simulate", "compare", "--variant", "a=b"), ["--variant"]),
                (("simulate", "field", "--spike-event", "0mV"), ["--spike-event"]),
                (("simulate", "patterns", "--variant", "a=b"), ["--variant"])):
            with self.subTest(arguments):
                self.refused(*arguments, saying=words)

    def test_times_that_are_no_whole_steps(self):
        (self.folder / "net.toml").write_text(populations.Networks.FILE)
        (self.folder / "noise.toml").write_text(populations.Networks.FILE.replace('current = "10"', "noise_sd = 1\nnoise_dt_ms = 0.13"))
        one = ("simulate", "--preset", "rs2003", "--n", 3)
        for arguments, words in (
                ((*one, "--duration-ms", 10.07), ["--duration-ms 10.07", "0.1 ms"]),
                ((*one, "--out", "a", "--record", "0", "--record-dt-ms", 0.25), ["--record-dt-ms 0.25"]),
                ((*one, "--out", "b", "--record", "0", "--record-dt-ms", 0.05), ["--record-dt-ms 0.05"]),
                (("simulate", "net.toml", "--duration-ms", 10.07), ["--duration-ms 10.07"]),
                (("simulate", "net.toml", "--duration-ms", 0.03), ["--duration-ms 0.03"]),
                (("simulate", "noise.toml"), ["noise_dt = 0.13", "0.1 ms"]),
                (("simulate", "net.toml", "--sweep", "dt-ms=0.1:0.3:2"), ["--duration-ms 200", "0.3 ms"])):
            with self.subTest(arguments):
                self.refused(*arguments, saying=words)
        delayed = populations.Networks.FILE + "delay_ms = 1.25\n"
        (self.folder / "between.toml").write_text(delayed)
        self.assertEqual(self.json("simulate", "between.toml")["delays_rounded_up"], {})
        (self.folder / "late.toml").write_text(delayed + 'stdp = { rule = "pair" }\n')
        value = self.json("simulate", "late.toml")
        self.assertEqual(value["delays_rounded_up"], {"exc_exc": 200})
        self.assertIn("200 of 200 delays are no whole number of steps of 0.1 ms", self.ok("simulate", "late.toml").out)


class Interrupted(Case):
    def stopped(self, *arguments, after):
        """Runs until `after()` holds, then Ctrl-C: what it printed as JSON, and on standard error."""
        process = self.process = self.start_program(*arguments, "--json")
        for _ in range(1200):
            if after(process):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, err)
        value = json.loads(out)
        self.assertTrue(value["interrupted"])
        return value, err.decode()

    @staticmethod
    def waited(seconds):
        end = time.time() + seconds
        return lambda process: time.time() > end

    def test_compare_keeps_the_finished_runs(self):
        value, err = self.stopped("simulate", "compare", "--steps", "1,0.0003,0.00031,0.00032", "--out", "out", after=self.waited(3))
        count = len(value["rows"])
        self.assertTrue(0 < count < 34, count)
        self.assertIn(f"interrupted: {count} of 34 runs are done, kept in out", err)
        self.assertEqual(json.loads((self.folder / "out/compare.json").read_text()), value)

    def test_stability_keeps_the_finished_runs(self):
        value, err = self.stopped("simulate", "stability", "--steps", "1,0.0003,0.00031,0.00032", "--out", "out",
                                  after=self.waited(3))
        count = len(value["rows"])
        self.assertTrue(0 < count < 32, count)
        self.assertIn(f"interrupted: {count} of 32 runs are done, kept in out", err)
        self.assertEqual(len((self.folder / "out/stability.csv").read_text().splitlines()), 1 + count)

    def test_patterns_keep_the_finished_ones(self):
        lines = (line.decode() for line in iter(lambda: self.process.stderr.readline(), b""))
        value, err = self.stopped("simulate", "patterns", "--solver", "rk4", "--dt-ms", 1e-4, "--out", "out",
                                  after=lambda process: any(line.startswith("C ") for line in lines))
        count = len(value["rows"])
        self.assertTrue(3 <= count < 20, count)
        self.assertIn(f"interrupted: {count} of 20 patterns are done, kept in out", err)
        self.assertEqual(len(json.loads((self.folder / "out/patterns.json").read_text())["rows"]), count)

    def test_field_keeps_the_finished_runs(self):
        value, err = self.stopped("simulate", "field", "--kappas", "0,0.01,0.02", "--seeds", 400, "--duration-ms", 700, "--out",
                                  "out", after=self.waited(6))
        runs = len((self.folder / "out/field.csv").read_text().splitlines()) - 1
        self.assertGreater(runs, 0)
        self.assertIn(f"interrupted: {runs} of 1200 runs are done, kept in out", err)
        self.assertEqual(len(value["rows"]), runs // 400)

    def test_a_sweep_says_how_far_it_came(self):
        value, err = self.stopped("simulate", "--preset", "rs2003", "--n", 20, "--sweep", "current=0:20:3", "--duration-ms", 1e8,
                                  "--out", "out", after=self.waited(2))
        reached = value["rows"][0]["duration_ms"]
        self.assertTrue(0 < reached < 1e8, reached)
        self.assertRegex(err, r"3 of 3 values are there, over [0-9.e+]+ ms, in out")
        heading, row = (self.folder / "out/sweep.csv").read_text().splitlines()[:2]
        self.assertEqual(float(row.split(",")[heading.split(",").index("duration_ms")]), reached)


if __name__ == "__main__":
    unittest.main()
