// The population view: raster, rate, sheet and histograms on 2-D canvases.
"use strict";

(() => {
  const {element, link, shown} = Ranvier;
  let frame = null, state = null, dirty = false, plots = null, raster = null, drawn = 0, drawnSince = 0, drawnRate = 0;
  const rate = {t: [], hz: []};
  let spikes = [];  // one entry a frame: {base, offset, neuron}

  const windowMs = () => (state ? state.values["population.window"] : 1000);
  const clear = () => { rate.t.length = rate.hz.length = 0; spikes = []; if (raster) raster.end = null; };

  link.onFrame.push((next) => {
    if (next.kind !== 2) return;
    if (next.restarted || (frame && (next.time < frame.time || next.parts[0].neurons !== frame.parts[0].neurons))) clear();
    const p = next.parts[0];
    for (let i = 0; i < p.rate.length; ++i) { rate.t.push(p.base + (i + 0.5) * p.binWidth); rate.hz.push(p.rate[i]); }
    spikes.push({base: p.base, offset: p.offset, neuron: p.neuron, listed: p.offset.length, fired: p.fired});
    const oldest = next.time - 1.2 * windowMs();
    while (spikes.length > 1 && spikes[1].base < oldest) spikes.shift();
    let drop = 0;
    while (drop < rate.t.length && rate.t[drop] < oldest) ++drop;
    if (drop > 500) { rate.t.splice(0, drop); rate.hz.splice(0, drop); }
    frame = next;
    dirty = true;
  });

  /// Dark blue to yellow, even in lightness, told apart by colour-blind people too (after the map cividis).
  const map = (() => {
    const stops = [[0, 32, 76], [49, 68, 107], [102, 105, 112], [149, 143, 120], [203, 185, 105], [255, 233, 69]];
    const table = new Uint32Array(256);
    for (let i = 0; i < 256; ++i) {
      const at = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(at)), f = at - k;
      const [r, g, b] = [0, 1, 2].map((j) => Math.round(stops[k][j] + f * (stops[k + 1][j] - stops[k][j])));
      table[i] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    }
    return table;
  })();

  /// The raster keeps its own picture and only adds what is new: a whole window may hold 100,000 spikes.
  const drawRaster = () => {
    const plot = plots.raster, p = frame.parts[0], ratio = Math.min(2, devicePixelRatio || 1);
    const left = plot.margin.left, top = plot.margin.top;
    const w = Math.round((plot.width - left - plot.margin.right) * ratio), h = Math.round((plot.height - top - plot.margin.bottom) * ratio);
    const end = Math.max(frame.time, windowMs()), begin = end - windowMs(), key = [w, h, windowMs(), p.neurons, document.documentElement.dataset.theme].join();
    if (!raster || raster.key !== key) {
      const canvas = document.createElement("canvas");
      canvas.width = w; canvas.height = h;
      raster = {key, canvas, c: canvas.getContext("2d"), end: null};
    }
    const c = raster.c, perMs = w / windowMs(), colours = Ranvier.colours();
    let from = begin, parts = spikes;
    const whole = Math.floor(end * perMs);  // pixel columns since t = 0
    if (raster.end === null || whole - raster.end >= w) {
      c.clearRect(0, 0, w, h);
    } else {
      const shift = whole - raster.end;
      if (shift > 0) {
        c.globalCompositeOperation = "copy";
        c.drawImage(raster.canvas, -shift, 0);
        c.globalCompositeOperation = "source-over";
      }
      parts = spikes.filter((part) => !part.drawn);
      from = -Infinity;
    }
    const dot = Math.max(1, Math.round(ratio));
    for (const [inhibitory, colour] of [[false, colours.first], [true, colours.second]]) {
      c.fillStyle = colour;
      for (const part of parts) {
        for (let i = 0; i < part.offset.length; ++i) {
          const neuron = part.neuron[i];
          if ((neuron >= p.excitatory) !== inhibitory) continue;
          const t = part.base + part.offset[i];
          if (t >= from) c.fillRect(Math.floor(t * perMs) - whole + w - 1, Math.floor(h - (neuron + 1) / p.neurons * h), dot, dot);
        }
      }
    }
    for (const part of spikes) part.drawn = true;
    raster.end = whole;
    const to = plot.begin([begin, end], [0, p.neurons]);
    to.imageSmoothingEnabled = false;
    to.drawImage(raster.canvas, left, top, w / ratio, h / ratio);
    plot.end();
  };

  const drawRate = () => {
    const end = Math.max(frame.time, windowMs()), begin = end - windowMs();
    let high = 10;
    for (let i = 0; i < rate.t.length; ++i) if (rate.t[i] >= begin && rate.hz[i] > high) high = rate.hz[i];
    const c = plots.rate.begin([begin, end], [0, 1.05 * high]);
    c.strokeStyle = Ranvier.colours().third;
    c.lineWidth = 1.3;
    c.beginPath();
    let open = false;
    for (let i = 0; i < rate.t.length; ++i) {
      if (rate.t[i] < begin) continue;
      const x = plots.rate.x(rate.t[i]), y = plots.rate.y(rate.hz[i]);
      if (open) c.lineTo(x, y); else c.moveTo(x, y);
      open = true;
    }
    c.stroke();
    plots.rate.end();
  };

  const drawSheet = () => {
    const canvas = document.getElementById("sheet"), p = frame.parts[0], side = Math.ceil(Math.sqrt(p.neurons));
    if (!drawSheet.small || drawSheet.small.width !== side) {
      drawSheet.small = document.createElement("canvas");
      drawSheet.small.width = drawSheet.small.height = side;
      drawSheet.image = drawSheet.small.getContext("2d").createImageData(side, side);
      drawSheet.words = new Uint32Array(drawSheet.image.data.buffer);
    }
    for (let i = 0; i < p.neurons; ++i) drawSheet.words[i] = map[p.sheet[i]];
    drawSheet.small.getContext("2d").putImageData(drawSheet.image, 0, 0);
    const ratio = Math.min(2, devicePixelRatio || 1), w = canvas.clientWidth, h = canvas.clientHeight;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
    const c = canvas.getContext("2d"), colours = Ranvier.colours();
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = colours.card;
    c.fillRect(0, 0, w, h);
    const size = Math.min(w - 70, h - 24), x = 8, y = 4;
    c.imageSmoothingEnabled = false;
    c.drawImage(drawSheet.small, x, y, size, size);
    for (let i = 0; i < 128; ++i) {
      const word = map[2 * i];
      c.fillStyle = `rgb(${word & 255},${word >> 8 & 255},${word >> 16 & 255})`;
      c.fillRect(x + size + 12, y + size - (i + 1) * size / 128, 12, size / 128 + 1);
    }
    c.fillStyle = colours.soft;
    c.font = "12px system-ui, sans-serif";
    c.textAlign = "left";
    for (const v of [-90, -50, -10, 30]) c.fillText(String(v), x + size + 28, y + size - (v + 90) / 130 * size + 4);
    c.fillText("v (mV)", x + size + 12, y + size + 16);
    c.fillText(`${p.neurons} neurons, row by row`, x, y + size + 16);
  };

  const drawHistograms = () => {
    const p = frame.parts[0], colours = Ranvier.colours();
    const most = (counts) => { let m = 1; for (const n of counts) if (n > m) m = n; return 1.05 * m; };
    plots.rates.begin([0, p.highRate], [0, most(p.rateCounts)]);
    plots.rates.bars(p.rateCounts, [0, p.highRate], colours.first);
    plots.rates.end();
    const range = [Math.log10(p.lowInterval), Math.log10(p.highInterval)];
    plots.intervals.begin(range, [0, most(p.intervalCounts)]);
    plots.intervals.bars(p.intervalCounts, range, colours.fourth);
    plots.intervals.end();
  };

  const numbers = () => {
    const p = frame.parts[0], room = document.getElementById("population-numbers");
    const listed = spikes.length ? spikes[spikes.length - 1] : null;
    const lines = [
      state.words + ".",
      `${p.neurons} neurons (${p.excitatory} excitatory, blue; ${p.neurons - p.excitatory} inhibitory, orange), steps of ${state.dt} ms; t = ${frame.time.toFixed(0)} ms; ${p.spikeCount} spikes, ${shown(p.meanRate, 3)} Hz each.`,
      `Real-time factor ${shown(frame.speed, 3)}; a second of the model takes ${shown(p.load, 3)} s of work; ${drawnRate.toFixed(0)} frames a second drawn.`];
    if (listed && listed.listed < listed.fired) lines.push(`The raster shows every ${Math.round(listed.fired / listed.listed)}th spike.`);
    room.replaceChildren(...lines.map((line) => element("p", {class: "words"}, line)));
    if (state.failure) room.append(element("p", {class: "words alarm"}, `It cannot go on: ${state.failure}. Restart to go on.`));
  };

  let numbersAt = 0;
  const draw = (now) => {
    requestAnimationFrame(draw);
    if (!dirty || !frame || !state || link.view !== "population") return;
    dirty = false;
    drawRaster();
    drawRate();
    drawSheet();
    drawHistograms();
    drawn += 1;
    if (now - drawnSince > 1000) { drawnRate = 1000 * drawn / (now - drawnSince); drawn = 0; drawnSince = now; }
    if (now - numbersAt > 250) { numbers(); numbersAt = now; }
  };

  link.onState.push((next) => {
    if (next.view !== "population") return;
    state = next;
    Ranvier.controls.show(next);
    dirty = true;
  });

  Ranvier.population = {
    frame: () => frame, state: () => state, drawnRate: () => drawnRate,
    build() {
      const table = link.controls, {numberControl, choiceControl, transport, group} = Ranvier.controls;
      const number = (name) => numberControl(table["population." + name]);
      const field = number("ephaptic");
      for (const input of field.querySelectorAll("input")) input.disabled = true;
      document.getElementById("population-controls").replaceChildren(
        choiceControl(table["population.preset"]),
        group("Time", ...transport("population"), number("window")),
        group("Population", number("neurons"), number("input"), number("synapses"), number("inhibition"), field,
          element("p", {class: "words"}, "Ephaptic coupling waits for the population field, which this build does not have yet.")));
      if (plots) return;
      const plot = (id, options) => {
        const made = new Ranvier.Plot(document.getElementById(id), options);
        made.onResize = () => { dirty = true; };
        return made;
      };
      plots = {
        raster: plot("raster", {xLabel: "time (ms)", yLabel: () => "neuron"}),
        rate: plot("rate", {xLabel: "time (ms)", yLabel: () => "rate (Hz)"}),
        rates: plot("rates", {xLabel: "firing rate of a neuron in the last second (Hz)", yLabel: () => "neurons"}),
        intervals: plot("intervals", {xLabel: "interspike interval in the last second (ms)", yLabel: () => "intervals",
          xTicks: () => [0, 1, 2, 3], xWords: (value) => String(10 ** value)}),
      };
      requestAnimationFrame(draw);
    },
  };
  Ranvier.onTheme.push(() => { if (raster) { raster = null; for (const part of spikes) part.drawn = false; } dirty = true; });
})();
