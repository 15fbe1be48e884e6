"""The viewer end to end: the real page in headless Chromium, and the server's manners as a stranger meets them."""
import http.client
import json
import os
import re
import select
import signal
import socket
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import RECORD, SANITIZED, Case, write_batches

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
SCREENSHOTS = Path(os.environ.get("RANVIER_SCREENSHOTS", "screenshots")).absolute()


def skip_without_browser():
    """Says aloud why the browser tests do not run here."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        why = "python3-selenium is not installed"
    else:
        why = None if Path(CHROMIUM).exists() and Path(DRIVER).exists() else "chromium and chromium-driver are not installed"
    if why:
        print(f"skipped: {why}", flush=True)
        raise unittest.SkipTest(why)


class Viewer(Case):
    """A running `ranvier view`."""

    def start(self, *arguments):
        process = self.start_program("view", "--port", "0", "--json", *map(str, arguments))
        self.addCleanup(self.stop, process)
        ready, _, _ = select.select([process.stdout], [], [], 60)
        self.assertTrue(ready, "the viewer did not say where it is")
        line = process.stdout.readline()
        if not line:
            self.fail(f"the viewer ended: {process.stderr.read().decode()}")
        self.place = json.loads(line)
        self.port = self.place["port"]
        return process

    def stop(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except Exception:
                process.kill()
                process.wait()
                self.fail("SIGINT did not end the viewer")
        process.stdout.close()
        process.stderr.close()

    def get(self, path, headers=None, body=None, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())
        finally:
            connection.close()


class Page(Viewer):
    """Chromium on the viewer's page; every console error fails the test."""

    @classmethod
    def setUpClass(cls):
        """One browser for all tests of a class: starting it takes longer than most of them."""
        skip_without_browser()
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
        home = tempfile.TemporaryDirectory(prefix="ranvier-chromium-", ignore_cleanup_errors=True)
        cls.addClassCleanup(home.cleanup)
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader",
                     f"--user-data-dir={home.name}", "--window-size=1280,1000"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        cls.browser = webdriver.Chrome(service=Service(DRIVER), options=options)
        cls.addClassCleanup(cls.browser.quit)
        cls.browser.set_script_timeout(240 if SANITIZED else 60)

    def open(self, runs="runs", space=False):
        """The page at its first frame; the neuron in space, which WebGL in software draws slowly, only where it is looked at."""
        self.start("--runs", runs)
        self.addCleanup(self.browser.get, "about:blank")  # before the program ends: a lost connection is no error here
        self.browser.get_log("browser")  # what an earlier test left
        self.scheme("light")
        self.size(1280, 1000)
        self.browser.get(self.place["url"])
        self.wait("the first frame", "return Ranvier.neuron.frame() !== null && Ranvier.space")
        if not space:
            self.js("document.getElementById('space-pause').click()")
        self.assertEqual(self.js("return document.getElementById('space-pause').getAttribute('aria-pressed')"), str(not space).lower())

    def scheme(self, scheme):
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                     {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def size(self, width, height):
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                     {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})

    def js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def wait(self, what, script, *arguments, seconds=30):
        until = time.monotonic() + seconds * (4 if SANITIZED else 1)
        while time.monotonic() < until:
            value = self.js(script, *arguments)
            if value:
                return value
            time.sleep(0.02)
        self.fail(f"waited in vain for {what}; status '{self.js('return document.getElementById(`status`).textContent')}'")

    def drive(self, *moves):
        """Moves one control after the other as a hand does, each once the one before is answered, all in one trip to the
        page: ("slide", name, share of the track), ("choose", name, choice), ("set", name, value) or ("click", id). Returns
        for each what the program then says its value is and whether the page showed the control."""
        results = self.browser.execute_async_script("""
            const [moves, done] = arguments, results = [], link = Ranvier.link;
            const value = (name) => link.states[name.split(".")[0]].values[name];
            const errors = [], listen = (answer) => { if (answer.error) errors.push(answer.error); };
            link.onAnswer.push(listen);
            const answered = () => new Promise((resolve) => {
              const look = () => { if (link.waiting.size === 0) { link.onAnswer.splice(link.onAnswer.indexOf(look), 1); resolve(); } };
              link.onAnswer.push(look);
              look();
            });
            (async () => {
              for (const [kind, name, to] of moves) {
                const part = kind === "click" ? document.getElementById(name) : document.querySelector(`[data-name="${name}"]`);
                if (kind === "slide") { part.value = to * part.max; part.dispatchEvent(new Event("input")); }
                if (kind === "choose") { part.value = to; part.dispatchEvent(new Event("change")); }
                if (kind === "set") link.set(name, to);
                if (kind === "click") part.click();
                await answered();
                const shown = part !== null && part.offsetParent !== null;
                results.push(kind === "click" ? {shown} : {shown, value: value(name),
                  drawn: part && part.tagName === "SELECT" ? part.value : null});
              }
              link.onAnswer.splice(link.onAnswer.indexOf(listen), 1);
              done({results, errors});
            })();""", moves)
        self.assertEqual(results["errors"], [])
        return results["results"]

    def settled(self):
        """Every command sent was answered, and its effect drawn."""
        self.wait("answers to all commands", "return Ranvier.link.waiting.size === 0")

    def command(self, name, value):
        """Through the page's own link; answered without a refusal."""
        return self.drive(("set", name, value))[0]["value"]

    def value(self, name):
        return self.js("return Ranvier.link.states[arguments[0].split('.')[0]].values[arguments[0]]", name)

    def choose(self, name, *values):
        """Picks one choice after the other."""
        for value, result in zip(values, self.drive(*[("choose", name, value) for value in values])):
            self.assertEqual(result, {"shown": True, "value": value, "drawn": value}, name)

    def slide_to_ends(self, table, *names, order=((0, "low"), (1, "high"))):
        """Each slider to both ends, then back to where it starts."""
        moves = [(name, *end) for name in names for end in order]
        results = self.drive(*[("slide", name, share) for name, share, _ in moves])
        for (name, _, end), result in zip(moves, results):
            self.assertTrue(result["shown"], name)
            if name.endswith((".v_t", ".v_peak")):  # held above v_r and c where these say so
                self.assertGreaterEqual(result["value"], table[name]["low"], name)
            else:
                self.assertEqual(result["value"], table[name][end], name)

    def picture(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        width = self.js("return innerWidth")
        self.size(width, 600)  # a page is never lower than its window
        self.size(width, self.js("return Math.min(2600, document.documentElement.scrollHeight)"))
        time.sleep(0.4)
        self.browser.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def no_errors(self):
        entries = [e for e in self.browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
        # Software WebGL, and what the driver's own reading of pixels costs, are no errors of the page.
        entries = [e for e in entries if "GL Driver Message" not in e["message"] and "GPU stall" not in e["message"]
                   and "software WebGL" not in e["message"]]
        self.assertEqual(entries, [])
        self.assertNotIn("refused", self.js("return document.getElementById('status').textContent"))


class NeuronControls(Page):
    def test_sliders(self):
        self.open()
        table = self.js("return Ranvier.link.controls")
        for form in ("2007", "2003"):
            self.choose("neuron.preset", "rs" + form)
            for name in [n for n in table if n.startswith(f"neuron.{form}.")]:
                self.slide_to_ends(table, name)
                self.command(name, table[name]["initial"])
        self.slide_to_ends(table, *["neuron." + name for name in ("speed", "window", "myelin", "dt.0", "dt.1", "until")])
        self.no_errors()

    def test_presets_protocols_and_solvers(self):
        self.open()
        table = self.js("return Ranvier.link.controls")
        self.choose("neuron.preset", *table["neuron.preset"]["choices"], "rs2007")
        self.drive(*[("click", "preset-" + name) for name in ("rs", "ib", "ch", "fs", "lts", "tc", "rz")])
        self.assertEqual(self.value("neuron.preset"), "rz2003")
        self.choose("neuron.preset", "rs2007")
        inputs = {"constant": [], "step": ["onset"], "pulse": ["onset", "width", "period"], "ramp": ["onset", "width"],
                  "noise": ["noise"], "preset": []}
        self.assertEqual(list(inputs), table["neuron.protocol"]["choices"])
        for protocol, names in inputs.items():
            self.choose("neuron.protocol", protocol)
            self.slide_to_ends(table, *["neuron." + name for name in names], order=((1, "high"), (0, "low")))
        for lane in "01":
            self.choose("neuron.solver." + lane, *table["neuron.solver." + lane]["choices"])
        self.drive(("set", "neuron.speed", 1))
        self.wait("one solver alone", "return Ranvier.neuron.frame().parts.length === 1")
        self.assertTrue(self.js("return Ranvier.neuron.lanes.every((l) => Number.isFinite(l.last.v) && Number.isFinite(l.last.u))"))
        self.drive(("click", "neuron-step"))
        self.assertEqual(self.value("neuron.run"), "pause")
        self.no_errors()


class Neuron(Page):
    def end_of(self, preset, duration, lanes):
        """The page's spike counts after a run to `duration`, as fast as it can."""
        moves = [("choose", "neuron.preset", preset)]
        for i, (solver, mode, dt) in enumerate(lanes):
            moves += [("choose", f"neuron.solver.{i}", solver), ("choose", f"neuron.mode.{i}", mode), ("set", f"neuron.dt.{i}", dt)]
        self.drive(*moves, ("set", "neuron.until", duration), ("set", "neuron.pace", "unlimited"), ("click", "neuron-restart"),
                   ("set", "neuron.run", "run"))
        self.wait("the end of the run", "return Ranvier.link.states.neuron.state === 'ended' && Ranvier.neuron.frame().ended")
        self.wait("the drawn numbers", "return document.getElementById('neuron-time').textContent.startsWith(`t = ${arguments[0]}.0`)", duration)
        return [int(self.js("return document.getElementById('spikes-' + arguments[0]).textContent", i)) for i in range(len(lanes))]

    def test_spike_counts_are_the_library_s(self):
        self.open()
        for preset, duration, lanes in [
                ("rs2007", 1000, [("rk4", "accurate", 0.1), ("euler", "published", 1)]),
                ("ch2007", 1000, [("rk4", "accurate", 0.1), ("ab2", "accurate", 0.5)]),
                ("fs2003", 500, [("midpoint", "accurate", 0.25), ("izhikevich", "published", 0.5)]),
                ("pattern:c", 220, [("rk4", "accurate", 0.25), ("reference", "accurate", 0.25)])]:
            counts = self.end_of(preset, duration, lanes)
            for count, (solver, mode, dt) in zip(counts, lanes):
                library = self.json("simulate", "--preset", preset, "--solver", solver, "--mode", mode, "--dt-ms", dt,
                                    "--duration-ms", duration)
                self.assertEqual(count, library["spikes"], (preset, solver, mode, dt))
                self.assertGreater(count, 0)
        self.no_errors()

    def test_divergence_is_said_and_held(self):
        self.open()
        self.drive(("choose", "neuron.preset", "rs2007"), ("set", "neuron.2007.I", 700), ("slide", "neuron.2007.C", 0),
                   ("set", "neuron.pace", "unlimited"))
        self.wait("the flag", "return Ranvier.neuron.lanes.length === 2 && Ranvier.neuron.lanes[1].last.diverged")
        self.wait("the words", "return document.querySelector('[data-diverged=\"1\"]') !== null")
        self.assertIn("diverged", self.js("return document.querySelector('[data-diverged=\"1\"]').textContent"))
        held = self.js("return Ranvier.neuron.lanes[1].last.time")
        time.sleep(0.3)
        self.assertEqual(self.js("return Ranvier.neuron.lanes[1].last.time"), held)
        self.assertTrue(self.js("return Ranvier.neuron.lanes.every((l) => Number.isFinite(l.last.v))"))
        self.picture("neuron-diverged")
        self.no_errors()

    def test_look(self):
        self.open(space=True)
        # A whole window at once, then slowly on: no gaps where the machine is busy.
        self.drive(("set", "neuron.run", "pause"), ("set", "neuron.window", 600), ("set", "neuron.until", 900),
                   ("set", "neuron.pace", "unlimited"), ("click", "neuron-restart"), ("set", "neuron.run", "run"))
        self.wait("a window and more", "return Ranvier.link.states.neuron.state === 'ended' && Ranvier.neuron.frame().ended")
        self.drive(("set", "neuron.speed", 0.01), ("set", "neuron.pace", "speed"), ("set", "neuron.until", 0))
        self.picture("neuron-light")
        self.scheme("dark")
        self.picture("neuron-dark")
        self.scheme("light")
        self.size(360, 800)
        self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), 360)
        self.picture("neuron-360")
        self.size(1900, 1000)
        time.sleep(0.3)
        self.picture("neuron-wide")
        self.no_errors()

    def test_weight_and_first_frame(self):
        self.open()
        self.browser.get(self.place["url"])
        self.wait("a frame", "return Ranvier.neuron.frame() !== null")
        weight = self.js("return performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
                         ".reduce((sum, e) => sum + e.transferSize, 0)")
        self.assertLess(weight, 1.5e6)
        self.assertGreater(weight, 5e5, "nothing was measured")
        self.no_errors()


class Tabs(Page):
    def test_twenty_tabs_of_one_browser(self):
        """All watch at once, and the slider of each still answers; fifty that come and go are view_server's."""
        self.open()
        first, tabs = self.browser.current_window_handle, []

        def another():
            self.browser.switch_to.new_window("tab")
            self.browser.get(self.place["url"])
            self.wait("the first frame", "return Ranvier.neuron.frame() !== null && Ranvier.space")
            self.js("document.getElementById('space-pause').click()")
            return self.browser.current_window_handle

        for _ in range(19):
            tabs.append(another())
        for i, tab in enumerate([first, *tabs]):
            self.browser.switch_to.window(tab)
            self.assertEqual(self.command("neuron.2007.I", 50 + i), 50 + i)
            seen = self.js("return Ranvier.link.states.neuron.revision")
            self.wait("a frame with it", "return Ranvier.neuron.frame().revision >= arguments[0]", seen)
        for tab in tabs:
            self.browser.switch_to.window(tab)
            self.browser.close()
        self.browser.switch_to.window(first)
        self.command("neuron.2007.I", 70)
        self.wait("frames as before", "return Ranvier.neuron.frame().revision >= Ranvier.link.states.neuron.revision")
        self.no_errors()


class Population(Page):
    def open(self):
        super().open()
        self.js("location.hash = 'population'")
        self.wait("a population frame", "return Ranvier.population.frame() !== null && Ranvier.population.drawnRate() > 0")

    def test_sliders_and_regimes(self):
        self.open()
        table = self.js("return Ranvier.link.controls")
        for regime in table["population.preset"]["choices"]:
            self.choose("population.preset", regime)
            before = self.js("return Ranvier.population.frame().parts[0].spikeCount")
            self.wait("spikes", "return Ranvier.population.frame().parts[0].spikeCount > arguments[0]", before)
        self.slide_to_ends(table, *["population." + name for name in ("neurons", "input", "synapses", "inhibition", "ephaptic",
                                                                      "window", "speed")], order=((1, "high"), (0, "low")))
        self.drive(("click", "population-step"))
        self.assertEqual(self.value("population.run"), "pause")
        self.no_errors()

    def test_look(self):
        self.open()
        for regime in self.js("return Ranvier.link.controls")["population.preset"]["choices"]:
            self.choose("population.preset", regime)
            self.wait("two thirds of a window", "return Ranvier.population.frame().time > 700", seconds=60)
            self.picture(f"population-{regime}")
        self.scheme("dark")
        self.picture("population-dark")
        self.size(360, 800)
        time.sleep(0.3)
        self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), 360)
        self.picture("population-360")
        self.no_errors()


DESIGN = """
model = "tiny"
epochs = 1
batch = 16
held_out = 40
seeds = [1, 2, 3, 4, 5, 6]
images = 4
strong_images = 2
square_queries = 2
low_data = 0
strong_attacks = []
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
strengths = [0.5]
"""


class Runs(Page):
    def make(self):
        """Real run folders, as the commands write them."""
        write_batches(self.folder / "data")
        test = bytearray((self.folder / "data/test_batch.bin").read_bytes())
        for i in range(0, len(test), 8 * RECORD):  # labels that are wrong: mistakes that no training avoids
            test[i] = (test[i] + 1) % 4
        (self.folder / "data/test_batch.bin").write_bytes(test)
        cpu = ["--device", "cpu"]
        for seed, more in ((1, []), (2, ["--coupling", "ephaptic", "--sites", "conv2,conv3", "--coupling-geometry", "learned"])):
            self.ok("train", "--model", "tiny", "--epochs", 2, "--batch", 16, "--data", "data", "--seed", seed,
                    "--out", f"runs/tiny-{seed}", *more, *cpu)
        self.ok("pinn", "--neuron", "rs2003", "--duration-ms", 40, "--out", "runs/pinn")
        self.ok("simulate", "--preset", "ch2007", "--out", "runs/chattering")
        if not SANITIZED:
            (self.folder / "study.toml").write_text(DESIGN)
            self.ok("study", "coupling", "study.toml", "--data", "data", "--out", "runs/study", *cpu, timeout=600)

    def choose_runs(self, *names):
        self.js("Ranvier.runs.choose(arguments[0])", list(names))
        for name in names:
            self.wait(f"run {name}", "return document.querySelector(`article[data-run='${arguments[0]}']`) !== null", name)
        time.sleep(0.3)  # charts are drawn in the next animation frame

    def text(self):
        return self.js("return document.getElementById('run-content').textContent")

    def test_every_kind_of_run(self):
        self.make()
        self.open()
        self.js("location.hash = 'runs'")
        self.wait("the list", "return document.querySelectorAll('#run-list input').length >= 4")
        self.choose_runs("tiny-1")
        for words in ("Training loss", "Confusion matrix", "First-layer filters", "Images it gets wrong"):
            self.assertIn(words, self.text())
        self.assertNotIn("Coupling sheet", self.text())
        self.assertGreater(self.js("return document.querySelectorAll('.chart canvas').length"), 0)
        evaluation = json.loads((self.folder / "runs/tiny-1/evaluation.json").read_text())
        self.assertEqual(self.js("return document.querySelectorAll('.mistakes > figure').length"), len(evaluation["mistakes"]))
        self.assertGreaterEqual(len(evaluation["mistakes"]), 5)
        self.picture("runs-training")
        with (self.folder / "runs/tiny-1/metrics.jsonl").open("a") as file:  # a run that goes on, caught in mid-line
            file.write('{"step": 99, "epoch": 3, "train_lo')
        self.wait("the torn line to be said", "return document.getElementById('run-content').textContent.includes('half-written')")
        self.choose_runs("tiny-1", "tiny-2")
        self.assertIn("Side by side", self.text())
        for site in ("block2.norm: 64 units", "block3.norm: 128 units"):
            self.assertIn("Coupling sheet of " + site, self.text())
        self.picture("runs-overlaid")
        self.choose_runs("pinn")
        tabs = {"Overview": 1, "Training": 1, "Accuracy": 0, "Neuronal": 2, "Performance": 0, "Network and reference": 2,
                "Error": 1, "Residual": 2, "Phase plane": 0}
        self.assertEqual(self.js("return [...document.querySelectorAll('[role=tab]')].map((b) => b.textContent)"), list(tabs))
        for tab, charts in tabs.items():
            self.js("[...document.querySelectorAll('[role=tab]')].find((b) => b.textContent === arguments[0]).click()", tab)
            self.wait(f"the charts of {tab}", "return document.querySelectorAll('.chart .dygraph-ylabel').length === arguments[0]", charts)
            self.assertNotIn("nothing was written", self.text())
            self.picture(f"runs-pinn-{tab.lower().replace(' ', '-')}")
        summary = json.loads((self.folder / "runs/pinn/summary.json").read_text())
        self.js("document.querySelector('[role=tab]').click()")
        self.assertIn(f"{summary['spikes']}spikes found", self.text())
        self.choose_runs("chattering")
        self.picture("runs-simulation")
        if not SANITIZED:
            self.choose_runs("study")
            self.assertIn("The claim", self.text())
            self.picture("runs-study")
        self.size(360, 800)
        self.choose_runs("tiny-2")
        self.assertLessEqual(self.js("return document.documentElement.scrollWidth"), 360)
        self.picture("runs-360")
        self.no_errors()
        self.ok("report", "runs/tiny-1", "runs/pinn", "--out", "report.html")
        self.browser.get((self.folder / "report.html").as_uri())
        self.wait("the report", "return document.querySelectorAll('article').length === 2")
        time.sleep(0.5)
        self.assertGreater(self.js("return document.querySelectorAll('.chart canvas').length"), 0)
        self.picture("report")
        self.assertEqual([e for e in self.browser.get_log("browser") if e["level"] == "SEVERE"], [])


class Commands(Viewer):
    """Without a browser."""

    def test_interruption_and_port(self):
        process = self.start()
        self.refused("view", "--port", self.port, saying=["cannot listen", str(self.port), "--port"])
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20), 130)
        self.assertIn(b"ended:", process.stderr.read())

    def test_token_elsewhere(self):
        self.start("--address", "0.0.0.0")
        token = re.search(r"token=([0-9a-f]{32})", self.place["url"]).group(1)
        self.assertEqual(self.get("/")[0], 403)
        self.assertEqual(self.get("/?token=" + token)[0], 303)
        self.assertEqual(self.get("/", {"Cookie": "ranvier_token=" + token})[0], 200)

    def test_damaged_folders_and_requests(self):
        folder = self.folder / "runs" / "torn"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 2}\n{"epo')
        self.start("--runs", "runs")
        status, text, _ = self.get("/api/run?name=torn")
        self.assertEqual(status, 200)
        self.assertIn("half-written", text)
        self.assertEqual(self.get("/api/run?name=../runs")[0], 404)
        self.assertEqual(self.get("/", {"Host": "evil.example"})[0], 403)
        for raw in (b"\0\1\2\r\n\r\n", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: " + b"x" * 100_000):
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as stranger:
                stranger.sendall(raw)
        self.assertEqual(self.get("/api/runs")[0], 200)

    def test_bad_usage(self):
        self.refused("view", "--port", 70000, saying="--port 70000")
        self.refused("view", "--address", "nowhere", saying="nowhere")
        self.refused("report", "absent", "--out", "r.html", saying="absent")
        self.refused("report", saying="runs")


if __name__ == "__main__":
    unittest.main(verbosity=2)
