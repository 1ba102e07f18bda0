"use strict";
/* Choosing images and clusters. Where pixels come from is the surface's: CanvasSurface, whose
   labels are in the page, or TiledSurface, which asks the server. */

const PAGE_IMAGES = 24;

class Viewer {
  constructor(data, Surface) {
    this.data = data;
    this.element = (id) => document.getElementById(id);
    this.surface = new Surface(this.element("surface"), (x, y) => this.point(x, y));
    this.number = 0;
    this.fitNumber = 0;
    this.mode = this.wholeMode = data.mode;
    this.amount = data.mode === "compare" ? 0.5 : 0.6;
    this.chosen = new Set();
    this.cross = null;
    this.listen();
    this.fillKs();
    this.fillPage(0);
    this.ready = this.show(0);
  }

  get image() { return this.data.images[this.number]; }
  get fit() { return this.image.fits[this.fitNumber]; }
  get run() { return this.data.runs[this.fitNumber]; }

  listen() {
    const on = (id, what, action) => this.element(id).addEventListener(what, action);
    on("previous", "click", () => this.fillPage(this.page - 1));
    on("next", "click", () => this.fillPage(this.page + 1));
    on("k", "change", (event) => { this.fitNumber = Number(event.target.value); this.show(this.number); });
    on("modes", "change", (event) => this.setMode(event.target.value));
    on("amount", "input", (event) => { this.amount = event.target.value / 100; this.draw(); });
    on("clear", "click", () => { this.chosen.clear(); this.afterChoice(); });
    on("save-cutout", "click", () => this.save("cutout"));
    on("save-mask", "click", () => this.save("mask"));
    on("scope", "change", () => this.fillCommand());
    on("copy", "click", () => this.copy(this.element("command").value, "Copied the command"));
    on("surface", "keydown", (event) => this.key(event));
    on("surface", "blur", () => { this.cross = null; this.drawCross(); });
  }

  fillKs() {
    this.element("k-label").hidden = this.data.runs.length < 2;
    this.data.runs.forEach((run, i) => this.element("k").add(new Option(run.k, i)));
  }

  fillPage(page) {
    const { images } = this.data;
    const pages = Math.ceil(images.length / PAGE_IMAGES);
    this.page = Math.min(Math.max(page, 0), pages - 1);
    const first = this.page * PAGE_IMAGES;
    const shown = images.slice(first, first + PAGE_IMAGES);
    this.element("thumbnails").replaceChildren(...shown.map((image, i) => this.thumbnail(image, first + i)));
    this.element("page").textContent =
      `${first + 1}–${first + shown.length} of ${images.length.toLocaleString("en")}`;
    this.element("previous").disabled = this.page === 0;
    this.element("next").disabled = this.page === pages - 1;
    this.element("previous").parentElement.hidden = pages === 1;
    this.element("thumbnails").hidden = images.length === 1;
  }

  thumbnail(image, number) {
    const item = document.createElement("li");
    const button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.dataset.number = number;
    button.title = image.name;
    button.setAttribute("aria-current", String(number === this.number));
    const picture = button.appendChild(new Image());
    picture.alt = "";
    picture.src = this.surface.thumbnail(image, number);
    button.appendChild(document.createElement("span")).textContent = image.name.split("/").pop();
    button.addEventListener("click", () => this.show(number));
    return item;
  }

  async show(number) {
    await this.surface.load(this.data.images[number], number);
    this.number = number;
    await this.surface.show(this.image, number, this.fit);
    const palette = this.fit.palette.join();
    if (palette !== this.palette) this.chosen.clear(); // its numbers mean other clusters
    this.palette = palette;
    this.cross = null;
    for (const button of this.element("thumbnails").querySelectorAll("button")) {
      button.setAttribute("aria-current", String(Number(button.dataset.number) === number));
    }
    this.fillName();
    this.fillPalette();
    this.afterChoice();
  }

  fillName() {
    const { image, fit } = this;
    const size = `${image.width.toLocaleString("en")} × ${image.height.toLocaleString("en")} px`;
    const parts = [size, `k = ${this.fit.palette.length}`];
    parts.push(...(fit.quality || []));
    if (image.step > 1) parts.push(`shown at 1 : ${image.step}`);
    if (image.note) parts.push(image.note);
    this.element("name").textContent = image.name;
    this.under = parts.join(" · ");
    this.element("under").textContent = this.under;
  }

  fillPalette() {
    const total = this.fit.counts.reduce((sum, count) => sum + count, 0) || 1;
    this.element("palette").replaceChildren(...this.fit.palette.map((color, cluster) => {
      const item = document.createElement("li");
      const button = item.appendChild(document.createElement("button"));
      button.type = "button";
      button.className = "cluster";
      button.dataset.cluster = cluster;
      const part = (kind, text = "") => {
        const span = button.appendChild(document.createElement("span"));
        span.className = kind;
        span.textContent = text;
        return span;
      };
      part("tick");
      part("swatch").style.background = color;
      part("mark").style.background = this.fit.marks[cluster];
      part("number", `${cluster}`);
      part("share", `${(100 * this.fit.counts[cluster] / total).toFixed(1)} %`);
      button.addEventListener("click", () => this.toggle(cluster));
      const copy = item.appendChild(document.createElement("button"));
      copy.className = "copy";
      copy.type = "button";
      copy.textContent = color;
      copy.title = `Copy ${color}`;
      copy.addEventListener("click", () => this.copy(color, `Copied ${color}`));
      return item;
    }));
  }

  async point(x, y) {
    const cluster = await this.surface.labelAt(x, y);
    if (cluster >= this.fit.palette.length) this.say("This pixel is in no cluster");
    else this.toggle(cluster);
  }

  toggle(cluster) {
    if (!this.chosen.delete(cluster)) this.chosen.add(cluster);
    this.afterChoice();
  }

  afterChoice() {
    const some = this.chosen.size > 0;
    if (some && this.mode !== "chosen") this.mode = "chosen";
    if (!some && this.mode === "chosen") this.mode = this.wholeMode;
    const listed = [...this.chosen].sort((a, b) => a - b);
    for (const button of this.element("palette").querySelectorAll(".cluster")) {
      const pressed = this.chosen.has(Number(button.dataset.cluster));
      button.setAttribute("aria-pressed", String(pressed));
      button.querySelector(".tick").textContent = pressed ? "✓" : "";
    }
    const share = listed.reduce((sum, c) => sum + this.fit.counts[c], 0)
      / (this.fit.counts.reduce((sum, count) => sum + count, 0) || 1);
    this.say(some ? `Chosen: ${listed.join(", ")} (${(100 * share).toFixed(1)} %)`
      : "Click a pixel or a cluster to choose it.");
    const whole = this.image.step === 1;
    this.element("save-cutout").disabled = this.element("save-mask").disabled = !(some && whole);
    this.element("clear").disabled = !some;
    this.element("saving").textContent = whole ? this.data.saving
      : "This page holds the image in reduced size: save it by the command, in full size.";
    this.fillCommand();
    this.draw();
  }

  setMode(mode) {
    if (mode === "chosen" && !this.chosen.size) this.say("Nothing is chosen yet: click a pixel.");
    this.mode = mode;
    if (mode !== "chosen") this.wholeMode = mode;
    this.draw();
  }

  fillCommand() {
    const listed = [...this.chosen].sort((a, b) => a - b).join(",") || "N";
    const own = this.data.ownPalettes;
    this.element("scope").disabled = own;
    if (own) this.element("scope").value = "one";
    const one = this.element("scope").value === "one";
    const words = ["kmdist extract", `--clusters ${listed}`, one ? "-o cutout.png" : "-o cutouts/",
      "--", this.run.quoted];
    if (one) words.push(this.image.quoted);
    this.element("command").value = words.join(" ");
  }

  draw() {
    for (const input of this.element("modes").querySelectorAll("input")) {
      input.checked = input.value === this.mode;
    }
    const names = { compare: "Original up to", overlay: "Opacity" };
    this.element("amount-label").hidden = !(this.mode in names);
    this.element("amount-name").textContent = names[this.mode] || "";
    this.element("amount").value = Math.round(100 * this.amount);
    this.surface.draw(this.mode, this.amount, this.chosen);
    this.drawCross();
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { columns, rows } = this.surface;
    if (event.target !== this.element("surface") || !columns) return;
    if (event.key in steps) {
      const far = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(columns, rows) / 50));
      const [x, y] = this.cross || [columns >> 1, rows >> 1];
      const [dx, dy] = steps[event.key];
      this.cross = [Math.min(Math.max(x + dx * far, 0), columns - 1),
        Math.min(Math.max(y + dy * far, 0), rows - 1)];
      this.drawCross();
      event.preventDefault();
    } else if ((event.key === "Enter" || event.key === " ") && this.cross) {
      this.point(...this.cross);
      event.preventDefault();
    }
  }

  async drawCross() {
    let mark = this.element("cross");
    if (!this.cross) { if (mark) mark.remove(); return; }
    if (!mark) {
      mark = this.element("surface").appendChild(document.createElement("div"));
      mark.id = "cross";
    }
    const [left, top] = this.surface.toScreen(...this.cross);
    mark.style.left = `${left}px`;
    mark.style.top = `${top}px`;
    const label = await this.surface.labelAt(...this.cross);
    this.element("under").textContent = `column ${this.cross[0] * this.image.step}, row `
      + `${this.cross[1] * this.image.step}: cluster ${label} · ${this.under}`;
  }

  async save(what) {
    const content = await this.surface.save(what, this.chosen);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    const stem = this.image.name.split("/").pop().replace(/\.[^.]*$/, "") || "image";
    link.download = `${stem.replace(/[^\p{L}\p{N}_.-]+/gu, "_")}-${what}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    this.say(`Saved ${link.download}`);
  }

  async copy(text, said) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.body.appendChild(document.createElement("textarea"));
      field.value = text;
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    this.say(said);
  }

  say(text) { this.element("chosen").textContent = text; }
}
