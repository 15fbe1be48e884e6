// Reads the binary frames; their layout is documented in tools/view/frames.h.
"use strict";

Ranvier.readFrame = (buffer) => {
  const view = new DataView(buffer);
  const u32 = (at) => view.getUint32(at, true), f64 = (at) => view.getFloat64(at, true);
  if (buffer.byteLength < 48 || u32(0) !== 0x01564e52) throw new Error("a frame of another version: reload the page");
  const frame = {kind: u32(4), sequence: u32(8), revision: u32(12), time: f64(16), speed: f64(24), current: f64(40),
    running: (u32(32) & 1) !== 0, ended: (u32(32) & 2) !== 0, restarted: (u32(32) & 4) !== 0, parts: []};
  let at = 48;
  const doubles = (n) => { const a = new Float64Array(buffer, at, n); at += 8 * n; return a; };
  const floats = (n) => { const a = new Float32Array(buffer, at, n); at += 4 * n; return a; };
  const words = (n) => { const a = new Uint32Array(buffer, at, n); at += 4 * n; return a; };
  for (let part = 0; part < u32(36); ++part) {
    const p = at;
    if (frame.kind === 1) {
      const lane = {time: f64(p), v: f64(p + 8), u: f64(p + 16), vMin: f64(p + 24), vMax: f64(p + 32), vPeak: f64(p + 40),
        c: f64(p + 48), spikeCount: u32(p + 56), diverged: (u32(p + 60) & 1) !== 0, base: f64(p + 64)};
      const n = u32(p + 72), m = u32(p + 76);
      at = p + 88;
      Object.assign(lane, {spikes: doubles(m), offset: floats(n), vs: floats(n), us: floats(n)});
      frame.parts.push(lane);
    } else {
      const part = {base: f64(p), neurons: u32(p + 8), fired: u32(p + 16), binWidth: f64(p + 32), meanRate: f64(p + 40),
        highRate: f64(p + 48), lowInterval: f64(p + 56), highInterval: f64(p + 64), spikeCount: f64(p + 72),
        load: f64(p + 80), excitatory: u32(p + 88)};
      const m = u32(p + 12), s = u32(p + 20), r = u32(p + 24), h = u32(p + 28);
      at = p + 104;
      Object.assign(part, {rate: floats(r), rateCounts: words(h), intervalCounts: words(h), offset: floats(m), neuron: words(m)});
      part.sheet = new Uint8Array(buffer, at, s);
      at += s;
      frame.parts.push(part);
    }
    at = Math.ceil(at / 8) * 8;
  }
  return frame;
};
