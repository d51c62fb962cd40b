// Large images of many files that consist of words, to compress like programs and texts; the same bytes each time.

import { type BuiltImage, type BuiltLayer, makeImage, makeLayer, makeTar } from "../../../image/testing/build-image.ts";

/** About 800 MB unpacked, and a third of that compressed. */
export const largeImage = { layers: 9, files: 25_000, meanSize: 32_000 } as const;

/** Images with different numbers share no layers. */
export function makeLargeImage(number: number): BuiltImage {
  const random = generator(number);
  const words = Array.from({ length: 1250 }, () => word(random));
  const layers = Array.from({ length: largeImage.layers }, (_, index) => layer(index, words, random));
  return makeImage({ layers, defaults: { Cmd: ["true"] } });
}

function layer(number: number, words: readonly Buffer[], random: () => number): BuiltLayer {
  const files = Math.ceil(largeImage.files / largeImage.layers);
  const entries = Array.from({ length: files }, (_, index) => ({
    name: `usr/share/layer-${number}/${index % 97}/file-${index}`,
    // Many small files and a few large ones.
    content: text(Math.ceil(-Math.log(1 - random()) * largeImage.meanSize), words, random),
  }));
  return makeLayer(makeTar(entries));
}

function text(size: number, words: readonly Buffer[], random: () => number): Buffer {
  const content = Buffer.alloc(size);
  for (let at = 0; at < size; ) at += (words[Math.floor(random() * words.length)] ?? content).copy(content, at);
  return content;
}

function word(random: () => number): Buffer {
  const length = 4 + Math.floor(random() * 28);
  return Buffer.from(Array.from({ length }, () => 32 + Math.floor(random() * 90)));
}

/** Pseudo-random numbers from 0 to 1 (mulberry32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
