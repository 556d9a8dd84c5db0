#!/usr/bin/env python3
"""Looks at a report in a headless Chromium: no console errors, marks in every plot, values under the pointer.

    browser_test.py BALLAST [--screenshots FOLDER] [--page FILE]

Makes three small runs by hand (no training), reports them with BALLAST and drives the browser over its debugging pipe, with
nothing but Python's standard library. Ends with code 77 (skipped) where no Chromium is installed.
"""
import argparse
import base64
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77
PRINTED = 718  # CSS pixels across a sheet of A4 between margins of 1 cm
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Browser:
    """Chrome's debugging protocol over --remote-debugging-pipe: JSON messages that end in a zero byte."""

    def __init__(self, program, profile):
        to_browser, self.out = os.pipe()
        self.into, from_browser = os.pipe()

        def pipes():  # the browser reads descriptor 3 and writes 4
            a, b = os.dup(to_browser), os.dup(from_browser)
            os.dup2(a, 3)
            os.dup2(b, 4)

        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
                 "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen([program, *flags], preexec_fn=pipes, close_fds=False, stderr=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.next_id, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.call(domain + ".enable")

    def call(self, method, **params):
        self.next_id += 1
        message = {"id": self.next_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            reply = self.receive()
            if reply.get("id") == self.next_id:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                return reply["result"]
            if reply.get("method") == "Page.javascriptDialogOpening":  # would wait for a person
                raise RuntimeError(f"text of a run became script: {reply['params']}")
            self.events.append(reply)

    def receive(self):
        while b"\0" not in self.buffer:
            part = os.read(self.into, 1 << 16)
            if not part:
                raise RuntimeError("the browser went away")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def open(self, path, width, dark=False, media=""):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.call("Emulation.setEmulatedMedia", media=media,
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url="file://" + str(path))
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def complaints(self):
        bad = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                bad.append(event["params"]["exceptionDetails"])
            if event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"):
                bad.append(event["params"]["args"])
            if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
                bad.append(event["params"]["entry"])
        return bad

    def move(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        self.process.terminate()
        self.process.wait()


def write_run(folder, seed, sinks):
    """A finished run of 2,500 steps as training and the evaluations leave it, with text that tries to break out."""
    (folder / "eval").mkdir(parents=True)
    lines = []
    for step in range(1, 2501):
        loss = 3 + 4 * math.exp(-step / 300) + 0.1 * math.sin(step * seed)
        norm = "null" if step == 40 else f"{1 + (50 if step == 1234 else 0.2 * math.sin(step)):.4f}"
        lines.append(f'{{"step":{step},"loss":{loss:.5f},"grad_norm":{norm},"lr":{1e-3 * min(1, step / 100)},'
                     f'"tokens":{step * 1024},"seconds":0.1,"tokens_per_second":10240}}')
        if step % 250 == 0:
            lines.append(f'{{"step":{step},"validation_loss":{loss + 0.2:.5f},"validation_perplexity":{math.exp(loss + 0.2)}}}')
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step":2501,"lo')
    (folder / "config.toml").write_text(f"[model]\nvocab_size = 1024\nhidden_size = 64\nnum_layers = 2\nnum_heads = 4\n"
                                        f"max_position_embeddings = 128\nnum_sink_tokens = {sinks}\n[train]\nsequence_length = 128\nsteps = 2500\n")
    sample = {"step": 2500, "prompt": "In the beginning", "text": "</script><img src=x onerror=alert(1)> & so on"}
    (folder / "samples.jsonl").write_text(json.dumps(sample) + "\n" + json.dumps({**sample, "step": 2400}) + "\n")
    (folder / "status.json").write_text('{"status":"finished","step":2500}')
    plan = {"master weights": 4 << 20, "activations": 41 << 20}
    (folder / "environment.json").write_text(json.dumps({
        "version": "0.1.0", "commit": "abc", "compiler": "GCC", "build_type": "Release", "processor": {"model": "P", "units": "AVX2"},
        "memory": {"total_bytes": 1 << 34}, "backends": [{"name": "cpu", "usable": True, "details": "oneDNN"}],
        "run": {"backend": "cpu", "threads": 2, "memory_plan_bytes": plan}}))
    write_measurements(folder, seed, sinks)


def write_measurements(folder, seed, sinks):
    def cell(policy, kept, cache, level, drift):
        curve = [{"position": i * 300, "tokens": 300, "loss": level + drift * i + 0.05 * math.sin(i * seed)} for i in range(64)]
        loss = sum(point["loss"] for point in curve) / len(curve)
        tokens = 1200 if policy == "recompute" else 19200
        return {"policy": policy, "sinks": kept, "cache": cache, "method": "masked", "tokens": tokens, "of_tokens": 19200,
                "loss": loss, "perplexity": math.exp(loss), "seconds": 1, "curve": curve}

    cells = [cell("sink", 0, 64, 6, 0), cell("sink", 1, 64, 3.5 + 0.01 * seed, 0), cell("sink", 4, 64, 3.5, 0),
             cell("dense", 0, 0, 3.6, 0.02), cell("recompute", sinks, 64, 3.4, 0),
             {**cell("moa", 1, 64, 3.8, 0), "plan": "half of the keys", "density": 0.5},
             {**cell("h2o", 1, 64, 4.1, 0), "plan": "h2o 32+31", "density": 0.25}]
    layers = [{"share": [0.3 + 0.1 * layer, 0.1], "share_std": [0.05, 0.02], "alpha": [[0.3, 0.1]] * 4,
               "logits": {"first": [4, 3, 5, 2], "rest": [-1, 0, -2, -1 + layer]}} for layer in range(2)]
    metrics = {"length": 16, "sequences": 10, "epsilon": 0.3, "sink_rate": [0.5, 0], "layers": layers}
    (folder / "eval/table.json").write_text(json.dumps(
        {"cache": 64, "models": [{"model": str(folder), "step": 2500, "results": cells, "sinks": metrics}]}))
    last_query = {"length": 4096, "sequences": 8, "layers": [{"mean": 0.4 + 0.1 * layer, "std": 0.1, "weight": [0.4] * 4} for layer in range(2)]}
    tensors = ("residual", "qkv", "out", "up", "down")
    outliers = {"length": 128, "sequences": 4, "tokens": 508, "bits": 8, "loss": 3, "rounded_loss": "Infinity" if seed == 2 else 3.5, "perplexity": math.exp(3),
                "rounded_perplexity": "Infinity" if seed == 2 else math.exp(3.5), "embedding": {"kurtosis": 3, "largest": 1}, "head": {"kurtosis": 4, "largest": 9},
                "layers": [{**{name: {"kurtosis": 3.0 * 10 ** layer * seed, "largest": 5.0 + layer} for name in tensors},
                            "value_norm": {"first": 0.2 * seed, "rest": 2.0 + layer}} for layer in range(2)]}
    (folder / "eval/more.json").write_text(json.dumps({"model": str(folder), "step": 2500, "last_queries": [last_query], "outliers": outliers}))
    rows = [(0.6 if j == 0 else 0.4 / i) if i and j <= i else (1.0 if j == 0 and i == 0 else 0.0) for i in range(16) for j in range(16)]
    logits = [(5.0 if j == 0 else -j) if j <= i else 0.0 for i in range(16) for j in range(16)]
    data = struct.pack("<256f", *rows) * 8 + struct.pack("<256f", *logits) * 8
    header = json.dumps({name: {"dtype": "F32", "shape": [2, 4, 16, 16], "data_offsets": [len(data) // 2 * i, len(data) // 2 * (i + 1)]}
                         for i, name in enumerate(("attention", "attention_logits"))}).encode()
    (folder / "eval/maps.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)


def write_encoder(folder):
    """A BERT folder with what was measured on it: 2 layers of 2 heads, sequences of 4 tokens that look at their first and last."""
    (folder / "eval").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    layer = {"cls": [0.5, 0.3], "sep": [0.25, 0.25], "rest": [0.25, 0.45]}
    (folder / "eval/sinks.json").write_text(json.dumps({"model": str(folder), "step": -1,
        "encoder_sinks": {"length": 4, "sequences": 64, "layers": [layer, {**layer, "cls": [0.4, 0.2], "rest": [0.35, 0.55]}]}}))
    data = struct.pack("<16f", *([0.5, 0.125, 0.125, 0.25] * 4)) * 4
    header = json.dumps({"attention": {"dtype": "F32", "shape": [2, 2, 4, 4], "data_offsets": [0, len(data)]}}).encode()
    (folder / "eval/maps.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)


class Checks:
    def __init__(self, browser):
        self.browser, self.failed = browser, 0

    def check(self, ok, what):
        print(("ok      " if ok else "FAILED  ") + what)
        self.failed += not ok

    def marks(self):
        """Every plot has a line with more than one point for each series, inside its plot."""
        plots = self.browser.run("""[...document.querySelectorAll('figure')].map(f => ({title: f.querySelector('h3').textContent,
            lines: [...f.querySelectorAll('path.line')].map(p => p.getTotalLength()),
            unseen: [...f.querySelectorAll('path.line')].filter(p => getComputedStyle(p).stroke === 'none').length, nan: f.innerHTML.includes('NaN')}))""")
        self.check(len(plots) == 14, f"{len(plots)} plots")
        for plot in plots:
            self.check(len(plot["lines"]) >= 3 and min(plot["lines"]) > 40 and not plot["unseen"] and not plot["nan"], f"marks in {plot['title']}")

    def hover(self):
        """The pointer over a plot shows a value of each run there, and a cursor in its neighbours."""
        for title in ("Loss", "Validation loss", "Learning rate"):
            box = self.browser.run(f"""(() => {{ const f = [...document.querySelectorAll('figure')].find(f => f.querySelector('h3').textContent === '{title}');
                f.scrollIntoView({{block: 'center'}}); const b = f.querySelector('svg').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }})()""")
            self.browser.move(box[0] + box[2] * 0.5, box[1] + box[3] * 0.4)
            tip = self.tip(title)
            self.check(tip.count("\n") >= 3 and "step" in tip and "NaN" not in tip, f"hover over {title} reads: {tip!r}")
            outside = self.browser.run("""[...document.querySelectorAll('.tip:not([hidden])')].filter(t => { const a = t.getBoundingClientRect(), b = t.parentNode.getBoundingClientRect();
                return a.left < b.left || a.right > b.right; }).length""")
            self.check(outside == 0, "readings stay inside their plots")
            cursors = self.browser.run("document.querySelectorAll('#training .cursor').length")
            self.check(cursors == 5, f"the cursor stands in all {cursors} plots of the group")

    def tip(self, title):
        return self.browser.run(f"""[...document.querySelectorAll('figure')].find(f => f.querySelector('h3').textContent === '{title}').querySelector('.tip:not([hidden])')?.innerText || ''""")

    def controls(self):
        run = self.browser.run
        path = "document.querySelector('#training figure path.line:not(.raw)').getAttribute('d')"
        before = run(path)
        run("(() => { const s = document.querySelector('input[type=range]'); s.value = 0.97; s.dispatchEvent(new Event('input')); })()")
        self.check(run(path) != before, "the smoothing slider changes the lines")
        before = run(path)
        run("document.querySelector('#training input[type=checkbox]').click()")
        self.check(run(path) != before, "the log scale changes the lines")
        run("(() => { const s = document.querySelector('#training select'); s.value = '0'; s.dispatchEvent(new Event('change')); })()")
        flat = run(path).replace("M", "L").split("L")[1:]
        self.check(len({point.split(",")[1] for point in flat}) == 1, "a run minus itself is nothing")
        run("(() => { const s = document.querySelector('#training select'); s.value = ''; s.dispatchEvent(new Event('change')); })()")
        run("[...document.querySelectorAll('#training .choice button')].find(b => b.textContent === 'tokens').click()")
        self.check("tokens" in run("document.querySelector('#training figure svg').textContent"), "steps give way to tokens")
        run("document.querySelector('#training figure svg').focus()")
        for key in ("Home", "ArrowRight", "ArrowRight"):
            self.browser.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        self.check("tokens" in self.tip("Loss"), "arrow keys read values")
        run("document.querySelector('#runs button').click()")
        self.check(run("document.querySelectorAll('#cache-table tbody tr').length") == 2, "a run can be hidden")
        run("document.querySelector('#runs button').click()")

    def attention(self):
        run = self.browser.run
        colours = run("""(() => { const c = document.querySelector('.maps canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            return new Set(Array.from({length: d.length / 4}, (_, i) => d.slice(4 * i, 4 * i + 4).join())).size; })()""")
        self.check(colours > 3, f"a map has {colours} colours")
        run("document.querySelectorAll('.maps button')[5].click()")
        self.check(run("document.querySelectorAll('dialog[open] canvas').length") == 4, "a press enlarges a head of every run")
        box = run("(() => { const b = document.querySelector('dialog .large canvas').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()")
        self.browser.move(box[0] + 2, box[1] + box[3] - 2)
        reading = run("document.querySelectorAll('dialog .large canvas ~ p')[1].textContent")
        self.check("query 16 → key 1: 6" in reading, f"the enlarged map reads: {reading}")
        run("document.querySelector('dialog').close()")
        run("[...document.querySelectorAll('#attention .choice button')].find(b => b.textContent.startsWith('logits')).click()")
        run("document.querySelectorAll('.maps button')[5].click()")
        self.browser.move(box[0] + 2, box[1] + box[3] - 2)
        reading = run("document.querySelectorAll('dialog .large canvas ~ p')[1].textContent")
        self.check("query 16 → key 1: 5" in reading, f"the enlarged map of logits reads: {reading}")
        self.check("from -15 to 5" in run("document.querySelector('dialog .large').textContent"), "it names its range")
        self.browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight")
        self.check("head 2" in run("document.querySelector('dialog h3').textContent"), "arrow keys go to the next head")
        run("document.querySelector('dialog').close()")

    def encoder(self):
        """A page of an encoder alone: its own plot, whole maps, and no hint to measure what it has not."""
        run = self.browser.run
        lines = run("[...document.querySelectorAll('#attention figure')].map(f => f.querySelectorAll('path.line').length)")
        self.check(lines == [3], f"an encoder's plot has a line for each kind of token: {lines}")
        run("document.querySelectorAll('.maps button')[3].click()")
        box = run("(() => { const b = document.querySelector('dialog .large canvas').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()")
        self.browser.move(box[0] + box[2] - 2, box[1] + 2)
        reading = run("document.querySelectorAll('dialog .large canvas ~ p')[1].textContent")
        self.check("query 1 → key 4: 25" in reading, f"an encoder's query sees later keys: {reading}")
        run("document.querySelector('dialog').close()")
        self.check("eval outliers" not in run("document.body.innerText"), "nothing is asked for that an encoder has not")

    def content(self):
        run = self.browser.run
        self.check(run("document.querySelectorAll('#cache-table td.best').length") >= 4, "the best of each column is marked")
        self.check(run("document.querySelector('#rounding-table').innerText").count("not finite") == 1, "a perplexity that is not finite is named")
        self.check("num_sink_tokens" in run("document.querySelector('#configuration').innerText"), "differences of configurations are shown")
        self.check("onerror=alert(1)" in run("document.querySelector('.sample').innerText"), "hostile samples are only text")
        self.check(run("document.querySelectorAll('main img, main script').length") == 0, "no element came out of the data")
        self.check("drawn as 1,000 points" in run("document.querySelector('#training').innerText"), "the page says that it shows buckets")


def look(browser, page, shots, parts):
    """`parts` are methods of Checks that know what the page shows."""
    checks = Checks(browser)
    browser.open(page, 1280)
    for part in parts:
        part(checks)
    for name, width, dark, media in (("light", 1280, False, ""), ("dark", 1280, True, ""), ("phone", 390, False, ""), ("print", PRINTED, False, "print")):
        browser.open(page, width, dark, media)
        overflow = browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        checks.check(overflow <= 0, f"{name}: nothing sticks out sideways ({overflow} px)")
        scales = browser.run("[...document.querySelectorAll('figure svg')].map(s => s.clientWidth / s.viewBox.baseVal.width)")
        checks.check(scales and max(scales) <= 1.01 and (media == "print" or min(scales) >= 0.99),
                     f"{name}: {len(scales)} plots are drawn for the width they have (scaled {min(scales):.2f} to {max(scales):.2f})")
        if shots:
            browser.screenshot(Path(shots) / f"{name}.png")
    complaints = browser.complaints()
    checks.check(not complaints, f"no complaint on the console {complaints or ''}")
    return checks.failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ballast")
    parser.add_argument("--screenshots", help="folder to keep them in")
    parser.add_argument("--page", help="only take screenshots of this report")
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print("skipped: no Chromium is installed (apt-get install chromium)")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="ballast-report-", ignore_cleanup_errors=True) as work:
        folder = Path(work)
        names = ("vanilla", "zero_sink", "sink_token")
        for seed, name in enumerate(names, 1):
            write_run(folder / "runs" / name, seed, int(name == "sink_token"))
        page, encoder_page = folder / "report.html", folder / "encoder.html"
        write_encoder(folder / "encoder")
        subprocess.run([options.ballast, "report", str(folder / "encoder"), "-o", str(encoder_page)], check=True)
        subprocess.run([options.ballast, "report", *(str(folder / "runs" / name) for name in names), "-o", str(page)], check=True)
        browser = Browser(program, folder / "profile")
        try:
            if options.page:
                return 1 if look(browser, Path(options.page).resolve(), options.screenshots, ()) else 0
            failed = look(browser, page, options.screenshots, (Checks.marks, Checks.hover, Checks.content, Checks.attention, Checks.controls))
            return 1 if failed + look(browser, encoder_page, None, (Checks.encoder,)) else 0
        finally:
            browser.close()


if __name__ == "__main__":
    sys.exit(main())
