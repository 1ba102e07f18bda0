// Read every array of a run with zarrita and print shape and a checksum of each, as JSON.
// Usage: node read_run.mjs RUN.zarr KEY...   (from a folder in which zarrita is installed)
import { createHash } from "node:crypto";
import * as storage from "@zarrita/storage";
import * as zarr from "zarrita";

const [run, ...keys] = process.argv.slice(2);
const root = zarr.root(new storage.FileSystemStore(run));
const group = await zarr.open.v3(root, { kind: "group" });
const found = { state: group.attrs.kmdist.state, arrays: {} };
for (const key of keys) {
  const array = await zarr.open.v3(root.resolve(key), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  found.arrays[key] = { shape, sha256 };
}
console.log(JSON.stringify(found));
