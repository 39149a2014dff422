// ---------------------------------------------------------------- the page
// Shows what the workers send: a panel for each seed.

const page = JSON.parse(part.data.textContent);
const images = bytesOf(page.images);
const labels = [...page.labels].map(Number);
const originals = page.picked.flatMap(i => [...images.subarray(196 * i, 196 * (i + 1))]);
const ROUND = 60;  // epochs, after which training pauses by itself
let settings, target = 0, seed = 1, panels = [], isOn = false;
let isHeld = false;  // whether the reader wants a pause

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
  const panel = { root, canvas, worker, seed: number, history: [] };
  canvas.seed.textContent = `Seed ${number}`;
  worker.onmessage = ({ data }) => receive(panel, data);
  worker.onerror = () =>
    part.failure.textContent = "The worker that trains has stopped: reload the page.";
  worker.postMessage({ start: { images, shown: labels.length, picked: page.picked,
    seed: number, settings } });
  part.panels.append(root);
  return panel;
}

function receive(panel, state) {
  if (!Number.isFinite(state.reconstruction)) return pause("Training diverged (the loss "
    + "is not a number): start again with a smaller learning rate.");
  panel.state = state;
  panel.history.push([state.epoch, state.reconstruction, state.kl]);
  drawGrid(panel.canvas.plane, state.plane, 14);
  drawGrid(panel.canvas.samples, state.samples, 5);
  drawGrid(panel.canvas.pairs, [...originals, ...state.decoded], 5);
  drawMap(panel);
  drawCurves(panel);
  describe(panel);
  if (settings.warm) showBeta(state.beta);
  if (isOn && panels.every(({ state }) => state?.epoch >= target))
    pause(`Paused after ${Math.round(target)} epochs.`);
  panel.worker.postMessage({ drawn: true });
  pace();
}

function describe({ canvas, state, seed }) {
  const { epoch, reconstruction, kl, spread, noise } = state;
  const sds = `sd of the codes ${inWords(spread)}`
    + (settings.noisy ? `, of the noise ${inWords(noise)}` : "");
  canvas.numbers.textContent = `epoch ${epoch.toFixed(epoch < 10 ? 1 : 0)}`;
  canvas.sds.textContent = sds;
  canvas.reconstruction.textContent = `${reconstruction.toFixed(1)} nats`;
  canvas.kl.textContent = `${kl.toFixed(1)} nats`;
  canvas.map.setAttribute("aria-label", `Map of codes, seed ${seed}: ${sds}`);
}

// ---------------------------------------------------------------- drawing

function drawGrid(canvas, values, columns) {  // images of 14 × 14, in rows, at once
  const { width, height } = canvas, image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), step = Math.ceil(width / columns);
  values.forEach((value, at) => {
    const i = Math.floor(at / 196), row = Math.floor(at % 196 / 14);
    const x = i % columns * step + at % 14, y = Math.floor(i / columns) * step + row;
    pixels[y * width + x] = 0xff000000 + 0x010101 * value;  // opaque and grey
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// A curve, from epoch 0 to 20 or to the last, between the values `low` and `high`.
function drawCurve(figure, rows, low, high) {
  const last = Math.max(20, rows.at(-1)[0]);
  const y = value => Math.max(0, 100 * (high - value) / (high - low));  // the first is above
  const points = rows.map(([epoch, value]) => [100 * epoch / last, y(value)]);
  const [svg, ...texts] = figure.querySelectorAll("svg, i");
  svg.querySelector("polyline").setAttribute("points", points.join(" "));
  svg.querySelector(".floor")?.setAttribute("d", `M 0 ${y(page.floor)} H 100`);
  [high, low, last].forEach((value, k) => texts[k].textContent = Math.round(value));
}
function drawCurves({ canvas, history }) {
  const kls = history.map(row => [row[0], row[2]]);
  drawCurve(canvas.errors, history, 50, 110);
  drawCurve(canvas.kls, kls, 0, Math.max(6, ...kls.map(([, kl]) => kl)));
  canvas.kls.hidden = !settings.noisy && settings.beta === 0;
}

function drawMap({ state, canvas: { map } }) {
  const { means, sds, draws, half } = state, size = map.clientWidth;
  const unit = size / (2 * half), x = u => size / 2 + unit * u;
  const y = v => size / 2 - unit * v, scale = size < 250 ? 0.75 : 1;
  const context = map.getContext("2d");
  map.width = map.height = Math.round(size * ratio());  // as sharp as the screen
  context.scale(ratio(), ratio());
  const paint = (draw, colour, width) => {  // filled, or lines of this width
    context.beginPath();
    draw();
    context.fillStyle = context.strokeStyle = colour;
    context.lineWidth = width;
    width ? context.stroke() : context.fill();
  };
  for (const sd of [1, 2, 3])
    paint(() => circle(context, x(0), y(0), sd * unit), style.soft, 1);
  const own = page.classes.map((_, label) => labels.flatMap((l, i) =>
    l === label ? [[x(means[2 * i]), y(means[2 * i + 1])]] : []));
  own.forEach((points, label) => paint(() => points.forEach(([x, y]) =>
    circle(context, x, y, 3 * scale)), COLOURS[label]));
  paint(() => {
    for (let i = 0; i < 20; i += 2)  // the ten draws
      cross(context, x(draws[i]), y(draws[i + 1]), 4);
    for (const i of page.picked) {  // the five garments, with their noise: two sd
      const a = x(means[2 * i]), b = y(means[2 * i + 1]);
      circle(context, a, b, 5);
      if (!settings.noisy) continue;
      const radii = [2 * i, 2 * i + 1].map(k => 2 * unit * Math.min(sds[k], 99));
      context.moveTo(a + radii[0], b);
      context.ellipse(a, b, ...radii, 0, 0, 2 * Math.PI);
    }
  }, style.ink, 1.5);
  const prior = { name: "N(0, I)", x: x(0), y: y(-3) + 9 };
  writeNames(context, [prior, ...page.classes.map((name, label) => {
    const [x, y] = [0, 1].map(k => median(own[label].map(point => point[k])));
    return { name, x, y };
  })], size, scale);
}

// ---------------------------------------------------------------- controls

function send(message) {
  panels.forEach(({ worker }) => worker.postMessage(message));
}
function pace() {  // no seed runs ahead of another, and none when nobody looks
  const slowest = Math.min(...panels.map(({ state }) => state?.epoch ?? 0));
  send({ until: isOn && !document.hidden ? Math.min(target, slowest + 1) : 0 });
}
function go(epochs = ROUND) {
  const done = Math.max(0, ...panels.map(({ state }) => state?.epoch ?? 0));
  target = Math.round(done) + epochs;
  isOn = true;
  isHeld = false;
  part.status.textContent = "";
  part.go.textContent = "Pause";
  pace();
}
function pause(message) {
  isOn = false;
  part.status.textContent = message;
  part.go.textContent = "Go on";
  pace();
}
function restart() {
  panels.forEach(({ worker, root }) => (worker.terminate(), root.remove()));
  part.panels.classList.toggle("two", part.two.checked);
  panels = [makePanel(seed)];
  if (part.two.checked) panels.push(makePanel(seed + 1));
  part.failure.textContent = "";
  go();
}
function showBeta(beta) {
  part.beta.value = placeOf(beta);
  part["beta-value"].textContent = inWords(beta);
  part.beta.setAttribute("aria-valuetext", inWords(beta));
}
const lossOf = ({ dataset: { beta, noisy, warm = 0 } }) =>  // of a preset
  ({ beta: Number(beta), noisy: noisy === "yes", warm: Number(warm) });
function tell() {  // which loss it is
  const { beta, noisy, warm } = settings, same = presets.find(preset =>
    Object.entries(lossOf(preset)).every(([name, value]) => settings[name] === value));
  presets.forEach(preset => preset.checked = preset === same);
  part.sentence.textContent = same?.dataset.sentence
    ?? `Your own loss: ${noisy ? "with" : "without"} noise, β = ${inWords(beta)}.`;
  part.noisy.checked = noisy;
  showBeta(warm ? 0 : beta);
}
function choose(preset) {
  part.rate.value = "0.003";
  settings = { ...lossOf(preset), rate: 0.003, pause: calm.matches ? 1000 : 60 };
  tell();
  restart();
}
function change(own) {  // live
  Object.assign(settings, own);
  send({ settings });
  if (!isOn && !isHeld) go();
}
function changeLoss(own) {
  change({ warm: 0, ...own });
  tell();
}

const presets = [...document.querySelectorAll("[name=preset]")];
for (const preset of presets) preset.onchange = () => {
  history.replaceState(null, "", `#${preset.value}`);
  choose(preset);
};
part.go.onclick = () => {
  isHeld = isOn;
  if (isOn) pause("Paused.");
  else go();
};
part.one.onclick = () => {
  go(1);
  isHeld = true;
};
part.again.onclick = restart;
part.fresh.onclick = () => {
  seed += panels.length;
  restart();
};
part.two.onchange = restart;
part.noisy.onchange = () => changeLoss({ noisy: part.noisy.checked });
part.beta.oninput = () => changeLoss({ beta: betaAt(Number(part.beta.value)) });
part.rate.onchange = () => change({ rate: Number(part.rate.value) });
document.onvisibilitychange = pace;

function restyle() {
  readStyle();
  panels.filter(({ state }) => state).forEach(drawMap);
}
matchMedia("(prefers-color-scheme: dark)").onchange = onresize = restyle;
readStyle();
part.code.textContent = [losses, gradients, step].join("\n\n");
part.everything.hidden = false;
choose(presets.find(({ value }) => value === location.hash.slice(1)) ?? presets[0]);
if (calm.matches) {
  isHeld = true;
  pause("Paused: press Go on to start.");
}
