// The neuron in space: soma, dendrites, an axon with myelin and nodes, end branches, and a pulse for every spike.
"use strict";

(() => {
  const holder = document.getElementById("space"), words = document.getElementById("space-words");
  const button = document.getElementById("space-pause");
  let renderer;
  try {
    renderer = new THREE.WebGLRenderer({antialias: true, alpha: true});
  } catch (_) {
    words.textContent = "The neuron in space needs WebGL, which this browser does not offer; all else works.";
    holder.hidden = button.hidden = true;
    return;
  }
  const internodes = 7, pulseLimit = 40;
  const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(32, 3, 0.1, 100), body = new THREE.Group();
  scene.add(body, new THREE.HemisphereLight(0xffffff, 0x667078, 0.75));
  const sun = new THREE.DirectionalLight(0xffffff, 0.7);
  sun.position.set(2, 5, 6);
  scene.add(sun);
  camera.position.set(0, 0, 15);
  body.position.x = 0.7;  // dendrites reach further than end branches
  holder.append(renderer.domElement);
  renderer.domElement.style.display = "block";
  let lost = false;
  renderer.domElement.addEventListener("webglcontextlost", () => { lost = true; say(); });
  renderer.domElement.addEventListener("webglcontextrestored", () => { lost = false; asked = true; say(); });

  // A fixed sequence, so that every page grows the same neuron.
  let seed = 7;
  const random = () => { seed = (seed * 16807) % 2147483647; return seed / 2147483647; };
  const vector = (x, y, z) => new THREE.Vector3(x, y, z);
  const material = (colour) => new THREE.MeshLambertMaterial({color: colour});
  const cell = material(0x8fa9b5), sheath = material(0xe8e2d2), bare = material(0xd55e00), glow = new THREE.MeshBasicMaterial({color: 0x56b4e9});

  const tube = (points, radius, what, segments = 12) => {
    const made = new THREE.Mesh(new THREE.TubeBufferGeometry(new THREE.CatmullRomCurve3(points), segments, radius, 7), what);
    body.add(made);
    return made;
  };

  /// A branch that splits in two until it is thin.
  const branch = (from, direction, length, radius, depth) => {
    const bend = vector(random() - 0.5, random() - 0.5, random() - 0.5).multiplyScalar(0.35 * length);
    const end = from.clone().addScaledVector(direction, length);
    tube([from, from.clone().lerp(end, 0.5).add(bend.multiplyScalar(0.5)), end], radius, cell, 8);
    if (depth === 0) return [end];
    const tips = [];
    for (const side of [-1, 1]) {
      const turned = direction.clone().applyAxisAngle(vector(0, 0, 1), side * (0.35 + 0.3 * random()))
        .applyAxisAngle(vector(0, 1, 0), 0.7 * (random() - 0.5)).normalize();
      tips.push(...branch(end, turned, length * 0.72, radius * 0.66, depth - 1));
    }
    return tips;
  };

  const soma = new THREE.Mesh(new THREE.SphereBufferGeometry(0.72, 28, 20), material(0x8fa9b5));
  soma.position.set(-4.6, 0, 0);
  soma.scale.set(1.08, 1, 0.95);
  body.add(soma);
  for (const angle of [1.1, 1.75, 2.5, 3.14, 3.8, 4.5, 5.15]) {
    const direction = vector(Math.cos(angle), Math.sin(angle), 0.6 * (random() - 0.5)).normalize();
    branch(soma.position.clone().addScaledVector(direction, 0.6), direction, 0.75, 0.13, 2);
  }

  const axon = new THREE.CatmullRomCurve3([vector(-4, 0, 0), vector(-2.6, -0.25, 0.2), vector(-0.6, 0.2, -0.1), vector(1.6, -0.2, 0.15), vector(3.6, 0.1, 0)]);
  tube(axon.getPoints(40), 0.085, cell, 60);
  const nodes = [], myelins = [];
  for (let i = 0; i <= internodes; ++i) nodes.push(0.05 + 0.9 * i / internodes);
  nodes.forEach((at, i) => {
    const node = new THREE.Mesh(new THREE.SphereBufferGeometry(0.11, 12, 10), bare);
    node.position.copy(axon.getPointAt(at));
    body.add(node);
    if (i === internodes) return;
    const points = [];
    for (let j = 0; j <= 8; ++j) points.push(axon.getPointAt(at + (0.03 + (0.84 * j) / 8 + 0.05) * 0.9 / internodes));
    myelins.push({points, mesh: null});
  });
  const tips = [];
  for (const turn of [-0.65, 0, 0.65])
    tips.push(...branch(axon.getPointAt(1), vector(Math.cos(turn), Math.sin(turn), 0.3 * (random() - 0.5)).normalize(), 0.7, 0.06, 1));
  for (const tip of tips) {
    const bouton = new THREE.Mesh(new THREE.SphereBufferGeometry(0.11, 10, 8), cell);
    bouton.position.copy(tip);
    body.add(bouton);
  }

  let share = -1;
  const myelin = (value) => {
    if (value === share) return;
    share = value;
    for (const segment of myelins) {
      if (segment.mesh) { body.remove(segment.mesh); segment.mesh.geometry.dispose(); segment.mesh = null; }
      if (value > 0.02) segment.mesh = tube(segment.points, 0.1 + 0.16 * value, sheath, 10);
    }
    asked = true;
  };

  // A pulse rests at a node and then jumps; the more myelin, the shorter the whole way takes.
  const pulses = [], geometry = new THREE.SphereBufferGeometry(0.17, 12, 10);
  const way = (pulse, now) => {
    const seconds = 2.4 - 1.9 * share, at = Math.max(0, now - pulse.start) / 1000 / seconds;
    if (at >= 1.12) return null;
    if (at >= 1) return axon.getPointAt(1).lerp(tips[pulse.tip], (at - 1) / 0.12);
    const hop = at * internodes, n = Math.floor(hop), rest = 1 - 0.25 - 0.75 * (1 - share);
    const jump = Math.max(0, (hop - n - rest) / (1 - rest));  // without myelin it creeps
    return axon.getPointAt(Math.min(1, nodes[n] + jump * (nodes[n + 1] - nodes[n])));
  };

  let asked = true, paused = Ranvier.kept("space") === "paused", lastDrawn = 0, left = 0;
  let yaw = 0.12, pitch = 0.1;
  const say = () => {
    button.setAttribute("aria-pressed", paused);
    button.textContent = paused ? "Go on in 3-D" : "Pause 3-D";
    words.textContent = lost ? "the browser took the 3-D view away (it allows a few at a time); all else works" : paused ? "3-D is paused; the neuron runs on" :
      left ? `one pulse for each spike of solver A (${left} were too many to show)` : "one pulse for each spike of solver A; drag or arrow keys turn it";
  };
  button.addEventListener("click", () => { paused = !paused; Ranvier.keep("space", paused ? "paused" : "runs"); asked = true; say(); });

  const resize = () => {
    const w = Math.max(1, holder.clientWidth), h = Math.max(1, holder.clientHeight);
    renderer.setPixelRatio(Math.min(1.5, devicePixelRatio || 1));
    renderer.setSize(w, h);
    camera.aspect = w / h;
    camera.position.z = Math.max(10, 6.6 / (Math.tan(camera.fov * Math.PI / 360) * camera.aspect));
    camera.updateProjectionMatrix();
    asked = true;
  };
  new ResizeObserver(resize).observe(holder);

  let dragged = null;
  holder.addEventListener("pointerdown", (event) => { dragged = [event.clientX, event.clientY]; holder.setPointerCapture(event.pointerId); });
  holder.addEventListener("pointerup", () => { dragged = null; });
  holder.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    yaw += (event.clientX - dragged[0]) / 150;
    pitch = Math.max(-1.4, Math.min(1.4, pitch + (event.clientY - dragged[1]) / 150));
    dragged = [event.clientX, event.clientY];
    asked = true;
  });
  holder.addEventListener("keydown", (event) => {
    const turn = {ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12]}[event.key];
    if (!turn) return;
    event.preventDefault();
    yaw += turn[0];
    pitch = Math.max(-1.4, Math.min(1.4, pitch + turn[1]));
    asked = true;
  });

  const tick = (now) => {
    requestAnimationFrame(tick);
    if (Ranvier.link.view !== "neuron" || lost) return;
    if ((paused && !asked) || now - lastDrawn < 30) return;
    if (!paused && !asked && pulses.length === 0) return;
    lastDrawn = now;
    asked = false;
    for (let i = pulses.length - 1; i >= 0; --i) {
      const at = way(pulses[i], now);
      if (at) { pulses[i].mesh.position.copy(at); continue; }
      body.remove(pulses[i].mesh);
      pulses.splice(i, 1);
    }
    body.rotation.set(pitch, yaw, 0);
    renderer.render(scene, camera);
  };

  let shownV = -60;
  Ranvier.space = {
    myelin,
    pulses: () => pulses.length,
    /// So many spikes have come since the last frame.
    fire(count) {
      if (paused) return;
      const now = performance.now();
      for (let i = 0; i < count; ++i) {
        if (pulses.length >= pulseLimit) { left += 1; continue; }
        const mesh = new THREE.Mesh(geometry, glow);
        body.add(mesh);
        pulses.push({mesh, start: now - i, tip: Math.floor(random() * tips.length)});
      }
      if (left) say();
    },
    potential(v) {
      const heat = Math.max(0, Math.min(1, (v + 75) / 90));
      soma.material.color.setRGB(0.5 + 0.36 * heat, 0.64 - 0.2 * heat, 0.7 - 0.55 * heat);
      if (Math.abs(v - shownV) > 1.5) { shownV = v; asked = true; }
    },
  };
  const state = Ranvier.neuron.state();
  myelin(state ? state.values["neuron.myelin"] : 0.8);
  resize();
  say();
  requestAnimationFrame(tick);
})();
