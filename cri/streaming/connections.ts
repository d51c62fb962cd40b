// The connections of the streaming server: unauthenticated ones, which have not presented a token yet, and sessions.
//
// Any process on the node can connect, so an unauthenticated connection is cheap and takes nothing from sessions: each
// has a few seconds, and beyond the limit a new one closes the oldest. A client with a token sends it in its first
// bytes.

import type { Socket } from "node:net";

/** Time from accept(2) to the redeemed token, milliseconds; a kubelet's request comes at once. */
const unauthenticatedMs = 5_000;
/** More than a listen backlog (511), so that one turn of the event loop does not evict connections it just accepted. */
export const maxUnauthenticated = 1024;
/** Concurrent sessions; more are refused with 429 (Too Many Requests). */
export const maxSessions = 1000;
/**
 * How long a client may take to read the remaining output after its session ended, and to hang up, milliseconds. The
 * last megabytes may be in kernel buffers: if the server closed, the client's next bytes would make the kernel drop
 * them.
 */
export const closeMs = 10 * 60 * 1000;

export class Connections {
  /** In order of arrival. */
  readonly #unauthenticated = new Map<Socket, NodeJS.Timeout>();
  /** Each with a function that ends it. */
  readonly #sessions = new Map<Socket, () => void>();

  /** Adds a new connection, which has sent nothing yet. */
  admit(socket: Socket): void {
    const [oldest] = this.#unauthenticated.keys();
    if (oldest !== undefined && this.#unauthenticated.size >= maxUnauthenticated) oldest.destroy();
    this.#unauthenticated.set(
      socket,
      setTimeout(() => socket.destroy(), unauthenticatedMs),
    );
    socket.once("close", () => {
      this.#forgetUnauthenticated(socket);
      this.#sessions.delete(socket);
    });
  }

  get full(): boolean {
    return this.#sessions.size >= maxSessions;
  }

  /** The connection has presented a valid token. `end` ends its session gracefully. */
  authenticated(socket: Socket, end: () => void): void {
    this.#forgetUnauthenticated(socket);
    this.#sessions.set(socket, end);
  }

  /** Ends sessions gracefully, and other connections at once. */
  end(): void {
    for (const socket of this.#unauthenticated.keys()) socket.destroy();
    for (const end of this.#sessions.values()) end();
  }

  destroyAll(): void {
    for (const socket of [...this.#unauthenticated.keys(), ...this.#sessions.keys()]) socket.destroy();
  }

  #forgetUnauthenticated(socket: Socket): void {
    clearTimeout(this.#unauthenticated.get(socket));
    this.#unauthenticated.delete(socket);
  }
}
