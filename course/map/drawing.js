"use strict";
// ---------------------------------------------------------------- drawing
// What both pages share: their elements and data, their colours, labels on a canvas.

const part = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map(node => [node.id, node]));
const COLOURS = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59",
  "#e76300", "#b9ac70", "#717581", "#92dadd"];  // petroff10, as in the chapters
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let style;  // the colours of the page's style sheet, light or dark

function readStyle() {
  const values = getComputedStyle(document.documentElement);
  style = Object.fromEntries(["paper", "ink", "soft", "line", "mark"].map(name =>
    [name, values.getPropertyValue(`--${name}`).trim()]));
}
function bytesOf(base64) {  // with a callback for each letter, ten times as slow
  const letters = atob(base64), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}
const ratio = () => window.devicePixelRatio || 1;
const median = values => [...values].sort((a, b) => a - b)[values.length >> 1];

function circle(context, x, y, r) {
  context.moveTo(x + r, y);
  context.arc(x, y, r, 0, 2 * Math.PI);
}
function cross(context, x, y, r) {
  context.moveTo(x - r, y - r);
  context.lineTo(x + r, y + r);
  context.moveTo(x - r, y + r);
  context.lineTo(x + r, y - r);
}
function write(context, text, x, y, scale) {  // with a halo
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 4 * scale;
  context.strokeStyle = style.paper;
  context.strokeText(text, x, y);
  context.fillStyle = style.ink;
  context.fillText(text, x, y);
}

// Writes labels { name, x, y } on a square map, one after another: each where it wants
// to be, or as little aside as frees it from those before and from `taken`.
// Returns their boxes { x, y, width, height }, where x and y are the middle.
function writeNames(context, names, size, scale, taken = []) {
  context.font = `600 ${13 * scale}px system-ui, sans-serif`;
  const placed = [...taken], height = 16 * scale;
  for (const { name, x: wantedX, y: wantedY } of names) {
    const width = context.measureText(name).width + 8 * scale;
    const inside = (value, extent) =>
      Math.min(Math.max(value, extent / 2), size - extent / 2);
    const start = [inside(wantedX, width), inside(wantedY, height)];
    const isFree = (x, y) => inside(x, width) === x && inside(y, height) === y
      && placed.every(other => Math.abs(x - other.x) >= (width + other.width) / 2
        || Math.abs(y - other.y) >= (height + other.height) / 2);
    let [x, y] = start;
    for (let k = 4; k < 4 * size && !isFree(x, y); k++) {
      const [right, down] = [[0, 1], [0, -1], [1, 0], [-1, 0]][k % 4];
      x = start[0] + right * scale * Math.floor(k / 4);
      y = start[1] + down * scale * Math.floor(k / 4);
    }
    write(context, name, x, y, scale);
    placed.push({ x, y, width, height });
  }
  return placed.slice(taken.length);
}
