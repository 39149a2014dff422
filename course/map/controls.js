// ---------------------------------------------------------------- controls
// Everything that a reader touches changes `state` and asks for a frame.

const number = (value, digits = 2) =>  // with a minus sign, and without "-0.00"
  (value < -0.5 * 10 ** -digits ? "\u2212" : "") + Math.abs(value).toFixed(digits);
const large = part.picture.getContext("2d");
const pad = part.pad.getContext("2d");
const restored = part.reconstruction.getContext("2d");
const small = document.createElement("canvas").getContext("2d");  // the pad's pixels
small.canvas.width = small.canvas.height = 28;
const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
let sliders = [], waiting = false, news = "", timer;

function frame() {
  waiting = false;
  if (state.isNew) encodeImage();
  grey(large, decode(state.model, state.z));
  paint();
  if (part["sliders-view"].open) for (const { i, input, value } of sliders) {
    input.value = state.z[i];
    value.textContent = number(state.z[i]);
    input.setAttribute("aria-valuetext", number(state.z[i]));
  }
}
function change() {  // at most one frame at a time; words follow when the hand rests
  if (!waiting) requestAnimationFrame(frame);
  waiting = true;
  clearTimeout(timer);
  timer = setTimeout(say, 300);
}
function say() {
  const at = state.point.map(value => number(value, 1)).join(", ");
  const { bound, logVar } = state.measured, words = inWords(state.z);
  const cost = `${logVar ? "\u2212ELBO" : "reconstruction"} ${number(bound, 1)} nats`;
  const picked = news && `${news}, ${cost}. `;
  part.status.textContent = state.isOff
    ? `${picked}Off the map; its nearest place is ${at}. The code is ${words}.`
    : `${picked}At ${at}, ${words}.`;
  part["picture-title"].textContent = state.isOff ? "Decoded here (a code off this map)"
    : "Decoded here";
  part.picture.setAttribute("aria-label",
    `The decoded garment. ${part.status.textContent}`);
}
function setCode(z) {
  state.z = Float32Array.from(z);
  state.point = toPlane(state.model, state.z);
  state.isOff = offPlane(state.model, state.z) > 0.02 * state.model.half;
  news = part.copied.textContent = "";
  change();
}
function setPoint(point) {
  const { middle, half } = state.model;
  setCode(fromPlane(state.model, point.map((value, k) =>
    Math.min(Math.max(value, middle[k] - half), middle[k] + half))));
}

// ---- models and sliders

function choose(model) {
  cancelAnimationFrame(film);
  Object.assign(state, { model, path: [], posterior: null });
  part.film.hidden = true;
  part.models.querySelectorAll("input")[page.models.indexOf(model)].checked = true;
  part.map.setAttribute("aria-label", `Map of codes: ${model.name}`);
  const { dataset } = document.documentElement;  // which sentences the style shows
  dataset.kind = model.unit === "nats" ? "vae" : "autoencoder";
  dataset.plane = model.dimensions > 2 ? "many" : "two";
  part.dimensions.textContent = model.dimensions;
  part.explained.textContent = `${(100 * model.explained).toFixed(0)}%`;
  part["draw-count"].textContent = model.noise.length / model.dimensions;
  makeSliders();
  if (!model.tiles) decodePlane(model);
  encodeImage();
  setCode(state.measured.mean);
  paintGround();
}

function makeSliders() {
  const { use, unit, codes, scale } = state.model;
  const reach = Math.max(3, Math.ceil(scale * codes.reduce((a, b) => Math.max(a, Math.abs(b)))));
  part.rows.replaceChildren();
  sliders = [...use.keys()].sort((a, b) => use[b] - use[a]).map(i => {
    const row = document.createElement("div"), isInactive = !(use[i] > page.threshold);
    row.className = isInactive ? "row inactive" : "row";
    row.innerHTML = `<label for="z${i}">Dimension ${i}</label>
      <small id="use${i}">${isInactive ? "inactive" : `${number(use[i])} ${unit}`}</small>
      <input type="range" id="z${i}" step="0.05" aria-describedby="use${i}"
        min="${-reach}" max="${reach}">
      <span class="value" aria-hidden="true"></span>`;
    part.rows.append(row);
    const input = row.querySelector("input");
    input.oninput = () => setCode(state.z.with(i, Number(input.value)));
    return { i, input, value: row.lastElementChild };
  });
}
part["sliders-view"].ontoggle = change;
part.zero.onclick = () => setCode(new Float32Array(state.model.dimensions));
part.plane.onchange = paintGround;

// ---- draws

// Codes decoded side by side on a canvas, `across` in each row.
function drawStrip(canvas, codes, model, across = 10) {
  const context = canvas.getContext("2d");
  context.fillStyle = style.paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  codes.forEach((z, k) => grey(context, decode(model, z), 30 * (k % across) + 1,
    30 * Math.floor(k / across) + 1));
}

// The same twenty draws for all models: of each, a code takes the first numbers.
part.twenty.onclick = () => {
  const longest = Math.max(...page.models.map(model => model.dimensions));
  const draws = Array.from({ length: 20 }, () =>
    Float32Array.from({ length: longest }, normal));
  part.strips.replaceChildren(...page.models.map(model => {
    const codes = draws.map(z => z.slice(0, model.dimensions));
    const figure = document.createElement("figure");
    figure.innerHTML = `<canvas width="300" height="60" role="img"
      aria-label="Twenty draws: ${model.name}"></canvas>
      <figcaption>${model.name}</figcaption>`;
    drawStrip(figure.firstChild, codes, model);
    if (model === state.model) state.draws = codes;
    return figure;
  }));
  part["draws-note"].hidden = false;
  change();
};
part.cloud.onclick = () => {
  const { mean, logVar } = state.measured;
  state.draws = Array.from({ length: 10 }, () =>
    mean.map((value, i) => value + Math.exp(logVar[i] / 2) * normal()));
  part["cloud-strip"].hidden = false;
  drawStrip(part["cloud-strip"], state.draws, state.model);
  change();
};

// ---- an address for what is shown: #model=vae2&image=3&z=1.00,-0.50

const nameOf = model => (model.unit === "nats" ? "vae" : "ae") + model.dimensions;
function addressOf() {
  const z = Array.from(state.z, value => value.toFixed(2));
  return `#model=${nameOf(state.model)}&image=${state.picked}&z=${z}`;
}
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const model = page.models.find(model => nameOf(model) === given.get("model"));
  if (!model) return;
  if (given.get("image") in page.labels) state.picked = Number(given.get("image"));
  takePicked();
  choose(model);
  const z = (given.get("z") ?? "").split(",").map(Number);
  if (z.length !== model.dimensions || !z.every(isFinite)) return;
  setCode(z);
  state.moves = false;
}
part.link.onclick = async () => {
  history.replaceState(null, "", addressOf());
  const copy = navigator.clipboard?.writeText(location.href);
  const isCopied = await copy?.then(() => true, () => false);
  part.copied.textContent = isCopied ? "Copied." : "The link is in the address bar.";
};

// ---- the ring moves by itself: around a boot, a bag and a dress until the first touch,
// and along a path that was drawn

let film;  // the next frame
function along(stops, t) {  // the point after a fraction t of the way
  const last = stops.length - 1, at = t * last, i = Math.min(Math.floor(at), last - 1);
  return stops[i].map((value, k) => value + (at - i) * (stops[i + 1][k] - value));
}
function play(stops, milliseconds, isEndless) {
  const begin = performance.now();
  cancelAnimationFrame(film);
  const step = now => {
    const t = Math.max(now - begin, 0) / milliseconds;
    if (isEndless || t < 1) film = requestAnimationFrame(step);
    setPoint(along(stops, isEndless ? t % 1 : Math.min(t, 1)));
  };
  film = requestAnimationFrame(step);
}
for (const kind of ["pointerdown", "keydown"])
  document.addEventListener(kind, () => {
    cancelAnimationFrame(film);
    if (state.moves) change();
    state.moves = false;
  }, { capture: true });

function startPath(point) {
  setPoint(point);
  state.path = [state.point];
  part.film.hidden = true;
}
function extendPath(point) {  // by a step that is long enough to be seen
  setPoint(point);
  if (apart(state.point, state.path.at(-1)) > state.model.half / 50)
    state.path.push(state.point);
}
function endPath() {
  const { model, path } = state;
  part.film.hidden = path.length < 2;
  if (part.film.hidden) return;
  drawStrip(part.reel, Array.from({ length: 12 }, (_, k) =>
    fromPlane(model, along(path, k / 11))), model, 6);
  if (calm.matches) setPoint(path.at(-1));
  else part.play.click();
}
function endDrawing() {  // where the hand is
  if (state.path.length > 1) state.path.push(state.point);
  endPath();
}
part.path.onchange = () => startPath(state.point);
part.play.onclick = () => {
  part.status.textContent = "The ring follows the path.";
  play(state.path, 4000);
};

// ---- the map under mouse, finger and keys

let pressed = null;  // where a finger or button went down
part.map.onpointerdown = event => {
  pressed = event;
  part.map.setPointerCapture(event.pointerId);
  (part.path.checked ? startPath : setPoint)(pointAt(event));
};
part.map.onpointermove = event => {
  if (pressed) (part.path.checked ? extendPath : setPoint)(pointAt(event));
};
part.map.onpointerup = event => {
  const way = Math.hypot(event.clientX - pressed?.clientX, event.clientY - pressed?.clientY);
  if (part.path.checked) endDrawing();
  else if (way < 8) pick(pointAt(event), 40 * state.model.half / part.map.clientWidth);
  pressed = null;
};
part.map.onpointercancel = () => pressed = null;
part.map.onkeydown = event => {
  const way = WAYS[event.key], step = state.model.half / (event.shiftKey ? 8 : 40);
  if (way && !part.film.hidden) startPath(state.point);
  const move = part.path.checked ? extendPath : setPoint;
  if (way) move(state.point.map((value, k) => value + step * way[k]));
  else if (!["Enter", " "].includes(event.key)) return;
  else if (part.path.checked) endDrawing();
  else pick(state.point);
  event.preventDefault();
};
function pick(point, reach = Infinity) {  // the nearest garment, if it is so near
  const [[distance, i]] = nearest(state.model.points, point, 1);
  if (distance > reach) return;
  state.picked = i;
  restore();
  setCode(state.measured.mean);
  news = `Picked: ${page.classes[page.labels[i]]}`;
}
function takePicked() {
  state.image = picture(state.picked);
  part.erase.checked = false;
  part.picked.textContent = `${page.classes[page.labels[state.picked]]}, from the map`;
}
function restore() {
  takePicked();
  encodeImage();
  news = "";
  change();
}
part.restore.onclick = restore;

// ---- the image that is encoded

function encodeImage() {
  const { model, image } = state, measured = state.measured = measure(model, image);
  state.isNew = false;
  state.draws = [];
  part["cloud-strip"].hidden = true;
  grey(restored, decode(model, measured.mean));
  paintPad();
  const excess = measured.bound - measured.entropy;
  for (const name of ["reconstruction", "kl", "bound", "entropy"])
    part[`${name}-nats`].textContent = number(measured[name], 1);
  part["excess-nats"].textContent = number(excess, 1);
  const below = model.excess.filter(value => value < excess).length;
  part.below.textContent = `${Math.min(below, 100)}%`;
  part["posterior-note"].textContent = "Computing the true posterior \u2026";
  askForPosterior();
}
// The true posterior: only for a VAE with two dimensions, by the worker. It gets one
// image at a time, and the next one if that has changed when the answer comes.
const worker = new Worker(URL.createObjectURL(new Blob([part.arithmetic.textContent])));
let asked = null;  // the model and the `measured` of the image that the worker has
function askForPosterior() {
  const { model, image, measured } = state;
  if (asked || model.unit !== "nats" || model.dimensions !== 2) return;
  asked = { model, measured };
  worker.postMessage({ model: page.models.indexOf(model), image });
}
worker.onmessage = ({ data }) => {
  const { model, measured } = asked, { bound } = measured, { logEvidence } = data;
  asked = null;
  if (model === state.model) {
    state.posterior = data;
    paintZoom();
    change();
  }
  if (measured !== state.measured) askForPosterior();
  else part["posterior-note"].textContent = `\u2212log p(x) ${number(-logEvidence, 1)}, `
    + `\u2212ELBO ${number(bound, 1)}, encoder gap ${number(bound + logEvidence, 1)} nats.`;
};
worker.onerror = () => part["posterior-note"].textContent =
  "The true posterior cannot be computed here: open this page by itself.";

let cursor = [14, 14];  // where the keys draw on the pad
function paintPad() {
  grey(small, state.image);
  pad.imageSmoothingEnabled = false;
  pad.drawImage(small.canvas, 0, 0, 196, 196);
  if (document.activeElement !== part.pad) return;
  pad.strokeStyle = "#ffa90e";
  pad.lineWidth = 2;
  pad.strokeRect(7 * cursor[0] - 1, 7 * cursor[1] - 1, 9, 9);
}
function stroke(point) {  // a soft round brush around a pixel
  const [x, y] = cursor = point, { image } = state;
  for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, 27); row++)
    for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, 27); column++) {
      const i = 28 * row + column, ink = [1, 0.6, 0.3][(row !== y) + (column !== x)];
      image[i] = part.erase.checked ? Math.min(image[i], 1 - ink) : Math.max(image[i], ink);
    }
  drawn("drawn here");
}
function drawn(words) {  // encoded once a frame, however fast the hand is
  part.picked.textContent = words;
  news = "Your image";
  state.isNew = true;
  paintPad();
  change();
}
const onPad = values => values.map(value => Math.min(Math.max(value, 0), 27));
const pixelAt = event => {
  const box = part.pad.getBoundingClientRect();
  return onPad([Math.floor(28 * (event.clientX - box.left) / box.width),
    Math.floor(28 * (event.clientY - box.top) / box.height)]);
};
part.pad.onpointerdown = event => stroke(pixelAt(event));
part.pad.onpointermove = event => {  // a line from the last pixel
  if (!event.buttons) return;
  const from = cursor, way = pixelAt(event).map((value, i) => value - from[i]);
  const steps = Math.max(...way.map(Math.abs), 1);
  for (let k = 1; k <= steps; k++)
    stroke(from.map((value, i) => Math.round(value + k / steps * way[i])));
};
part.pad.onkeydown = event => {
  const way = WAYS[event.key];
  if (way) cursor = onPad([cursor[0] + way[0], cursor[1] - way[1]]);
  if (way) paintPad();
  else if (event.key === " ") stroke(cursor);
  else return;
  part.cursor.textContent = `Row ${cursor[1] + 1}, column ${cursor[0] + 1}`
    + (way ? "." : part.erase.checked ? ", erased." : ", drawn.");
  event.preventDefault();
};
part.pad.onfocus = part.pad.onblur = paintPad;
part.empty.onclick = () => {
  part.erase.checked = false;
  state.image = new Float32Array(784);
  drawn("empty: draw a garment on it, with mouse or finger");
};

// ---- the start

function resize() {
  const size = Math.round(part.map.clientWidth * ratio());
  if (!size || size === part.map.width) return;
  part.map.width = part.map.height = ground.width = ground.height = size;
  paintGround();
}
function restyle() {
  readStyle();
  paintGround();
  if (state.posterior) paintZoom();
}

// In a frame: a notebook that is in a frame itself (Colab, Kaggle, VS Code) may refuse
// new tabs. A frame in a notebook has no address, so the new tab gets a copy of the page.
// Where it may, the frame is made as high as the page, so that the wheel scrolls what is
// around it.
function embed() {
  document.documentElement.classList.add("embedded");
  if (window.parent === window.top) {
    const copy = new Blob(["<!doctype html>", document.documentElement.outerHTML],
      { type: "text/html" });
    part.alone.href =
      location.protocol === "about:" ? URL.createObjectURL(copy) : location.href;
    part.alone.hidden = false;
  }
  new ResizeObserver(() => {
    const height = Math.ceil(document.body.getBoundingClientRect().bottom + scrollY);
    if (window.frameElement) window.frameElement.style.height = `${height}px`;
  }).observe(document.body);
}

async function start() {
  page = await unpack(JSON.parse(part.model.textContent));
  for (const model of page.models) {
    model.garments = Array.from(page.labels, (_, i) => codeOf(model, i));
    model.points = model.garments.map(z => toPlane(model, z));
    model.origin = toPlane(model, new Float32Array(model.dimensions));
    model.middles = page.classes.map((_, label) => [0, 1].map(k => median(
      model.points.filter((_, i) => page.labels[i] === label).map(point => point[k]))));
    const label = document.createElement("label");
    label.innerHTML = `<input type="radio" name="model"><span>${model.name}</span>`;
    label.firstChild.onchange = () => choose(model);
    part.models.append(label);
  }
  worker.postMessage({ all: page.models.map(({ decoder, middle, half }) =>
    ({ decoder, middle, half })) });
  readStyle();
  part.everything.hidden = false;
  part.loading.hidden = true;
  part.link.hidden = !/^(http|file)/.test(location.protocol);
  const isEmbedded = window !== window.parent;
  if (isEmbedded) embed();
  if (innerWidth < 900 || isEmbedded) part.encoded.open = false;
  state.moves = !calm.matches;
  state.picked = page.labels.indexOf(9);
  takePicked();
  choose(page.models[0]);
  if (state.moves) play([9, 8, 3, 9].map(label => state.model.middles[label]), 12000, true);
  readAddress();
  new ResizeObserver(resize).observe(part.map);
  matchMedia("(prefers-color-scheme: dark)").onchange = restyle;
  onhashchange = readAddress;
  onmessage = ({ data }) => {  // the theme of the page around
    if (!["light", "dark"].includes(data?.theme)) return;
    document.documentElement.dataset.theme = data.theme;
    restyle();
  };
  window.explorer = { page, state, decode, addressOf };
}
start().catch(error => {
  part.failure.textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old for the page: update it and reload the page."
    : `The page could not start (${error.message}): download or make it again.`;
  throw error;
});
