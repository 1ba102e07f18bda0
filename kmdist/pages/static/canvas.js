"use strict";
/* A picture whose labels the page holds, on a canvas: the surface of a report from a file. */

class CanvasSurface {
  constructor(place, onPoint) {
    this.canvas = place.appendChild(document.createElement("canvas"));
    this.place = place;
    this.canvas.addEventListener("click", (event) => {
      const box = this.canvas.getBoundingClientRect();
      const x = Math.floor((event.clientX - box.left) / box.width * this.canvas.width);
      const y = Math.floor((event.clientY - box.top) / box.height * this.canvas.height);
      onPoint(Math.min(Math.max(x, 0), this.canvas.width - 1),
        Math.min(Math.max(y, 0), this.canvas.height - 1));
    });
  }

  async load() {} // the page has everything

  /* Load an image of one k; resolves when it can be drawn. */
  async show(image, number, fit) {
    const { columns, rows } = image;
    const packed = Uint8Array.from(atob(fit.labels), (char) => char.charCodeAt(0));
    const raw = await throughStream(packed, new DecompressionStream("deflate"));
    const labels = fit.bytes === 1 ? raw : new Uint16Array(raw.buffer);
    let source = null;
    if (image.source) {
      source = new Image();
      source.src = image.source;
      await source.decode();
    }
    Object.assign(this, { image, fit, labels, source, columns, rows });
    this.canvas.width = columns;
    this.canvas.height = rows;
    const enlarge = Math.max(1, Math.floor(Math.min(480 / columns, 480 / rows)));
    this.place.classList.toggle("enlarged", enlarge > 1);
    this.canvas.style.width = enlarge > 1 ? `${columns * enlarge}px` : "";
    this.recolored = this.layer(fit.palette);
    this.marked = this.layer(fit.marks);
  }

  /* A canvas of the labels in these colours, transparent where nothing was clustered. */
  layer(colors) {
    const words = new Uint32Array(1 << (8 * this.fit.bytes));
    colors.forEach((color, label) => { words[label] = rgbaWord(color); });
    const layer = document.createElement("canvas");
    layer.width = this.columns;
    layer.height = this.rows;
    const pixels = new ImageData(this.columns, this.rows);
    const out = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < out.length; i++) out[i] = words[this.labels[i]];
    layer.getContext("2d").putImageData(pixels, 0, 0);
    return layer;
  }

  labelAt(x, y) {
    return this.labels[y * this.columns + x];
  }

  draw(mode, amount, chosen) {
    const { columns, rows } = this;
    const context = this.canvas.getContext("2d");
    const base = this.source || this.recolored;
    context.clearRect(0, 0, columns, rows);
    if (mode === "compare") {
      const edge = Math.round(columns * amount);
      context.drawImage(this.recolored, 0, 0);
      if (edge) {
        context.clearRect(0, 0, edge, rows);
        context.drawImage(base, 0, 0, edge, rows, 0, 0, edge, rows);
      }
      context.fillStyle = "#ffffff";
      if (edge && edge < columns) context.fillRect(edge - 1, 0, Math.max(1, columns / 600), rows);
    } else if (mode === "overlay") {
      context.drawImage(base, 0, 0);
      context.globalAlpha = amount;
      context.drawImage(this.marked, 0, 0);
      context.globalAlpha = 1;
    } else if (mode === "labels") {
      context.drawImage(this.marked, 0, 0);
    } else {
      context.putImageData(this.cutout(chosen), 0, 0);
    }
  }

  /* 255 where a label is chosen, 0 elsewhere. */
  mask(chosen) {
    const keep = new Uint8Array(1 << (8 * this.fit.bytes));
    for (const cluster of chosen) keep[cluster] = 255;
    const mask = new Uint8Array(this.labels.length);
    for (let i = 0; i < mask.length; i++) mask[i] = keep[this.labels[i]];
    return mask;
  }

  cutout(chosen) {
    const scratch = document.createElement("canvas");
    scratch.width = this.columns;
    scratch.height = this.rows;
    const context = scratch.getContext("2d");
    context.drawImage(this.source || this.recolored, 0, 0);
    const pixels = context.getImageData(0, 0, this.columns, this.rows);
    const words = new Uint32Array(pixels.data.buffer);
    const mask = this.mask(chosen);
    for (let i = 0; i < words.length; i++) if (!mask[i]) words[i] = 0;
    return pixels;
  }

  /* The cut-out or mask as PNG. */
  save(what, chosen) {
    const samples = what === "mask" ? this.mask(chosen) : this.cutout(chosen).data;
    return encodePng(samples, this.columns, this.rows, what === "mask" ? 1 : 4);
  }

  thumbnail(image) {
    if (image.source) return image.source;
    const fit = image.fits[0];
    return `data:image/svg+xml,${encodeURIComponent(swatches(fit.palette))}`;
  }

  toScreen(x, y) {
    const box = this.canvas.getBoundingClientRect();
    const around = this.place.getBoundingClientRect();
    return [box.left - around.left + (x + 0.5) / this.columns * box.width,
      box.top - around.top + (y + 0.5) / this.rows * box.height];
  }
}

/* A pixel of ImageData, of #rrggbb or #rrggbbaa. */
function rgbaWord(color) {
  const [red, green, blue, alpha = 255] = color.match(/[0-9a-f]{2}/g).map((two) => parseInt(two, 16));
  return (alpha << 24 | blue << 16 | green << 8 | red) >>> 0;
}

/* What stands for an image whose original is gone. */
function swatches(palette) {
  const squares = palette.slice(0, 16).map((color, i) =>
    `<rect x="${i % 4}" y="${i >> 2}" width="1" height="1" fill="${color}"/>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">${squares.join("")}</svg>`;
}
