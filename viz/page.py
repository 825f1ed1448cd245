"""``scene.html``: atoms that rotate with the mouse, in one self-contained file.

A hundred lines of script draw on a plain canvas: no library, no WebGL, no network, so it
opens in any browser and in a notebook.
"""

import base64
import html
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..engine.errors import InputError
from . import style
from .look import Look, cell_edges
from .picture import framed

if TYPE_CHECKING:
    from .atoms import Snapshot

MAX_FRAMES = 60
MAX_NUMBERS = 2_000_000
"""Coordinates in a page: 16 bits each, so about 5 MB."""


def spread(frames: int, atoms: int = 1) -> list[int]:
    """Return the frames that a page shows: all if few, else evenly spaced ones."""
    count = max(1, min(frames, MAX_FRAMES, MAX_NUMBERS // max(3 * atoms, 1)))
    return sorted({round(i) for i in np.linspace(0, frames - 1, count)})


def scene(
    snapshots: Sequence["Snapshot"], title: str = "", look: Look | None = None
) -> str:
    """Return a page that shows snapshots of the same atoms, with slider and colours.

    Raises:
        InputError: a position is no number.
    """
    look = look or Look()
    for snapshot in snapshots:
        if lost := int((~np.isfinite(snapshot.positions).all(1)).sum()):
            raise InputError(f"{snapshot.label}: {lost} atoms have no finite position")
    shown = [s.wrapped().repeated(look.images) for s in snapshots]
    choices = [c for c in shown[0].colour_choices() if c != "coordination"]
    if look.colour in choices:
        choices.insert(0, choices.pop(choices.index(look.colour)))
    low = np.min([s.positions.min(0) for s in shown], axis=0)
    high = np.max([s.positions.max(0) for s in shown], axis=0)
    span = np.maximum(high - low, 1e-9)
    corners, edges = cell_edges(shown[0].cell)
    data = {
        "count": len(shown[0].positions),
        "low": low.tolist(),
        "span": span.tolist(),
        "frames": [_coded((s.positions - low) / span) for s in shown],
        "labels": [s.label for s in shown],
        "radii": _bytes(np.round(100 * style.element_radii(shown[0].symbols)), np.uint8),
        "species": _bytes(255 * style.element_colours(shown[0].symbols), np.uint8),
        "symbols": {
            str(s): "rgb"
            + str(
                tuple((255 * style.element_colours(np.array([s]))[0]).astype(int).tolist())
            )
            for s in np.unique(shown[0].symbols)
        },
        "choices": choices,
        "values": {c: _values(shown, c) for c in choices if c != "species"},
        "map": _colour_map(),
        "corners": corners.tolist() if shown[0].has_cell else [],
        "edges": edges.tolist() if shown[0].has_cell else [],
    }
    parts = {"TITLE": html.escape(title), "DATA": json.dumps(data).replace("<", "\\u003c")}
    return re.sub("TITLE|DATA", lambda found: parts[found.group()], _PAGE)


def embedded(snapshots: Sequence["Snapshot"]) -> str:
    """Return the page in a frame, for a notebook."""
    return framed(scene(snapshots), "width: 100%; max-width: 800px; height: 560px")


def _coded(fractions: np.ndarray) -> str:
    return _bytes(np.round(65535 * np.clip(fractions, 0, 1)), np.uint16)


def _bytes(values: np.ndarray, kind: type) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _values(shown: Sequence["Snapshot"], choice: str) -> dict[str, object]:
    """Return numbers of all frames as bytes between common ends."""
    table = [s.value_of(choice) for s in shown]
    low, high = Look(choice).bounds_for(np.concatenate(table))
    scaled = [
        np.clip((np.nan_to_num(v, nan=low) - low) / (high - low), 0, 1) for v in table
    ]
    return {
        "low": low,
        "high": high,
        "title": shown[0].caption_of(choice),
        "frames": [_bytes(255 * v, np.uint8) for v in scaled],
    }


def _colour_map() -> str:
    import matplotlib

    return _bytes(
        255 * matplotlib.colormaps[style.SEQUENTIAL](np.arange(256))[:, :3], np.uint8
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title><style>
html, body { margin: 0; height: 100%; font: 15px system-ui, sans-serif; background: #fff; }
body { display: flex; flex-direction: column; }
#bar { display: flex; flex-wrap: wrap; gap: 1rem; align-items: center; padding: .4rem .8rem;
  border-bottom: 1px solid #ddd; }
#view { flex: 1; min-height: 0; width: 100%; touch-action: none; cursor: grab; }
#scale { width: 9rem; height: .8rem; display: inline-block; vertical-align: middle; }
</style></head><body>
<div id="bar"><b>TITLE</b>
<label>frame <input id="frame" type="range" min="0" value="0"></label>
<span id="label"></span>
<label>colour <select id="choice"></select></label><span id="key"></span></div>
<canvas id="view"></canvas>
<script>
"use strict";
const D = DATA;
const bytes = t => Uint8Array.from(atob(t), c => c.charCodeAt(0));
const map = bytes(D.map), radii = bytes(D.radii), species = bytes(D.species);
const canvas = document.getElementById("view"), pen = canvas.getContext("2d");
const slider = document.getElementById("frame"), choice = document.getElementById("choice");
slider.max = D.frames.length - 1;
slider.parentElement.hidden = D.frames.length == 1;
for (const c of D.choices) choice.add(new Option(c, c));
const n = D.count, centre = D.low.map((l, i) => l + D.span[i] / 2);
const reach = Math.hypot(...D.span) / 2 + 1;
let turn = 0.4, tilt = 0.35, zoom = 1, points, order = Array.from({length: n}, (_, i) => i);
const sprites = new Map();
function sprite(r, g, b) {
  const key = (r << 16) | (g << 8) | b;
  if (!sprites.has(key)) {
    const s = document.createElement("canvas"); s.width = s.height = 64;
    const p = s.getContext("2d"), f = p.createRadialGradient(24, 22, 2, 32, 32, 31);
    const tone = k => `rgb(${[r, g, b].map(c => Math.min(255, Math.round(c * k))).join()})`;
    f.addColorStop(0, tone(1.35)); f.addColorStop(0.55, tone(1));
    f.addColorStop(1, tone(0.5));
    p.fillStyle = f; p.beginPath(); p.arc(32, 32, 31, 0, 7); p.fill();
    sprites.set(key, s);
  }
  return sprites.get(key);
}
function load() {
  const raw = new Uint16Array(bytes(D.frames[slider.value]).buffer);
  points = new Float32Array(3 * n);
  for (let i = 0; i < 3 * n; i++)
    points[i] = D.low[i % 3] + raw[i] / 65535 * D.span[i % 3] - centre[i % 3];
  document.getElementById("label").textContent = D.labels[slider.value];
  const key = document.getElementById("key"), v = D.values[choice.value];
  key.textContent = "";
  if (v) {
    const stops = [];
    for (let i = 0; i < 256; i += 15)
      stops.push(`rgb(${map[3 * i]},${map[3 * i + 1]},${map[3 * i + 2]})`);
    key.innerHTML = '<span id="scale"></span> ';
    key.prepend(v.low.toPrecision(3) + " ");
    key.append(v.high.toPrecision(3) + "  " + v.title);
    document.getElementById("scale").style.background =
      `linear-gradient(to right, ${stops.join()})`;
  } else for (const [s, c] of Object.entries(D.symbols)) {
    const dot = document.createElement("span"); dot.textContent = "\\u25cf ";
    dot.style.color = c; key.append(dot, s + " ");
  }
  draw();
}
function draw() {
  const box = canvas.getBoundingClientRect(), dense = window.devicePixelRatio || 1;
  canvas.width = box.width * dense; canvas.height = box.height * dense;
  const w = canvas.width, h = canvas.height, unit = zoom * Math.min(w, h) / 2 / reach;
  const [ct, st, cl, sl] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
  const far = 4 * reach;
  const project = (x, y, z) => {
    const a = ct * x - st * y, b = st * x + ct * y;
    const depth = cl * b + sl * z, up = cl * z - sl * b, scale = unit * far / (far - depth);
    return [w / 2 + scale * a, h / 2 - scale * up, depth, scale];
  };
  pen.fillStyle = "#fff"; pen.fillRect(0, 0, w, h);
  const seen = new Float32Array(4 * n);
  for (let i = 0; i < n; i++)
    seen.set(project(points[3 * i], points[3 * i + 1], points[3 * i + 2]), 4 * i);
  pen.strokeStyle = "#555"; pen.lineWidth = dense; pen.beginPath();
  const corners = D.corners.map(c => project(...c.map((v, i) => v - centre[i])));
  for (const [a, b] of D.edges) {
    pen.moveTo(corners[a][0], corners[a][1]); pen.lineTo(corners[b][0], corners[b][1]);
  }
  pen.stroke();
  order.sort((a, b) => seen[4 * a + 2] - seen[4 * b + 2]);
  const v = D.values[choice.value], level = v ? bytes(v.frames[slider.value]) : null;
  for (const i of order) {
    const [t, k] = level ? [map, 3 * level[i]] : [species, 3 * i];
    const r = 0.7 * radii[i] / 100 * seen[4 * i + 3];
    pen.drawImage(sprite(t[k], t[k + 1], t[k + 2]),
      seen[4 * i] - r, seen[4 * i + 1] - r, 2 * r, 2 * r);
  }
  document.body.dataset.drawn = +(document.body.dataset.drawn || 0) + 1;
}
slider.oninput = load; choice.onchange = load; window.onresize = draw;
canvas.onpointermove = e => {
  if (!e.buttons) return;
  turn += e.movementX * 0.008;
  tilt = Math.max(-1.57, Math.min(1.57, tilt + e.movementY * 0.008)); draw();
};
canvas.onwheel = e => { e.preventDefault(); zoom *= Math.exp(-e.deltaY * 0.001); draw(); };
load();
</script></body></html>
"""
