"use strict";
/* PNG of 8-bit samples (PNG Specification, third edition, W3C 2025): a canvas premultiplies
   colours, limits sizes and may be told to add noise, and cannot write grey. */

const PNG_COLOR_TYPES = { 1: 0, 4: 6 };

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function pngChunk(kind, content) {
  const chunk = new Uint8Array(12 + content.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length);
  for (let i = 0; i < 4; i++) chunk[4 + i] = kind.charCodeAt(i);
  chunk.set(content, 8);
  view.setUint32(8 + content.length, crc32(chunk.subarray(4, 8 + content.length)));
  return chunk;
}

async function throughStream(content, stream) {
  const passed = new Blob([content]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(passed).arrayBuffer());
}

/* A Blob of a picture of 1 (grey) or 4 (RGBA) channels, row by row. */
async function encodePng(samples, columns, rows, channels) {
  const line = columns * channels;
  const filtered = new Uint8Array((line + 1) * rows);
  for (let y = 0; y < rows; y++) {
    filtered.set(samples.subarray(y * line, (y + 1) * line), y * (line + 1) + 1);
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, columns);
  view.setUint32(4, rows);
  header[8] = 8;
  header[9] = PNG_COLOR_TYPES[channels];
  const content = await throughStream(filtered, new CompressionStream("deflate"));
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  const end = new Uint8Array(0);
  return new Blob(
    [signature, pngChunk("IHDR", header), pngChunk("IDAT", content), pngChunk("IEND", end)],
    { type: "image/png" });
}
