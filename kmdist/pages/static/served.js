"use strict";
window.viewer = new Viewer(
  JSON.parse(document.getElementById("run-data").textContent), TiledSurface);
