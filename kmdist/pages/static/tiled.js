"use strict";
/* A picture of any size in tiles that the server makes from the run's pyramid. */

const TILE_PX = 512;

class TiledSurface {
  constructor(place, onPoint) {
    this.place = place;
    place.classList.add("tiled");
    // Or OpenSeadragon adds a style of its own, which the page's policy refuses.
    document.querySelector("style").setAttribute("data-openseadragon-mobile-css", "");
    this.viewer = OpenSeadragon({
      element: place,
      drawer: "canvas",
      showNavigationControl: false,
      maxZoomPixelRatio: 16,
      imageSmoothingEnabled: false,
      animationTime: 0.4,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false },
    });
    this.viewer.addHandler("canvas-click", (event) => {
      if (!event.quick || !this.viewer.world.getItemCount()) return;
      const where = this.viewer.world.getItemAt(0).viewerElementToImageCoordinates(event.position);
      const [x, y] = [Math.floor(where.x), Math.floor(where.y)];
      if (x >= 0 && y >= 0 && x < this.width && y < this.height) onPoint(x, y);
    });
  }

  async load(image, number) {
    if (!image.fits) Object.assign(image, await (await fetch(`image/${number}`)).json());
  }

  async show(image, number, fit) {
    this.width = image.width;
    this.height = image.height;
    this.base = `${image.fits.indexOf(fit)}/${number}`;
    this.layers = {};
    this.viewer.world.removeAll();
  }

  labelAt(x, y) {
    return fetch(`label/${this.base}/${x}/${y}`).then((answer) => answer.json());
  }

  draw(mode, amount, chosen) {
    const listed = [...chosen].sort((a, b) => a - b).join(",");
    const wanted = { compare: ["original", "recolored"], overlay: ["original", "labels"],
      labels: ["labels"], chosen: [`chosen/c${listed}`] }[mode];
    for (const name of Object.keys(this.layers)) {
      if (!wanted.includes(name)) this.drop(name);
    }
    wanted.forEach((name, order) => { this.layers[name] ||= this.add(name, order); });
    const top = this.layers[wanted[1]];
    if (top) top.then((layer) => {
      const edge = mode === "compare" ? Math.round(this.width * amount) : 0;
      layer.setClip(new OpenSeadragon.Rect(edge, 0, this.width - edge, this.height));
      layer.setOpacity(mode === "overlay" ? amount : 1);
    });
  }

  add(name, order) {
    const layer = name.includes("/") ? name : `${name}/c`;
    const maxLevel = Math.max(0, Math.ceil(Math.log2(Math.max(this.width, this.height) / TILE_PX)));
    const base = this.base;
    const tileSource = {
      width: this.width, height: this.height, tileSize: TILE_PX, minLevel: 0, maxLevel,
      getTileUrl: (level, x, y) =>
        `tiles/${base}/${layer}/${maxLevel - level}/${x}/${y}.png`,
    };
    return new Promise((resolve) => this.viewer.addTiledImage({
      tileSource, index: order, success: (event) => resolve(event.item),
    }));
  }

  drop(name) {
    this.layers[name].then((layer) => this.viewer.world.removeItem(layer));
    delete this.layers[name];
  }

  async save(what, chosen) {
    const listed = [...chosen].sort((a, b) => a - b).join(",");
    return (await fetch(`extract/${this.base}/c${listed}/${what}.png`)).blob();
  }

  thumbnail(image, number) { return `thumbnail/${number}.png`; }

  toScreen(x, y) {
    const place = this.viewer.world.getItemAt(0).imageToViewerElementCoordinates(
      new OpenSeadragon.Point(x + 0.5, y + 0.5));
    return [place.x, place.y];
  }
}
