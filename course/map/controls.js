// ---------------------------------------------------------------- controls
// Everything that a reader touches changes `state` and asks for a frame.

const number = (value, digits = 2) =>  // with a minus sign, and without "-0.00"
  (value < -0.5 * 10 ** -digits ? "\u2212" : "") + Math.abs(value).toFixed(digits);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
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
  const at = state.point.map(value => number(value, 1)).join(", "), words = inWords(state.z);
  part.status.textContent = state.isOff
    ? `${news}Off the map; its nearest place is ${at}. The code is ${words}.`
    : `${news}At ${at}: ${words}${isGap(state.point) ? ", in a gap: few garments here" : ""}.`;
  news = "";
  part["picture-title"].textContent = state.isOff ? "Decoded here (a code off this map)"
    : "Decoded here";
  part.picture.setAttribute("aria-label",
    `The decoded garment. ${part.status.textContent}`);
}
function setCode(z) {
  state.z = Float32Array.from(z);
  state.point = toPlane(state.model, z);
  state.isOff = offPlane(state.model, state.z) > 0.02 * state.model.half;
  change();
}
function setPoint(point) {
  const { middle, half } = state.model;
  state.point = point.map((value, k) =>
    Math.min(Math.max(value, middle[k] - half), middle[k] + half));
  state.z = fromPlane(state.model, state.point);
  state.isOff = false;
  change();
}

// ---- models and views

function choose(model) {
  Object.assign(state, { model, path: [] });
  part.film.hidden = true;
  part.models.querySelectorAll("input")[page.models.indexOf(model)].checked = true;
  part.map.setAttribute("aria-label", `Map of codes: ${model.name}`);
  const { dataset } = document.documentElement;  // which sentences the style shows
  dataset.kind = model.unit === "nats" ? "vae" : "autoencoder";
  dataset.plane = model.dimensions > 2 ? "many" : "two";
  part.dimensions.textContent = model.dimensions;
  part.explained.textContent = `${(100 * model.explained).toFixed(0)}%`;
  part["gap-share"].textContent = `${(100 * model.gap_share).toFixed(0)}%`;
  part["draw-count"].textContent = model.noise.length / model.dimensions;
  makeSliders();
  if (part.plane.checked) decodePlane(model);
  paintGround();
  encodeImage();
  setCode(state.measured.mean);
}

function makeSliders() {
  const { use, unit, codes, scale, dimensions } = state.model;
  part.rows.replaceChildren();
  sliders = [...use.keys()].sort((a, b) => use[b] - use[a]).map(i => {
    const row = document.createElement("div"), isInactive = !(use[i] > page.threshold);
    const mark = isInactive ? "inactive"
      : unit === "nats" ? `${number(use[i])} nats` : `sd ${number(use[i])}`;
    const own = codes.filter((_, k) => k % dimensions === i);
    row.className = isInactive ? "row inactive" : "row";
    row.innerHTML = `<label for="z${i}">Dimension ${i}</label>
      <small id="use${i}">${mark}</small>
      <input type="range" id="z${i}" step="0.05" aria-describedby="use${i}"
        min="${Math.min(-3, Math.floor(scale * Math.min(...own)))}"
        max="${Math.max(3, Math.ceil(scale * Math.max(...own)))}">
      <span class="value" aria-hidden="true"></span>`;
    part.rows.append(row);
    const input = row.querySelector("input");
    input.oninput = () => setCode(state.z.with(i, Number(input.value)));
    return { i, input, value: row.lastElementChild };
  });
}
part["sliders-view"].ontoggle = change;
part.zero.onclick = () => setCode(new Float32Array(state.model.dimensions));
part.random.onclick = () => setCode(state.z.map(normal));

function interpolate() {
  const [a, b] = [part.from, part.to].map(list => codeOf(state.model, list.value));
  const t = part.way.value / 100;
  part.way.setAttribute("aria-valuetext", `${part.way.value} percent`);
  setCode(a.map((value, i) => value + t * (b[i] - value)));
}
part.from.oninput = part.to.oninput = part.way.oninput = interpolate;

part.plane.onchange = () => {
  if (part.plane.checked) decodePlane(state.model);
  paintGround();
};
part.density.onchange = () => {
  part["density-note"].hidden = !part.density.checked;
  paintGround();
};

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
    const inGaps = codes.filter(z => isGap(toPlane(model, z), model)).length;
    const figure = document.createElement("figure");
    figure.innerHTML = `<canvas width="300" height="60" role="img"
      aria-label="Twenty draws: ${model.name}"></canvas>
      <figcaption>${model.name}: ${inGaps} of 20 lie in gaps</figcaption>`;
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

// ---- an address for what is shown: #model=vae2&at=1.0,-0.5, or path=... or z=...

const nameOf = model => (model.unit === "nats" ? "vae" : "ae") + model.dimensions;
const asText = values => [...values].map(value => value.toFixed(2)).join(",");
const asNumbers = text => text.split(",").map(Number);
function addressOf() {
  const step = Math.ceil(state.path.length / 30);
  const stops = state.path.filter((_, i, { length }) =>
    i % step === 0 || i === length - 1);
  const place = stops.length > 1 ? `path=${stops.map(asText).join(";")}`
    : state.isOff ? `z=${asText(state.z)}` : `at=${asText(state.point)}`;
  return `${location.href.split("#")[0]}#model=${nameOf(state.model)}`
    + `&image=${state.picked}&${place}`;
}
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const model = page.models.find(model => nameOf(model) === given.get("model"));
  if (!model) return;
  const image = Number(given.get("image") ?? state.picked);
  if (image in page.labels) state.picked = image;
  takePicked();
  choose(model);
  const [at, z, path] = ["at", "z", "path"].map(name =>
    (given.get(name) ?? "").split(";").map(asNumbers));
  const has = (points, count) => points.every(values =>
    values.length === count && values.every(isFinite));
  if (has(at, 2)) setPoint(at[0]);
  else if (has(z, model.dimensions)) setCode(z[0]);
  else if (has(path, 2) && path.length > 1) {
    state.path = path;
    part.film.parentElement.open = true;
    endPath();
  } else return;
  state.moves = false;
}
part.link.onclick = async () => {
  const address = addressOf();
  try {
    await navigator.clipboard.writeText(address);
    part.copied.textContent = "Copied.";
  } catch {  // not allowed here: the address bar holds it
    history.replaceState(null, "", address);
    part.copied.textContent = "The link is in the address bar.";
  }
  setTimeout(() => part.copied.textContent = "", 3000);
};

// ---- until the first touch: around a boot, a bag and a dress

function moveAround(now) {
  if (!state.moves) return;
  const stops = [9, 8, 3].map(label => [0, 1].map(k => median(state.model.points
    .filter((_, i) => page.labels[i] === label).map(point => point[k]))));
  const turn = now / 4000 % 3, from = stops[Math.floor(turn)];
  const to = stops[(Math.floor(turn) + 1) % 3];
  const t = (1 - Math.cos(Math.PI * (turn % 1))) / 2;
  setPoint(from.map((value, k) => value + t * (to[k] - value)));
  requestAnimationFrame(moveAround);
}
function stopMoving() {
  if (state.moves) change();
  state.moves = false;
}
for (const kind of ["pointerdown", "keydown"])
  document.addEventListener(kind, stopMoving, { capture: true });

// ---- a path on the map, its film and its strip

function startPath(point) {
  setPoint(point);
  state.path = [state.point];
  part.film.hidden = true;
}
function extendPath(point) {
  setPoint(point);
  state.path.push(state.point);
}
function along(t) {  // the point after a fraction t of the path
  const { path } = state, at = t * (path.length - 1);
  const i = Math.min(Math.floor(at), path.length - 2);
  return path[i].map((value, k) => value + (at - i) * (path[i + 1][k] - value));
}
function endPath() {
  part.film.hidden = state.path.length < 2;
  if (part.film.hidden) return;
  drawStrip(part.reel, Array.from({ length: 12 }, (_, k) =>
    fromPlane(state.model, along(k / 11))), state.model, 6);
  setPoint(along(1));
  if (!calm.matches) play();
}
function play() {  // in four seconds; another path or move ends it
  const { path } = state, begin = performance.now();
  let last = state.point;
  const step = now => {
    if (state.path !== path || state.point !== last || !path.length) return;
    const t = Math.min(Math.max(now - begin, 0) / 4000, 1);
    setPoint(along(t));
    last = state.point;
    if (t < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}
part.path.onchange = () => startPath(state.point);
part.play.onclick = play;
part.save.onclick = () => {
  const context = document.createElement("canvas").getContext("2d");
  Object.assign(context.canvas, { width: 720, height: 240 });
  context.imageSmoothingEnabled = false;
  context.drawImage(part.reel, 0, 0, 720, 240);
  const href = context.canvas.toDataURL();
  Object.assign(document.createElement("a"), { href, download: "path.png" }).click();
};

// ---- the map under mouse, finger and keys

let pressed = null;  // where a finger or button went down
part.map.onpointerdown = event => {
  pressed = [event.clientX, event.clientY];
  part.map.setPointerCapture(event.pointerId);
  if (part.path.checked) startPath(pointAt(...pressed));
  else setPoint(pointAt(...pressed));
};
part.map.onpointermove = event => {
  const move = part.path.checked ? extendPath : setPoint;
  if (pressed) move(pointAt(event.clientX, event.clientY));
};
part.map.onpointerup = event => {
  const x = event.clientX, y = event.clientY;
  if (part.path.checked) endPath();
  else if (pressed && Math.hypot(x - pressed[0], y - pressed[1]) < 8)
    pick(pointAt(x, y), 40 * state.model.half / part.map.clientWidth);  // 20 pixels
  pressed = null;
};
part.map.onpointercancel = () => pressed = null;
part.map.onkeydown = event => {
  const way = WAYS[event.key], step = state.model.half / (event.shiftKey ? 8 : 40);
  if (way && !part.film.hidden) startPath(state.point);
  const move = part.path.checked ? extendPath : setPoint;
  if (way) move(state.point.map((value, k) => value + step * way[k]));
  else if (event.key !== "Enter") return;
  else if (part.path.checked) endPath();
  else pick(state.point);
  event.preventDefault();
};
function pick(point, reach = Infinity) {  // the nearest garment, if it is so near
  const [nearest] = nearestOnMap(point, 1);
  if (!nearest || nearest[0] > reach) return;
  state.picked = nearest[1];
  restore();
  setCode(state.measured.mean);
  news = `Picked: ${page.classes[page.labels[state.picked]]}. `;
}
function takePicked() {
  state.image = picture(state.picked);
  part.erase.checked = false;
  part.picked.textContent = `${page.classes[page.labels[state.picked]]}, from the map`;
}
function restore() {
  takePicked();
  encodeImage();
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
  const isVae = measured.logVar !== null, total = isVae ? "\u2212ELBO" : "reconstruction";
  const { reconstruction, kl, bound, entropy } = measured, excess = bound - entropy;
  const rows = isVae ? [["reconstruction", reconstruction], ["KL to N(0, I)", kl]] : [];
  rows.push([total, bound, true], ["entropy of the pixels", entropy],
    [`${total} minus entropy`, excess, true]);
  part.nats.innerHTML = rows.map(([name, value, isSum]) =>
    `<tr${isSum ? ' class="sum"' : ""}><th scope="row">${name}</th>
     <td>${number(value, 1)}</td></tr>`).join("");
  const below = model.excess.filter(value => value < excess).length;
  part.below.textContent = `${Math.min(below, 100)}%`;
  updatePosterior();
}

// The true posterior: only for a VAE with two dimensions, when its squares are computed.
const hasPosterior = model => model.unit === "nats" && model.dimensions === 2;
function updatePosterior() {
  const { model, image } = state;
  state.posterior = null;
  part["posterior-note"].textContent = "Computing the true posterior \u2026";
  if (!hasPosterior(model) || model.squares?.length !== COARSE ** 2) return;
  state.posterior = truePosterior(model, image);
  const { logEvidence, isExact } = state.posterior, { bound } = state.measured;
  paintZoom();
  part["posterior-note"].textContent = `\u2212log p(x) ${number(-logEvidence, 1)},
    \u2212ELBO ${number(bound, 1)}, encoder gap ${number(bound + logEvidence, 1)}
    nats${isExact ? "" : " (being refined)"}.`;
  if (!isExact) requestAnimationFrame(() => {
    if (state.model === model && state.image === image) updatePosterior();
    change();
  });
}
function fillInBackground(model) {
  if (!fillSquares(model, 8)) return setTimeout(() => fillInBackground(model), 4);
  if (state.model === model) updatePosterior();
  change();
}

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
  drawn();
}
function drawn() {  // encoded once a frame, however fast the hand is
  part.picked.textContent = "drawn here";
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
  drawn();
};

// ---- the start

function makeChoices() {
  for (const model of page.models) {
    const label = document.createElement("label");
    label.innerHTML = `<input type="radio" name="model"><span>${model.name}</span>`;
    label.firstChild.onchange = () => choose(model);
    part.models.append(label);
  }
  page.classes.forEach((name, label) => {
    const box = document.createElement("label");
    box.innerHTML = `<input type="checkbox" checked>
      <i style="background: ${COLOURS[label]}"></i>${name}`;
    box.firstChild.onchange = event => {
      state.hidden[event.target.checked ? "delete" : "add"](label);
      paintGround();
    };
    part.classes.append(box);
  });
  page.examples.forEach((i, k) => [part.from, part.to].forEach(list =>
    list.add(new Option(`${page.classes[page.labels[i]]} ${k % 2 + 1}`, i))));
  part.to.selectedIndex = Math.floor(page.examples.length / 2);
}
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

// A notebook that is in a frame itself (Colab, Kaggle, VS Code) may refuse new tabs. A
// frame in a notebook has no address, so the new tab gets a copy of the page.
const isEmbedded = window !== window.parent;
if (isEmbedded && window.parent === window.top) {
  const copy = new Blob(["<!doctype html>", document.documentElement.outerHTML],
    { type: "text/html" });
  part.alone.href =
    location.protocol === "about:" ? URL.createObjectURL(copy) : location.href;
  part.alone.hidden = false;
}

async function start() {
  page = await unpack(JSON.parse(part.model.textContent));
  for (const model of page.models) {
    model.points = Array.from(page.labels, (_, i) => toPlane(model, codeOf(model, i)));
    model.origin = toPlane(model, new Float32Array(model.dimensions));
    model.gapsAlong = Math.sqrt(model.gaps.length);
  }
  readStyle();
  makeChoices();
  part.everything.hidden = false;
  part.loading.hidden = true;
  part.images.textContent = page.images.toLocaleString("en");
  part.link.hidden = !/^(http|file)/.test(location.protocol);
  document.documentElement.classList.toggle("embedded", isEmbedded);
  if (innerWidth < 900 || isEmbedded) part.encoded.open = false;
  state.moves = !calm.matches;
  state.model = page.models[0];
  resize();
  state.picked = page.examples.at(-1);
  takePicked();
  choose(page.models[0]);
  readAddress();
  requestAnimationFrame(moveAround);
  const two = page.models.find(hasPosterior);
  if (two) setTimeout(() => fillInBackground(two), 1500);
  new ResizeObserver(resize).observe(part.map);
  matchMedia("(prefers-color-scheme: dark)").onchange = restyle;
  onhashchange = readAddress;
  onmessage = ({ data }) => {  // the theme of the page around
    if (!["light", "dark"].includes(data?.theme)) return;
    document.documentElement.dataset.theme = data.theme;
    restyle();
  };
  window.explorer = { page, state, decode, encode, measure, setPoint, frame,
    addressOf };
}
start().catch(error => {
  part.failure.textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old for the page: update it and reload the page."
    : `The page could not start (${error.message}): download or make it again.`;
  throw error;
});
