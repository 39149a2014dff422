// ---------------------------------------------------------------- 2 of 2: the page
// Shows what the workers send: a panel for each seed.

const part = {};
document.querySelectorAll("[id]").forEach(element => part[element.id] = element);
const page = JSON.parse(part.data.textContent);
const images = Uint8Array.from(atob(page.images), letter => letter.charCodeAt());
const labels = [...page.labels].map(Number);
const COLOURS = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59",
  "#e76300", "#b9ac70", "#717581", "#92dadd"];  // petroff10, as in the chapters
const ROUND = 60;  // epochs, after which training pauses by itself
const WARM = 20;  // epochs of the warm-up
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

const PRESETS = {
  "vae": ["VAE", { noisy: true, beta: 1 }, `Noise and KL together: the codes spread
    like N(0, I) and fill it, so what is decoded from N(0, I) looks like garments.`],
  "autoencoder": ["Autoencoder", { noisy: false, beta: 0 }, `No noise and no KL: the
    codes spread as they like. N(0, I) covers a small part of the map, and most draws
    from it are dim smudges.`],
  "noise": ["Noise alone", { noisy: true, beta: 0 }, `Without KL the noise is evaded:
    codes move far apart, and the noise around each becomes too small to matter.`],
  "kl": ["KL alone", { noisy: false, beta: 1 }, `Without noise KL is evaded: the codes
    crowd near 0, where it is small, and most draws from N(0, I) fall outside them.`],
  "averaged": ["Averaged over pixels", { noisy: true, beta: 196 }, `The error averaged
    over the image's 196 pixels, not summed: the same as β = 196 (at 28 × 28, 784).
    The code is ignored, and every image is the same blur.`],
  "warm-up": ["KL warm-up", { noisy: true, beta: 1, warm: WARM }, `β rises from 0 to 1
    over ${WARM} epochs: the codes spread out first, and are then drawn in to N(0, I). In
    chapter 06 this keeps all ten dimensions in use; here both are in use anyway.`],
};
let settings, target = 0, seed = 1, panels = [], isOn = false, style;

// The slider's places: 0, then 1/128 to 8 in quarters of a power of two.
const betaAt = place => place ? 2 ** ((place - 29) / 4) : 0;
const placeOf = beta =>
  beta ? Math.max(1, Math.min(41, Math.round(29 + 4 * Math.log2(beta)))) : 0;
const inWords = value => String(Number(value.toPrecision(value < 99 ? 2 : 3)));

// ---------------------------------------------------------------- a panel

function makePanel(number) {
  const root = part.panel.content.cloneNode(true).firstElementChild, canvas = {};
  root.querySelectorAll("[data-part]").forEach(e => canvas[e.dataset.part] = e);
  const worker = new Worker(URL.createObjectURL(new Blob([part.learner.textContent])));
  const panel = { root, canvas, worker, seed: number, history: [], half: 3.3 };
  canvas.seed.textContent = `Seed ${number}`;
  worker.onmessage = ({ data }) => receive(panel, data);
  worker.onerror = () => fail("The worker that trains has stopped: reload the page.");
  worker.postMessage({ start: { images, shown: labels.length, picked: page.picked,
    seed: number, settings } });
  part.panels.append(root);
  return panel;
}

function receive(panel, state) {
  if (!Number.isFinite(state.reconstruction)) {
    pause("Training diverged (the loss is not a number): start again with a smaller "
      + "learning rate.");
    return;
  }
  panel.shown ??= state.means.slice();
  panel.state = state;
  panel.history.push([state.epoch, state.reconstruction, state.kl]);
  drawImages(panel);
  drawCurves(panel);
  describe(panel);
  if (settings.warm) showBeta(state.beta);
  if (isOn && panels.every(({ state }) => state && state.epoch >= target))
    pause(`Paused after ${Math.round(target)} epochs.`);
  panel.worker.postMessage({ drawn: true });
  wake();
}

const usesKl = () => settings.noisy || settings.beta > 0;
function describe({ canvas, state, seed }) {
  const { epoch, reconstruction, kl, spread, noise } = state;
  const sds = `sd of the codes ${inWords(spread)}`
    + (settings.noisy ? `, of the noise ${inWords(noise)}` : "");
  canvas.numbers.textContent = `epoch ${epoch.toFixed(epoch < 10 ? 1 : 0)}`;
  canvas.sds.textContent = sds;
  canvas.reconstruction.textContent = `${reconstruction.toFixed(1)} nats`;
  canvas.kl.textContent = usesKl() ? `${kl.toFixed(1)} nats` : "not used";
  canvas.map.setAttribute("aria-label", `Map of codes, seed ${seed}: ${sds}`);
}

// ---------------------------------------------------------------- drawing

function sharp(canvas) {  // as many pixels as the screen has
  const ratio = devicePixelRatio || 1, width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height)
    Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  return [context, canvas.clientWidth, canvas.clientHeight];
}

function drawGrid(canvas, bytes, columns, from = 0) {  // images of 14 × 14, in rows
  const context = canvas.getContext("2d"), pixels = context.createImageData(14, 14);
  for (let i = 0; i < bytes.length / 196; i++) {
    for (let j = 0; j < 196; j++)
      pixels.data.fill(bytes[196 * i + j], 4 * j, 4 * j + 3)[4 * j + 3] = 255;
    const place = from + i, step = Math.ceil(canvas.width / columns);
    context.putImageData(pixels, place % columns * step,
      Math.floor(place / columns) * step);
  }
}
function drawImages({ canvas, state }) {
  drawGrid(canvas.plane, state.plane, 14);
  drawGrid(canvas.samples, state.samples, 5);
  const originals = page.picked.map(i => images.subarray(196 * i, 196 * (i + 1)));
  originals.forEach((image, i) => drawGrid(canvas.pairs, image, 5, i));
  drawGrid(canvas.pairs, state.decoded, 5, 5);
}

function drawCurves({ canvas, history }) {
  drawCurve(canvas.errors, history.map(row => [row[0], row[1]]), 50, 110);
  const kls = usesKl() ? history.map(row => [row[0], row[2]]) : [];
  drawCurve(canvas.kls, kls, 0, Math.max(6, ...kls.map(row => Math.ceil(row[1]))));
}
function drawCurve(canvas, rows, low, high) {
  const [context, width, height] = sharp(canvas), left = 30, bottom = height - 18;
  const last = Math.max(20, rows.at(-1)?.[0] ?? 0);
  const x = epoch => left + (width - left - 4) * epoch / last;
  const y = value => bottom - (bottom - 8) * (value - low) / (high - low);
  const across = value => {
    context.moveTo(left, y(value));
    context.lineTo(width, y(value));
  };
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "right";
  context.fillStyle = style.soft;
  context.strokeStyle = style.line;
  context.beginPath();
  for (const value of [low, high]) {
    across(value);
    context.fillText(value, left - 4, y(value) + 4);
  }
  context.stroke();
  context.fillText(`epoch ${Math.round(last)}`, width, height - 3);
  if (low) {  // the reconstruction has a floor
    context.fillText(`floor: pixels' entropy, ${page.floor.toFixed(1)}`, width,
      y(page.floor) - 4);
    context.beginPath();
    across(page.floor);
    context.setLineDash([4, 4]);
    context.strokeStyle = style.soft;
    context.stroke();
    context.setLineDash([]);
  }
  context.beginPath();  // the first values may be above the rest
  rows.forEach(row => context.lineTo(x(row[0]), Math.max(0, y(row[1]))));
  context.strokeStyle = style.mark;
  context.lineWidth = 2;
  context.stroke();
}

function write(context, text, x, y) {  // with a halo
  context.lineJoin = "round";
  context.lineWidth = 4;
  context.strokeStyle = style.paper;
  context.strokeText(text, x, y);
  context.fillStyle = style.ink;
  context.fillText(text, x, y);
}

function drawMap(panel) {
  const { state, shown, half } = panel, [context, size] = sharp(panel.canvas.map);
  const unit = size / (2 * half), x = u => size / 2 + unit * u;
  const y = v => size / 2 - unit * v;
  context.lineWidth = 1;
  context.strokeStyle = style.soft;
  for (const sd of [1, 2, 3]) {
    context.beginPath();
    context.arc(x(0), y(0), sd * unit, 0, 2 * Math.PI);
    context.stroke();
  }
  const circle = (u, v, radius) => {
    context.moveTo(x(u) + radius, y(v));
    context.arc(x(u), y(v), radius, 0, 2 * Math.PI);
  };
  page.classes.forEach((_, label) => {
    context.beginPath();
    labels.forEach((l, i) => {
      if (l === label) circle(shown[2 * i], shown[2 * i + 1], size < 250 ? 2 : 3);
    });
    context.fillStyle = COLOURS[label];
    context.fill();
  });
  context.strokeStyle = style.ink;
  context.lineWidth = 1.5;
  context.beginPath();
  for (let i = 0; i < 20; i += 2) {  // the ten draws
    const [a, b] = [x(state.draws[i]), y(state.draws[i + 1])];
    context.moveTo(a - 4, b - 4);
    context.lineTo(a + 4, b + 4);
    context.moveTo(a - 4, b + 4);
    context.lineTo(a + 4, b - 4);
  }
  for (const i of page.picked) {  // the five garments, with their noise: two sd
    const [u, v] = [shown[2 * i], shown[2 * i + 1]];
    circle(u, v, 5);
    if (!settings.noisy) continue;
    const [a, b] = [2 * i, 2 * i + 1].map(k => 2 * unit * Math.min(state.sds[k], 99));
    context.moveTo(x(u) + a, y(v));
    context.ellipse(x(u), y(v), a, b, 0, 0, 2 * Math.PI);
  }
  context.stroke();
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  write(context, "N(0, I)", x(0), y(-3) + (unit * 3 > size / 2 - 24 ? -9 : 9));
  drawNames(panel, context, size, x, y);
}

function drawNames(panel, context, size, x, y) {  // at each class's centre, apart
  context.font = `600 ${size < 250 ? 10 : 13}px system-ui, sans-serif`;
  const height = size < 250 ? 12 : 16;
  const names = page.classes.map((name, label) => {
    const own = labels.flatMap((l, i) => l === label ? [i] : []);
    const middle = k => own.map(i => panel.shown[2 * i + k])
      .sort((a, b) => a - b)[own.length >> 1];
    return { name, width: context.measureText(name).width + 6,
      x: x(middle(0)), y: y(middle(1)) };
  });
  for (let round = 0; round < 40; round++)
    names.forEach((a, i) => names.slice(0, i).forEach(b => {
      const overlap = height - Math.abs(a.y - b.y);
      if (overlap <= 0 || Math.abs(a.x - b.x) >= (a.width + b.width) / 2) return;
      const up = a.y < b.y ? 1 : -1;
      a.y -= up * overlap / 2;
      b.y += up * overlap / 2;
    }));
  for (const { name, width, x, y } of names)
    write(context, name, Math.max(width / 2, Math.min(size - width / 2, x)),
      Math.max(height / 2, Math.min(size - height / 2, y)));
}

let frame;
function wake() {
  frame ??= requestAnimationFrame(animate);
}
function animate() {  // codes glide to where the worker has them
  frame = undefined;
  let moving = false;
  for (const panel of panels.filter(({ state }) => state)) {
    const { state: { means, half }, shown } = panel, part = calm.matches ? 1 : 0.15;
    for (let i = 0; i < shown.length; i++) {
      const way = means[i] - shown[i];
      shown[i] += part * way;
      moving ||= Math.abs(way) > 0.002 * half;
    }
    panel.half += part * (half - panel.half);
    drawMap(panel);
  }
  if (moving) wake();
}

// ---------------------------------------------------------------- controls

function send(message) {
  panels.forEach(({ worker }) => worker.postMessage(message));
}
function fail(message) {
  part.failure.textContent = message;
}
function go(epochs = ROUND) {
  const done = Math.max(0, ...panels.map(({ state }) => state?.epoch ?? 0));
  target = Math.round(done) + epochs;
  isOn = true;
  part.status.textContent = "";
  part.go.textContent = "Pause";
  send({ until: target });
}
function pause(message = "Paused.") {
  isOn = false;
  part.status.textContent = message;
  part.go.textContent = "Go on";
  send({ until: 0 });
}
function restart(on = true) {
  panels.forEach(({ worker, root }) => (worker.terminate(), root.remove()));
  part.panels.classList.toggle("two", part.two.checked);
  panels = [];
  panels = part.two.checked ? [makePanel(seed), makePanel(seed + 1)] : [makePanel(seed)];
  fail("");
  if (on) go();
}
function showBeta(beta) {
  const text = inWords(beta) + (beta > 8 ? " (beyond the slider)" : "");
  part.beta.value = placeOf(beta);
  part.beta.setAttribute("aria-valuetext", text);
  part["beta-value"].textContent = text;
}
function choose(name, on = true) {
  const [, own, sentence] = PRESETS[name];
  settings = { warm: 0, ...own, rate: Number(part.rate.value),
    pause: calm.matches ? 1000 : 120 };
  document.querySelector(`[name=preset][value=${name}]`).checked = true;
  part.sentence.textContent = sentence;
  part.noisy.checked = settings.noisy;
  showBeta(settings.warm ? 0 : settings.beta);
  restart(on);
}
function change(own) {  // live
  Object.assign(settings, own);
  send({ settings });
  if (!isOn) go();
}
function changeLoss(own) {
  const chosen = document.querySelector("[name=preset]:checked");
  if (chosen) chosen.checked = false;
  change({ warm: 0, ...own });
  showBeta(settings.beta);
  part.sentence.textContent = `Your own: ${settings.noisy ? "with" : "without"} noise, `
    + `β = ${inWords(settings.beta)}, from here on.`;
}

for (const [value, [name]] of Object.entries(PRESETS)) {
  const label = document.createElement("label"), input = document.createElement("input");
  const text = document.createElement("span");
  Object.assign(input, { type: "radio", name: "preset", value });
  text.textContent = name;
  label.append(input, text);
  part.presets.append(label);
  input.onchange = () => {
    history.replaceState(null, "", `#${value}`);
    choose(value);
  };
}
part.go.onclick = () => isOn ? pause() : go();
part.one.onclick = () => go(1);
part.again.onclick = () => {
  seed += part.two.checked ? 2 : 1;
  restart();
};
part.two.onchange = () => restart();
part.noisy.onchange = () => changeLoss({ noisy: part.noisy.checked });
part.beta.oninput = () => changeLoss({ beta: betaAt(Number(part.beta.value)) });
part.rate.onchange = () => change({ rate: Number(part.rate.value) });
document.onvisibilitychange = () =>  // nothing is trained that nobody sees
  isOn && send({ until: document.hidden ? 0 : target });

function restyle() {
  const colours = getComputedStyle(document.documentElement);
  style = Object.fromEntries(["paper", "ink", "soft", "line", "mark"].map(name =>
    [name, colours.getPropertyValue(`--${name}`)]));
  for (const panel of panels.filter(({ state }) => state)) {
    drawMap(panel);
    drawCurves(panel);
  }
}
dark.onchange = onresize = restyle;
restyle();
part.code.textContent = [losses, gradients, step].join("\n\n");
part.everything.hidden = false;
const asked = location.hash.slice(1);
choose(asked in PRESETS ? asked : "vae", !calm.matches);
if (calm.matches) pause("Press Go on to start.");
