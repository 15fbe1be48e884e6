"""Drives `ranvier view` as a person does: the program itself, and its page in headless Chromium."""
import http.client
import json
import os
import select
import signal
import tempfile
import time
import unittest
from pathlib import Path

from common import SANITIZED, Case

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
