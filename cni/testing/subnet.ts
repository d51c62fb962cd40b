// Subnets of tests' networks, 10.88.0.0/24 to 10.99.255.0/24: no two tests at work on this machine have the same.

import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

export interface Subnet extends Disposable {
  /** Its first three numbers: "10.91.7". */
  readonly prefix: string;
}

const count = 12 * 256;
/** In turn, so that one that was given back is not soon another's. */
let next = randomInt(count);

/** Somebody's while an abstract unix socket of its name is bound: the kernel takes that back from a test that dies. */
export async function takeSubnet(): Promise<Subnet> {
  for (let tries = 0; tries < count; tries += 1) {
    const number = next++ % count;
    const prefix = `10.${88 + (number >> 8)}.${number & 255}`;
    const socket = createServer().unref();
    socket.listen(`\0keelson-test-subnet-${prefix}`);
    if (await once(socket, "listening").then(() => true, isTaken))
      return { prefix, [Symbol.dispose]: () => void socket.close() };
  }
  throw new Error("tests at work on this machine have all subnets");
}

function isTaken(error: NodeJS.ErrnoException): false {
  if (error.code !== "EADDRINUSE") throw error;
  return false;
}
