// Maps signal names (CRI's enum, the image's StopSignal) to numbers. Source: signal(7), Linux x86 and arm numbering.

import { constants } from "node:os";

const realTimeMin = 34;
const realTimeMax = 64;

/** "SIGTERM", "TERM", "15", "SIGRTMIN+3", "SIGRTMINPLUS3", "RTMAX-1", "SIGRTMAXMINUS1"; undefined for anything else. */
export function signalNumber(text: string): number | undefined {
  if (/^\d+$/.test(text)) return inRange(Number(text));
  const name = text.toUpperCase().replace(/^SIG/, "").replace("PLUS", "+").replace("MINUS", "-");
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name);
  if (realTime !== null) {
    const offset = Number(realTime[3] ?? "0") * (realTime[2] === "-" ? -1 : 1);
    const signal = (realTime[1] === "MIN" ? realTimeMin : realTimeMax) + offset;
    return signal >= realTimeMin && signal <= realTimeMax ? signal : undefined;
  }
  const alias: Readonly<Record<string, string>> = { CLD: "CHLD", POLL: "IO" };
  return Object.entries(constants.signals).find(([known]) => known === `SIG${alias[name] ?? name}`)?.[1];
}

function inRange(signal: number): number | undefined {
  return signal >= 1 && signal <= realTimeMax ? signal : undefined;
}
