// The neuron view: traces with exact spike marks, the phase plane, numbers of both solvers, and its controls.
"use strict";

(() => {
  const {element, link, shown} = Ranvier;
  const lanes = [];  // of each solver: points in time order, spikes in time order, the last frame's numbers
  let frame = null, dirty = false, state = null, plots = null;
  const asked = [];  // commands whose effect is not drawn yet: {revision, moment}
  Ranvier.latencies = [];  // ms from a command to the drawing of the first frame with it in effect

  const clear = () => { lanes.length = 0; };
  const windowMs = () => (state ? state.values["neuron.window"] : 1000);
  const unitOfU = () => (state && state.form === "2007" ? "pA" : "of the form of 2003");

  /// Puts the peak and the reset of each spike between the samples around it.
  const take = (lane, part, gap) => {
    // A fast run tells its last window only: no line leads over what lies between.
    const skipped = lane.t.length && part.offset.length && part.base - lane.t[lane.t.length - 1] > Math.max(10, 0.02 * windowMs());
    if ((gap || skipped) && lane.t.length) lane.t.push(NaN), lane.v.push(NaN), lane.u.push(NaN);
    let spike = 0;
    const peaksUpTo = (t, after) => {
      for (; spike < part.spikes.length && part.spikes[spike] <= t; ++spike) {
        const ts = part.spikes[spike], before = lane.u.length ? lane.u[lane.u.length - 1] : after;
        lane.t.push(ts, ts);
        lane.v.push(part.vPeak, part.c);
        lane.u.push(before, after);
      }
    };
    for (let i = 0; i < part.offset.length; ++i) {
      const t = part.base + part.offset[i];
      peaksUpTo(t, part.us[i]);
      lane.t.push(t); lane.v.push(part.vs[i]); lane.u.push(part.us[i]);
    }
    peaksUpTo(part.time, part.u);
    for (const t of part.spikes) lane.spikes.push(t);
    const oldest = part.time - 1.5 * windowMs();
    let drop = 0;
    while (drop < lane.t.length && !(lane.t[drop] >= oldest)) ++drop;
    if (drop > 2000 || drop > lane.t.length / 2) for (const key of ["t", "v", "u"]) lane[key].splice(0, drop);
    while (lane.spikes.length && lane.spikes[0] < oldest) lane.spikes.shift();
    lane.last = part;
  };

  link.onFrame.push((next) => {
    if (next.kind !== 1) return;
    if (next.restarted || (frame && next.parts.length !== lanes.length) || (frame && next.time < frame.time)) clear();
    next.parts.forEach((part, i) => {
      if (!lanes[i]) lanes[i] = {t: [], v: [], u: [], spikes: [], drawnSpikes: null};
      const before = lanes[i].last ? lanes[i].last.spikeCount : part.spikeCount;
      take(lanes[i], part, next.gap);
      if (i === 0 && part.spikeCount > before && Ranvier.space) Ranvier.space.fire(part.spikeCount - before);
    });
    frame = next;
    dirty = true;
    if (Ranvier.space && next.parts[0]) Ranvier.space.potential(next.parts[0].v);
  });

  link.onAnswer.push((answer, sent) => {
    if (answer.revision !== undefined && sent.name && sent.name.startsWith("neuron.") && sent.moment)
      asked.push({revision: answer.revision, moment: sent.moment});
  });

  const extent = (key, low, high) => {
    let a = low, b = high;
    const begin = frame.time - windowMs();  // a solver that is held must not stretch the axis for ever
    for (const lane of lanes) {
      for (let i = 0; i < lane.t.length; ++i) {
        const value = lane[key][i];
        if (lane.t[i] >= begin) { if (value < a) a = value; if (value > b) b = value; }
      }
    }
    if (!(a < b)) [a, b] = [Math.min(a, lanes[0].last[key]) - 1, Math.max(b, lanes[0].last[key]) + 1];
    const room = 0.05 * (b - a) || 1;
    return [a - room, b + room];
  };

  /// A range that follows its data outwards at once and inwards slowly, so that axes do not jitter.
  const calm = (kept, [low, high]) => {
    if (!kept.range) kept.range = [low, high];
    const [a, b] = kept.range, slack = 0.35 * (b - a);
    kept.range = [low < a || low > a + slack ? low : a, high > b || high < b - slack ? high : b];
    return kept.range;
  };

  const drawTrace = (plot, key, range, marks) => {
    const colours = Ranvier.colours(), end = Math.max(frame.time, windowMs()), begin = end - windowMs();
    const c = plot.begin([begin, end], range);
    const line = [colours.first, colours.second];
    for (let i = lanes.length - 1; i >= 0; --i) {
      const lane = lanes[i];
      c.strokeStyle = line[i];
      c.lineWidth = i === 0 ? 1.6 : 1.3;
      c.setLineDash(i === 0 ? [] : [5, 3]);
      c.beginPath();
      let open = false;
      for (let j = 0; j < lane.t.length; ++j) {
        if (Number.isNaN(lane.t[j])) { open = false; continue; }
        if (lane.t[j] < begin - 0.02 * windowMs()) continue;
        const x = plot.x(lane.t[j]), y = plot.y(lane[key][j]);
        if (open) c.lineTo(x, y); else c.moveTo(x, y);
        open = true;
      }
      c.stroke();
      c.setLineDash([]);
      if (!marks) continue;
      c.fillStyle = line[i];
      for (const t of lane.spikes) {  // exact times: a triangle for A, a bar for B below it
        if (t < begin) continue;
        const x = plot.x(t), top = plot.margin.top + 2 + 9 * i;
        c.beginPath();
        if (i === 0) { c.moveTo(x, top + 7); c.lineTo(x - 3.5, top); c.lineTo(x + 3.5, top); } else c.rect(x - 1, top, 2, 7);
        c.fill();
      }
    }
    plot.end();
  };

  const nullclines = (plot, c, vRange, uRange) => {
    const q = state.equation, colours = Ranvier.colours();
    c.lineWidth = 1.4;
    c.strokeStyle = colours.third;
    c.beginPath();
    for (let i = 0; i <= 160; ++i) {
      const v = vRange[0] + (vRange[1] - vRange[0]) * i / 160, u = (q.q2 * v + q.q1) * v + q.q0 + frame.current;
      if (i === 0) c.moveTo(plot.x(v), plot.y(u)); else c.lineTo(plot.x(v), plot.y(u));
    }
    c.stroke();
    c.strokeStyle = colours.fourth;
    c.setLineDash([7, 3]);
    c.beginPath();
    if (q.e === 0) {
      c.moveTo(plot.x(q.v_b), plot.y(uRange[0])); c.lineTo(plot.x(q.v_b), plot.y(uRange[1]));
    } else {
      for (const v of vRange) {
        const u = q.b * (v - q.v_b) / q.e;
        if (v === vRange[0]) c.moveTo(plot.x(v), plot.y(u)); else c.lineTo(plot.x(v), plot.y(u));
      }
    }
    c.stroke();
    c.setLineDash([]);
  };

  const drawPhase = () => {
    const plot = plots.phase, colours = Ranvier.colours(), line = [colours.first, colours.second];
    const low = Math.min(state.equation.c, lanes[0].last.v) - 12;
    const vRange = calm(plots.phaseV, extent("v", low, state.equation.v_peak + 5)), uRange = calm(plots.phaseU, extent("u", Infinity, -Infinity).map((x, i) => x + (i ? 10 : -10) * (state.form === "2007" ? 1 : 0.1)));
    const c = plot.begin(vRange, uRange);
    nullclines(plot, c, vRange, uRange);
    for (let i = lanes.length - 1; i >= 0; --i) {
      const lane = lanes[i];
      c.strokeStyle = line[i];
      c.lineWidth = 1.1;
      c.globalAlpha = 0.75;
      c.beginPath();
      for (let j = 0; j < lane.t.length; ++j) {
        const jump = j > 0 && lane.t[j] === lane.t[j - 1];  // no line along a reset
        const x = plot.x(lane.v[j]), y = plot.y(lane.u[j]);
        if (j === 0 || jump || Number.isNaN(lane.t[j]) || Number.isNaN(lane.t[j - 1])) c.moveTo(x, y); else c.lineTo(x, y);
      }
      c.stroke();
      c.globalAlpha = 1;
      c.fillStyle = line[i];
      c.beginPath();
      c.arc(plot.x(lane.last.v), plot.y(lane.last.u), i === 0 ? 5 : 4, 0, 7);
      c.fill();
    }
    plot.end();
    c.font = "12px system-ui, sans-serif";
    c.textAlign = "right";
    c.fillStyle = colours.third;
    c.fillText("v' = 0", plot.width - 16, 22);
    c.fillStyle = colours.fourth;
    c.fillText("u' = 0 (dashed)", plot.width - 16, 38);
  };

  const numbers = () => {
    const body = document.getElementById("neuron-numbers"), [a, b] = lanes;
    const words = (i) => `${"AB"[i]}: ${state.values["neuron.solver." + i]}, ${state.values["neuron.mode." + i]}, ${shown(state.values["neuron.dt." + i])} ms`;
    const row = (i, lane) => `<tr><td class="${["first", "second"][i]}">${words(i)}</td><td>${shown(lane.last.vMin)}</td><td>${shown(lane.last.vMax)}</td><td id="spikes-${i}">${lane.last.spikeCount}</td><td>${shown(lane.last.v)}</td></tr>`;
    let text = `<div class="scroll"><table><thead><tr><th>solver</th><th>min v, mV</th><th>max v, mV</th><th>spikes</th><th>v now, mV</th></tr></thead><tbody>${row(0, a)}`;
    if (b) {
      text += row(1, b);
      const last = a.spikes.length && b.spikes.length ? shown(b.spikes[b.spikes.length - 1] - a.spikes[a.spikes.length - 1]) + " ms" : "none in the window";
      text += `<tr><td>B less A</td><td>${shown(b.last.vMin - a.last.vMin)}</td><td>${shown(b.last.vMax - a.last.vMax)}</td><td>${b.last.spikeCount - a.last.spikeCount}</td><td>${shown(b.last.v - a.last.v)}</td></tr></tbody></table></div><p class="words">Last spike of B less that of A: ${last}.</p>`;
    } else text += "</tbody></table></div>";
    body.innerHTML = text;
    body.append(element("p", {class: "words", id: "neuron-time"},
      `t = ${frame.time.toFixed(1)} ms; input ${shown(frame.current)} ${state.form === "2007" ? "pA" : ""}; preset: ${state.title}` +
      (state.values["neuron.protocol"] === "preset" ? `, current ${state.current_text}` : "")));
    if (state.note) body.append(element("p", {class: "words alarm", id: "neuron-note"}, state.note));
    for (const held of state.diverged)
      body.append(element("p", {class: "words alarm", "data-diverged": held.solver}, `Solver ${"AB"[held.solver]} diverged and is held: ${held.why}. Restart to go on.`));
  };

  let numbersAt = 0, quiet = false;
  const draw = () => {
    requestAnimationFrame(draw);
    if (!dirty || !frame || !state || !plots || lanes.length === 0 || link.view !== "neuron") return;
    dirty = false;
    drawTrace(plots.v, "v", calm(plots.rangeV, extent("v", state.equation.c - 5, state.equation.v_peak + 10)), true);
    const now = performance.now();
    for (let i = asked.length - 1; i >= 0; --i)
      if (asked[i].revision <= frame.revision) Ranvier.latencies.push(now - asked.splice(i, 1)[0].moment);
    if (Ranvier.firstDrawn === undefined) Ranvier.firstDrawn = now;
    drawTrace(plots.u, "u", calm(plots.rangeU, extent("u", Infinity, -Infinity)), false);
    drawPhase();
    if (now - numbersAt > 100 || !frame.running) { numbers(); numbersAt = now; quiet = false; } else if (!quiet) {
      quiet = true;
      setTimeout(() => { quiet = false; if (frame && state && lanes.length) numbers(); }, 120);
    }
  };

  link.onState.push((next) => {
    if (next.view !== "neuron") return;
    state = next;
    Ranvier.controls.show(next);
    for (const part of document.querySelectorAll("[data-form]")) part.hidden = part.dataset.form !== next.form;
    for (const [name, kinds] of Object.entries({onset: ["step", "pulse", "ramp"], width: ["pulse", "ramp"], period: ["pulse"], noise: ["noise"]}))
      document.querySelector(`[data-control="neuron.${name}"]`).hidden = !kinds.includes(next.values["neuron.protocol"]);
    const second = next.values["neuron.solver.1"] !== "none";
    for (const name of ["mode.1", "dt.1"]) document.querySelector(`[data-control="neuron.${name}"]`).hidden = !second;
    if (Ranvier.space) Ranvier.space.myelin(next.values["neuron.myelin"]);
    dirty = true;
  });

  const exportPicture = () => {
    const canvases = ["trace-v", "trace-u", "phase"].map((id) => document.getElementById(id));
    const sheet = document.createElement("canvas");
    sheet.width = Math.max(...canvases.map((c) => c.width));
    sheet.height = canvases.reduce((sum, c) => sum + c.height, 0);
    const c = sheet.getContext("2d");
    c.fillStyle = Ranvier.colours().card;
    c.fillRect(0, 0, sheet.width, sheet.height);
    let y = 0;
    for (const canvas of canvases) { c.drawImage(canvas, 0, y); y += canvas.height; }
    sheet.toBlob((blob) => {
      const a = element("a", {href: URL.createObjectURL(blob), download: "ranvier-neuron.png"});
      a.click();
      setTimeout(() => URL.revokeObjectURL(a.href), 1000);
    });
  };

  Ranvier.neuron = {
    lanes, frame: () => frame, state: () => state, asked,
    build() {
      const table = link.controls, {numberControl, choiceControl, transport, group} = Ranvier.controls;
      const all = Object.values(table), of = (form) => all.filter((c) => c.name.startsWith(`neuron.${form}.`)).map(numberControl);
      const names = {rs: "RS", ib: "IB", ch: "CH", fs: "FS", lts: "LTS", tc: "TC", rz: "RZ"};
      const number = (name) => numberControl(table["neuron." + name]);
      const side = document.getElementById("neuron-controls");
      side.replaceChildren(
        choiceControl(table["neuron.preset"]),
        element("div", {class: "buttons", id: "neuron-presets"}, Object.keys(names).map((key) => element("button", {type: "button", id: "preset-" + key,
          onclick: () => link.set("neuron.preset", key + (["rs", "ib", "ch"].includes(key) ? "2007" : "2003"))}, names[key]))),
        group("Time", ...transport("neuron"), number("window"), number("until")),
        group("Input", choiceControl(table["neuron.protocol"]), number("onset"), number("width"), number("period"), number("noise")),
        element("div", {"data-form": "2007"}, group("Neuron, form of 2007", of("2007"))),
        element("div", {"data-form": "2003", hidden: true}, group("Neuron, form of 2003", of("2003"))),
        element("p", {class: "words"}, "Blue part of a track: the range of the seed project's slider."),
        group("Two solvers side by side", ...["0", "1"].flatMap((i) => [choiceControl(table["neuron.solver." + i]),
          choiceControl(table["neuron.mode." + i]), number("dt." + i)])),
        group("Picture", number("myelin"), element("div", {class: "buttons"},
          element("a", {class: "button", href: "/api/trace.csv", download: "ranvier-trace.csv"}, "Trace as CSV"),
          element("button", {type: "button", id: "export-png", onclick: exportPicture}, "Picture as PNG"))));
      if (plots) return;
      const plot = (id, xLabel, yLabel) => {
        const made = new Ranvier.Plot(document.getElementById(id), {xLabel, yLabel});
        made.onResize = () => { dirty = true; };
        return made;
      };
      plots = {v: plot("trace-v", "time (ms)", () => "v (mV)"), u: plot("trace-u", "time (ms)", () => `u (${unitOfU()})`),
        phase: plot("phase", "v (mV)", () => `u (${unitOfU()})`), rangeV: {}, rangeU: {}, phaseV: {}, phaseU: {}};
      requestAnimationFrame(draw);
    },
  };
  Ranvier.onTheme.push(() => { dirty = true; });
})();
