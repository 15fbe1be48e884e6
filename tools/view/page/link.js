// The connection to the program: frames and states in, commands out, and what is said of it in words.
"use strict";

Ranvier.link = {
  socket: null, state: "connecting", controls: {}, states: {}, waiting: new Map(), nextId: 1, view: "none",
  onWelcome: [], onState: [], onFrame: [], onAnswer: [], onLink: [],
  skipped: 0, sequence: null, tries: 0,
};

(() => {
  const link = Ranvier.link;
  const tell = (list, ...values) => { for (const listener of list) listener(...values); };
  const say = (state) => { link.state = state; tell(link.onLink, state); };

  link.open = () => {
    say(link.tries === 0 ? "connecting" : "lost");
    const socket = new WebSocket("ws://" + location.host + "/ws");
    socket.binaryType = "arraybuffer";
    link.socket = socket;
    socket.onopen = () => { link.tries = 0; };
    socket.onmessage = (event) => {
      if (typeof event.data === "string") return read(JSON.parse(event.data));
      const frame = Ranvier.readFrame(event.data);
      socket.send(JSON.stringify({ack: frame.sequence}));
      frame.gap = link.sequence !== null && frame.sequence !== link.sequence + 1;
      if (frame.gap) link.skipped += 1;
      link.sequence = frame.sequence;
      tell(link.onFrame, frame);
    };
    socket.onclose = (event) => {
      link.waiting.clear();
      link.sequence = null;
      if (event.code === 1001) return say("ended");
      link.tries += 1;
      say("lost");
      setTimeout(link.open, Math.min(5000, 250 * 2 ** link.tries));
    };
  };

  const read = (message) => {
    if (message.welcome) {
      for (const control of message.controls) link.controls[control.name] = control;
      tell(link.onWelcome, message.controls);
      say("connected");
      link.watch(link.view);
    } else if (message.view) {
      link.states[message.view] = message;
      tell(link.onState, message);
    } else if (message.id !== undefined) {
      const asked = link.waiting.get(message.id) || {};
      link.waiting.delete(message.id);
      tell(link.onAnswer, message, asked);
    }
  };

  const send = (message) => {
    if (!link.socket || link.socket.readyState !== 1) return false;
    link.socket.send(JSON.stringify(message));
    return true;
  };
  const command = (message, name, moment) => {
    message.id = link.nextId++;
    if (send(message)) link.waiting.set(message.id, {name, moment: moment || performance.now()});
    return message.id;
  };
  link.set = (name, value, moment) => command({set: name, value}, name, moment);
  link.do = (name) => command({do: name}, name);
  link.watch = (view) => { link.view = view; link.sequence = null; send({watch: view}); };
  link.isWaiting = (name) => [...link.waiting.values()].some((asked) => asked.name === name);
})();
