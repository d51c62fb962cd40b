// Subnets for tests, 10.88.0.0/24 to 10.99.255.0/24: no two tests running on this machine get the same one.

import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

export interface Subnet extends Disposable {
  /** Its first three octets: "10.91.7". */
  readonly prefix: string;
}

const count = 12 * 256;
/** Subnets are taken in turn, so that a released one is not reused soon. */
let next = randomInt(count);

/** A subnet is taken while an abstract unix socket of its name is bound: the kernel unbinds it when a test dies. */
export async function takeSubnet(): Promise<Subnet> {
  for (let tries = 0; tries < count; tries += 1) {
    const number = next++ % count;
    const prefix = `10.${88 + (number >> 8)}.${number & 255}`;
    const socket = createServer().unref();
    socket.listen(`\0keelson-test-subnet-${prefix}`);
    if (await once(socket, "listening").then(() => true, isTaken))
      return { prefix, [Symbol.dispose]: () => void socket.close() };
  }
  throw new Error("all subnets are taken by tests running on this machine");
}

function isTaken(error: NodeJS.ErrnoException): false {
  if (error.code !== "EADDRINUSE") throw error;
  return false;
}
