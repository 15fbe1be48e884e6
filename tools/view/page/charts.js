// Pictures and tables of runs, drawn from what their folders hold: for the page and for `ranvier report` alike.
"use strict";

(() => {
  const {element, shown} = Ranvier;
  const charts = [];  // dygraphs that are on show
  const line = () => { const c = Ranvier.colours(); return [c.first, c.second, c.third, c.fourth, "#e69f00", "#56b4e9"]; };

  /// A chart of columns over x: series {label: [x, y]}, each with an x of its own. Missing values are left out.
  const chart = (title, xLabel, yLabel, series, options = {}) => {
    const labels = Object.keys(series), rows = new Map();
    labels.forEach((label, k) => {
      const [x, y] = series[label];
      for (let i = 0; i < x.length; ++i) {
        if (x[i] === null || y[i] === null || y[i] === undefined) continue;
        if (!rows.has(x[i])) rows.set(x[i], [x[i], ...labels.map(() => null)]);
        rows.get(x[i])[k + 1] = options.log ? Math.max(Math.abs(y[i]), options.floor || 1e-16) : y[i];
      }
    });
    const data = [...rows.values()].sort((a, b) => a[0] - b[0]);
    if (data.length === 0) return element("p", {class: "words"}, `${title}: nothing was written yet.`);
    const box = element("div", {class: "chart"}), legend = element("span", {class: "legend"});
    const figure = element("figure", {}, element("figcaption", {}, title, legend), box);
    const tick = (v) => (options.log && (v < 0.01 || v >= 1e4) ? v.toExponential(0) : shown(v, 3));
    const colours = Ranvier.colours();
    // Drawn once the box has its size.
    requestAnimationFrame(() => {
      if (!box.isConnected) return;
      charts.push(new Dygraph(box, data, {
        labels: [xLabel, ...labels], xlabel: xLabel, ylabel: yLabel, colors: line(), connectSeparatedPoints: true,
        logscale: !!options.log, strokeWidth: 1.6, legend: labels.length > 1 ? "always" : "onmouseover", labelsDiv: legend,
        drawPoints: !!options.points, pointSize: 3, axisLineColor: colours.line, gridLineColor: colours.grid, highlightCircleSize: 4,
        axes: {y: {axisLabelWidth: 58, valueFormatter: (v) => shown(v), axisLabelFormatter: tick},
          x: {valueFormatter: (v) => shown(v, 7)}}, ...(options.more || {})}));
    });
    return figure;
  };

  const table = (heads, rows, attributes = {}) => element("div", {class: "scroll"}, element("table", attributes,
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", {}, head)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell) => element("td", {}, cell)))))));

  const cards = (pairs) => element("div", {class: "cards"}, pairs.map(([label, value]) =>
    element("div", {class: "card"}, element("b", {}, value === null || value === undefined ? "none" : String(value)), element("span", {}, label))));

  /// A picture of bytes: RGB, row by row.
  const picture = (bytes, width, height, words) => {
    const canvas = element("canvas");
    canvas.width = width; canvas.height = height;
    const c = canvas.getContext("2d"), image = c.createImageData(width, height), channels = bytes.length / (width * height);
    for (let i = 0; i < width * height; ++i)
      for (let k = 0; k < 4; ++k) image.data[4 * i + k] = k === 3 ? 255 : bytes[channels * i + Math.min(k, channels - 1)];
    c.putImageData(image, 0, 0);
    return element("img", {src: canvas.toDataURL(), alt: words, title: words});
  };

  const age = (run) => run.age_seconds < 60 ? `written ${Math.round(run.age_seconds)} s ago` : run.age_seconds < 7200
    ? `written ${Math.round(run.age_seconds / 60)} min ago` : `written ${Math.round(run.age_seconds / 3600)} h ago`;
  const percent = (share) => share === null || share === undefined ? "none" : (100 * share).toFixed(2) + " %";
  const last = (list) => { for (let i = list.length - 1; i >= 0; --i) if (list[i] !== null) return list[i]; return null; };

  const trainingCurves = (runs) => {
    const pick = (key) => Object.fromEntries(runs.map((run) => [runs.length > 1 ? run.name : key.replace("_", " "), [run.metrics.epoch, run.metrics[key]]]));
    const accuracy = {};
    for (const run of runs) for (const key of ["train_accuracy", "test_accuracy"]) {
      const name = (runs.length > 1 ? run.name + ", " : "") + (key === "train_accuracy" ? "training images" : "test images");
      accuracy[name] = [run.metrics.epoch, run.metrics[key].map((x) => (x === null ? null : 100 * x))];
    }
    return [chart("Training loss", "epoch", "loss (nats an image)", pick("train_loss")),
      chart("Accuracy", "epoch", "accuracy (%)", accuracy, {points: true})];
  };

  const confusion = (e) => {
    const colours = Ranvier.colours(), most = e.confusion.map((row) => Math.max(1, row.reduce((a, b) => a + b, 0)));
    const made = table(["is \\ taken for", ...e.classes, "right"], e.classes.map((name, i) => [name, ...e.confusion[i], percent(e.per_class[i])]), {class: "matrix"});
    made.querySelectorAll("tbody tr").forEach((row, i) => [...row.children].forEach((cell, j) => {
      if (j === 0 || j > e.classes.length) return;
      const share = e.confusion[i][j - 1] / most[i];
      cell.style.background = `color-mix(in srgb, ${i === j - 1 ? colours.first : colours.second} ${Math.round(75 * Math.sqrt(share))}%, ${colours.card})`;
      cell.title = `${e.classes[i]} taken for ${e.classes[j - 1]}: ${e.confusion[i][j - 1]}`;
    }));
    return element("figure", {}, element("figcaption", {}, `Confusion matrix of ${e.images} test images (rows: what they are)`), made);
  };

  const mistakes = (e) => !e.mistakes.length ? element("p", {class: "words"}, `It gets none of the ${e.images} test images wrong.`) : element("figure", {}, element("figcaption", {}, "Images it gets wrong, the surest first"),
    element("div", {class: "mistakes"}, e.mistakes.map((m) => {
      const bytes = Uint8Array.from(atob(m.pixels), (c) => c.charCodeAt(0));
      const top = m.probabilities.map((p, i) => [p, e.classes[i]]).sort((a, b) => b[0] - a[0]).slice(0, 3);
      return element("figure", {}, picture(bytes, e.width, e.height, `test image ${m.image}`), element("div", {}, "is ", element("b", {}, e.classes[m.label])),
        top.map(([p, name]) => element("div", {class: "words"}, `${name} ${(100 * p).toFixed(1)}\u00a0%`)));
    })));

  const filters = (f) => {
    const each = f.height * f.width * 3;
    return element("figure", {}, element("figcaption", {}, `First-layer filters (${f.tensor}; grey is 0)`), element("div", {class: "filters"},
      Array.from({length: f.count}, (_, k) => picture(f.values.slice(k * each, (k + 1) * each), f.width, f.height, `filter ${k + 1}`))));
  };

  const training = (run) => {
    const m = run.metrics, e = run.evaluation;
    const parts = [cards([["epochs done", shown(last(m.epoch), 3)], ["training loss, nats", shown(last(m.train_loss))], ["test accuracy", percent(last(m.test_accuracy))],
      ["images a second", shown(last(m.images_per_second), 3)]]), ...trainingCurves([run])];
    if (e) parts.push(confusion(e), mistakes(e));
    else parts.push(element("p", {class: "words"}, "No evaluation.json yet: the confusion matrix and the mistakes come with the first evaluation, or from `ranvier eval --checkpoint RUN/checkpoint.safetensors --out RUN/evaluation.json`."));
    if (run.filters) parts.push(filters(run.filters));
    if (run.coupling) parts.push(...run.coupling.map(sheet));
    if (run.config) parts.push(element("details", {}, element("summary", {}, "config.toml"), element("pre", {}, run.config)));
    return parts;
  };

  /// A canvas with axes, drawn once it has its size and whenever that changes.
  const plotted = (title, height, options, draw) => {
    const canvas = element("canvas", {role: "img", style: `height:${height}px`, "aria-label": title});
    requestAnimationFrame(() => {
      if (!canvas.isConnected) return;
      const plot = new Ranvier.Plot(canvas, options);
      plot.onResize = () => draw(plot);
      draw(plot);
    });
    return element("figure", {}, element("figcaption", {}, title), canvas);
  };

  /// Places as the law sees them: mean 0 along each axis, and 1 the mean of the axes' variances.
  const standardised = (layer) => {
    const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
    const axes = [...'xyz'].filter((key) => layer[key]).map((key) => { const middle = mean(layer[key]); return layer[key].map((value) => value - middle); });
    const deviation = Math.sqrt(mean(axes.map((list) => mean(list.map((value) => value * value))))) || 1;
    const [x, y] = axes.map((list) => list.map((value) => value / deviation));
    return {x, y: y || x.map(() => 0)};
  };

  /// The units of a coupled layer where they lie.
  const sheet = (layer) => plotted(
    `Coupling sheet of ${layer.name}: ${layer.x.length} units, ${layer.learned ? "learned" : "fixed"} geometry; a disc's area is the unit's size, blue has myelin, orange is bare` +
      (layer.axes > 2 ? "; the third axis is not drawn" : ""),
    360, {xLabel: "position, axis 1 (standard deviations)", yLabel: () => (layer.axes > 1 ? "axis 2 (standard deviations)" : "")},
    (plot) => {
      const {x: xs, y: ys} = standardised(layer), colours = Ranvier.colours(), m = plot.margin;
      const half = 1.12 * Math.max(...xs.map(Math.abs), ...ys.map(Math.abs), 0.1);
      const wide = half * (plot.width - m.left - m.right) / (plot.height - m.top - m.bottom);  // one scale for both axes
      const c = plot.begin(wide > half ? [-wide, wide] : [-half, half], wide > half ? [-half, half] : [-half * half / wide, half * half / wide]);
      const unit = (plot.x(1) - plot.x(0)) * 1.1 / Math.sqrt(xs.length);
      xs.forEach((x, i) => {
        c.beginPath();
        c.arc(plot.x(x), plot.y(ys[i]), Math.max(1.5, unit * Math.sqrt(layer.size[i])), 0, 7);
        c.fillStyle = `color-mix(in srgb, ${colours.first} ${Math.round(100 * layer.myelin[i])}%, ${colours.second})`;
        c.globalAlpha = 0.85;
        c.fill();
      });
      c.globalAlpha = 1;
      plot.end();
    });

  // PINN: the five tabs of the seed project's dashboard, and the four that it promised.
  const pinnTabs = {
    Overview: (run) => {
      const s = run.summary || {};
      return [cards([["neuron", s.neuron], ["parameters of a network", s.parameters], ["networks", s.networks], ["spikes found", s.spikes],
        ["spikes of the reference", s.reference_spikes], ["training time, s", shown(s.seconds)], ["v RMSE away from spikes, mV", shown(s.v_rmse_mv)]]),
      chart("The network's v against the reference", "t (ms)", "v (mV)", overlay(run, "v_mv"), dashedReference),
      s.failure ? element("p", {class: "words alarm"}, s.failure) : null];
    },
    Training: (run) => [chart("Mean squared residual of each window while it is trained", "iteration (accepted windows)", "loss", {loss: [run.loss.iteration || [], run.loss.loss || []]}, {log: true, floor: 1e-30}),
      cards([["iterations", run.loss.iteration && run.loss.iteration.length ? last(run.loss.iteration) + 1 : 0], ["final mean loss", shown((run.summary || {}).loss)],
        ["fresh over training residual, worst", shown((run.summary || {}).residual_fresh_over_training)]])],
    Accuracy: (run) => {
      const s = run.summary || {};
      return [cards([["v RMSE, mV", shown(s.v_rmse_mv)], ["v mean error, mV", shown(s.v_mae_mv)], ["v largest error, mV", shown(s.v_max_mv)], ["u RMSE, " + unitOfU(run), shown(s.u_rmse)],
        ["largest spike-time error, ms", shown(s.spike_error_ms)], ["spikes, of the reference", `${shown(s.spikes)} of ${shown(s.reference_spikes)}`]]),
      element("p", {class: "words"}, "Errors of v and u are taken away from spikes: on an upstroke the smallest shift in time is a large error of v.")];
    },
    Neuronal: (run) => {
      const spikes = run.spikes.spike_ms || [], v = (run.solution.v_mv || []).filter((x) => x !== null);
      const isi = spikes.slice(1).map((t, i) => t - spikes[i]), mean = isi.length ? isi.reduce((a, b) => a + b) / isi.length : null;
      return [cards([["spikes", spikes.length], ["mean interval, ms", shown(mean)], ["lowest v, mV", v.length ? shown(Math.min(...v)) : null], ["highest v, mV", v.length ? shown(Math.max(...v)) : null]]),
        chart("Membrane potential", "t (ms)", "v (mV)", {v: solved(run, "v_mv")}), chart("Recovery variable", "t (ms)", `u (${unitOfU(run)})`, {u: solved(run, "u")}),
        spikes.length ? table(["spike", "time, ms", "interval, ms"], spikes.slice(0, 60).map((t, i) => [i + 1, t.toFixed(6), i ? shown(isi[i - 1], 7) : ""])) : null];
    },
    Performance: (run) => {
      const s = run.summary || {};
      return [cards([["training time, s", shown(s.seconds)], ["processor time, s", shown(s.cpu_seconds)], ["evaluations of the equations", s.evaluations],
        ["one evaluation of the solution, us", shown(s.inference_us)], ["reached, ms", shown(s.reached_ms)], ["of, ms", shown(s.duration_ms)]]),
      element("p", {class: "words"}, `Design ${s.design || "unknown"}, quality ${s.quality || "unknown"}, current ${s.current || "unknown"}.`)];
    },
    "Network and reference": (run) => [chart("The network's v against the reference", "t (ms)", "v (mV)", overlay(run, "v_mv"), dashedReference),
      chart("The network's u against the reference", "t (ms)", `u (${unitOfU(run)})`, overlay(run, "u"), dashedReference)],
    Error: (run) => [chart("Error of v over time", "t (ms)", "|error of v| (mV)", {error: [run.error.t_ms || [], run.error.v_error_mv || []]}, {log: true})],
    Residual: (run) => [chart("What is left of v' = f(v, u, I)", "t (ms)", "|v' less f| (mV/ms)", {"v' less f": solved(run, "residual_v")}, {log: true}),
      chart("What is left of u' = g(v, u)", "t (ms)", "|u' less g| (of u, a ms)", {"u' less g": solved(run, "residual_u")}, {log: true})],
    "Phase plane": (run) => [phase(run)],
  };

  const unitOfU = (run) => (((run.summary || {}).neuron || (run.summary || {}).preset || "").includes("2007") ? "pA" : "of the form of 2003");
  const solved = (run, key) => [run.solution.t_ms || [], run.solution[key] || []];
  const dashedReference = {more: {series: {reference: {strokePattern: [7, 5]}}}};
  const overlay = (run, key) => {
    const series = {network: solved(run, key)};
    if (run.reference.t_ms) series.reference = [run.reference.t_ms, run.reference[key]];
    return series;
  };

  /// Network and reference over each other; no line along a reset.
  const phase = (run) => {
    const traces = [run.solution, run.reference].filter((trace) => trace.v_mv && trace.v_mv.length);
    if (!traces.length) return element("p", {class: "words"}, "Phase plane: nothing was written yet.");
    const range = (key) => {
      let a = Infinity, b = -Infinity;
      for (const trace of traces) for (const x of trace[key]) if (x !== null) { a = Math.min(a, x); b = Math.max(b, x); }
      const room = 0.05 * (b - a) + 1e-9;
      return [a - room, b + room];
    };
    const title = "Phase plane: u over v, the network's (blue)" + (traces.length > 1 ? " and the reference's (orange, dashed)" : "");
    return plotted(title, 380, {xLabel: "v (mV)", yLabel: () => `u (${unitOfU(run)})`}, (plot) => {
      const c = plot.begin(range("v_mv"), range("u")), colours = Ranvier.colours();
      traces.forEach(({v_mv: v, u}, k) => {
        c.strokeStyle = [colours.first, colours.second][k];
        c.setLineDash(k ? [5, 4] : []);
        c.lineWidth = k ? 1.2 : 1.8;
        c.beginPath();
        for (let i = 0; i < v.length; ++i) {
          const jump = i > 0 && v[i - 1] - v[i] > 40;
          if (i === 0 || jump) c.moveTo(plot.x(v[i]), plot.y(u[i])); else c.lineTo(plot.x(v[i]), plot.y(u[i]));
        }
        c.stroke();
      });
      c.setLineDash([]);
      plot.end();
    });
  };

  const tabbed = (tabs, run, chosen, choose) => {
    const body = element("div");
    const turn = (event, i) => {  // arrow keys go from tab to tab
      const to = {ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: buttons.length - 1}[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = buttons[(to + buttons.length) % buttons.length];
      select(next.textContent);
      next.focus();
    };
    const buttons = Object.keys(tabs).map((name, i) => element("button", {type: "button", role: "tab", onclick: () => select(name), onkeydown: (event) => turn(event, i)}, name));
    const select = (name) => {
      for (const b of buttons) { b.setAttribute("aria-selected", b.textContent === name); b.tabIndex = b.textContent === name ? 0 : -1; }
      body.replaceChildren(...tabs[name](run).filter((x) => x !== null));
      if (choose) choose(name);
    };
    select(chosen in tabs ? chosen : Object.keys(tabs)[0]);
    return [element("div", {class: "tabs", role: "tablist"}, buttons), body];
  };

  /// Means with intervals of one metric, arm by arm.
  const forest = (rows, metric) => {
    const own = rows.filter((row) => row.metric === metric);
    const title = `${metric.replaceAll("_", " ")}: bar is the mean, line its standard deviation, dots the seeds`;
    return plotted(title, 60 + 34 * own.length, {xLabel: metric.replaceAll("_", " ") + (metric.includes("accuracy") ? " (share of images)" : ""), yLabel: () => "arm", yTicks: () => []}, (plot) => {
      const values = own.flatMap((row) => row.values || [row.mean]).filter(Number.isFinite);
      if (!values.length) return;
      const low = Math.min(...values), high = Math.max(...values), room = 0.1 * (high - low) + 1e-6;
      const c = plot.begin([low - room, high + room], [0, own.length]);
      own.forEach((row, i) => {
        const y = plot.y(own.length - i - 0.5), colours = Ranvier.colours();
        c.fillStyle = colours.soft;
        for (const value of row.values || []) { c.globalAlpha = 0.5; c.beginPath(); c.arc(plot.x(value), y, 3, 0, 7); c.fill(); }
        c.globalAlpha = 1;
        c.strokeStyle = c.fillStyle = colours.first;
        c.lineWidth = 2;
        if (Number.isFinite(row.sd)) { c.beginPath(); c.moveTo(plot.x(row.mean - row.sd), y); c.lineTo(plot.x(row.mean + row.sd), y); c.stroke(); }
        c.fillRect(plot.x(row.mean) - 3, y - 6, 6, 12);
        c.fillStyle = colours.ink;
        c.textAlign = "left";
        c.fillText(row.arm, plot.margin.left + 6, y - 9);
      });
      plot.end();
    });
  };

  const study = (run) => {
    const r = run.report;
    const done = element("p", {class: "words"}, `${run.finished.length} trainings are finished.`);
    if (!r) return [done, element("p", {class: "words"}, "The study has no report.json yet: it comes when its last training is over.")];
    const rows = r.rows, metrics = [...new Set(rows.map((row) => row.metric))], number = (x) => (x === undefined || x === null ? "" : shown(x));
    const interval = (row) => (row.ci_low === undefined || row.ci_low === null ? "" : `${shown(row.ci_low)} to ${shown(row.ci_high)}`);
    const parts = [element("p", {}, element("b", {}, r.claim_stands ? "The claim stands." : "The claim does not stand."),
      r.not_beaten && r.not_beaten.length ? ` Not beaten: ${r.not_beaten.join(", ")}.` : ""), done, forest(rows, metrics[0])];
    parts.push(table(["metric", "arm", "seeds", "mean", "s.d.", "treatment less arm", "interval", "p"], rows.map((row) =>
      [row.metric.replaceAll("_", " "), row.arm, row.seeds, number(row.mean), number(row.sd), number(row.diff), interval(row), number(row.p)])));
    if (r.text) parts.push(element("details", {}, element("summary", {}, "report.md"), element("pre", {class: "scroll"}, r.text)));
    return parts;
  };

  const simulation = (run) => {
    const s = run.summary || {};
    const parts = [cards([["preset", s.preset || s.network], ["solver", s.solver || "none"], ["mode", s.mode], ["neurons", s.neurons], ["spikes", s.spikes], ["mean rate, Hz", shown(s.mean_rate_hz)]])];
    if (run.trace) parts.push(chart("Membrane potential", "t (ms)", "v (mV)", {v: [run.trace.t_ms, run.trace.v_mv]}), chart("Recovery variable", "t (ms)", `u (${unitOfU(run)})`, {u: [run.trace.t_ms, run.trace.u]}));
    else if (run.spikes && run.spikes.time_ms) parts.push(chart("Spikes (thinned)", "t (ms)", "neuron", {spikes: [run.spikes.time_ms, run.spikes.neuron]}, {points: true, more: {strokeWidth: 0}}));
    return parts;
  };

  Ranvier.charts = {
    age, chart,
    /// Everything of one run below its title.
    run(run, tab, choose) {
      const body = run.kind === "training" ? training(run) : run.kind === "pinn" ? tabbed(pinnTabs, run, tab, choose) : run.kind === "study" ? study(run) : simulation(run);
      return element("article", {"data-run": run.name, "data-kind": run.kind}, element("h2", {}, `${run.name}: ${run.kind}, ${age(run)}`),
        run.problems.map((what) => element("p", {class: "words alarm"}, what)), ...body.flat(2).filter((x) => x !== null));
    },
    /// Curves of several trainings over each other.
    overlay(runs) {
      return element("article", {}, element("h2", {}, "Side by side"), ...trainingCurves(runs));
    },
    clear() { while (charts.length) charts.pop().destroy(); },
  };
})();
