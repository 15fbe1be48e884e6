// Plots on 2-D canvases that are redrawn many times a second: axes with units, lines, marks.
"use strict";

/// A canvas with axes. draw() callbacks get x(value), y(value) in pixels.
Ranvier.Plot = class {
  constructor(canvas, options) {
    this.canvas = canvas;
    this.options = options;  // xLabel, yLabel
    this.context = canvas.getContext("2d");
    this.margin = {left: 58, right: 16, top: 8, bottom: 34};
    new ResizeObserver(() => { this.resize(); if (this.onResize) this.onResize(); }).observe(canvas);
    this.resize();
  }

  resize() {
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.width = Math.max(40, this.canvas.clientWidth);
    this.height = Math.max(40, this.canvas.clientHeight);
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /// Round numbers that cut [low, high] into about `count` parts.
  static ticks(low, high, count) {
    const raw = (high - low) / Math.max(1, count), power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw) || power;
    const list = [];
    for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; ++i) list.push(Number((i * step).toPrecision(12)));
    return list;
  }

  /// A tick in full: seconds into a long run, times differ in their last digits.
  static tick(value) { return Math.abs(value) >= 1e4 ? String(value) : Ranvier.shown(value, 7); }

  /// Clears and draws the axes over these ranges.
  begin(xRange, yRange) {
    const c = this.context, colours = Ranvier.colours(), m = this.margin;
    const w = this.width - m.left - m.right, h = this.height - m.top - m.bottom;
    this.x = (value) => m.left + (value - xRange[0]) / (xRange[1] - xRange[0]) * w;
    this.y = (value) => m.top + h - (value - yRange[0]) / (yRange[1] - yRange[0]) * h;
    c.fillStyle = colours.card;
    c.fillRect(0, 0, this.width, this.height);
    c.font = "12px system-ui, sans-serif";
    c.lineWidth = 1;
    c.strokeStyle = colours.grid;
    c.fillStyle = colours.soft;
    c.beginPath();
    c.textAlign = "center";
    const xs = (this.options.xTicks || ((a, b) => Ranvier.Plot.ticks(a, b, w / 90)))(...xRange);
    for (const value of xs) {
      const at = Math.round(this.x(value)) + 0.5;
      c.moveTo(at, m.top); c.lineTo(at, m.top + h);
      c.fillText((this.options.xWords || Ranvier.Plot.tick)(value), at, m.top + h + 14);
    }
    c.textAlign = "right";
    for (const value of (this.options.yTicks || ((a, b) => Ranvier.Plot.ticks(a, b, h / 30)))(...yRange)) {
      const at = Math.round(this.y(value)) + 0.5;
      c.moveTo(m.left, at); c.lineTo(m.left + w, at);
      c.fillText(Ranvier.shown(value), m.left - 5, at + 4);
    }
    c.stroke();
    c.fillStyle = colours.ink;
    c.textAlign = "center";
    c.fillText(this.options.xLabel, m.left + w / 2, this.height - 5);
    c.save();
    c.translate(12, m.top + h / 2);
    c.rotate(-Math.PI / 2);
    c.fillText(this.options.yLabel(), 0, 0);
    c.restore();
    c.save();
    c.beginPath();
    c.rect(m.left, m.top, w, h);
    c.clip();
    return c;
  }

  end() { this.context.restore(); }

  /// Bars of counts over equal parts of the x range.
  bars(counts, xRange, colour) {
    const c = this.context, width = (xRange[1] - xRange[0]) / counts.length;
    c.fillStyle = colour;
    for (let i = 0; i < counts.length; ++i) {
      const left = this.x(xRange[0] + i * width), right = this.x(xRange[0] + (i + 1) * width);
      const top = this.y(counts[i]);
      c.fillRect(left + 0.5, top, Math.max(1, right - left - 1), this.y(0) - top);
    }
  }
};
