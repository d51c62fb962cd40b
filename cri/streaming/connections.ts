// The connections of the streaming server: unauthenticated ones, which have shown no token yet, and sessions.
//
// Anybody on the node can connect, so an unauthenticated connection costs little and takes nothing from sessions: each
// has seconds, and one too many ends the oldest. A client that holds a token sends it with its first bytes.

import type { Socket } from "node:net";

/** From accept(2) to the redeemed token, milliseconds; a kubelet's request comes at once. */
const unauthenticatedMs = 5_000;
/** More than a listen backlog (511): what one turn of the event loop accepts does not push out its own beginning. */
export const maxUnauthenticated = 1024;
/** Sessions at once; more are answered 429 (Too Many Requests). */
export const maxSessions = 1000;
/**
 * How long a client may take to read what is left after the end of its session, and to hang up, milliseconds. Its
 * last megabytes may lie in the kernel: had the server closed, the client's next bytes would make the kernel drop them.
 */
export const closeMs = 10 * 60 * 1000;

export class Connections {
  /** In the order of their arrival. */
  readonly #unauthenticated = new Map<Socket, NodeJS.Timeout>();
  /** With what ends each. */
  readonly #sessions = new Map<Socket, () => void>();

  /** A connection that has said nothing yet. */
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

  /** Its token was good: it may stay. `end` lets its session end in order. */
  authenticated(socket: Socket, end: () => void): void {
    this.#forgetUnauthenticated(socket);
    this.#sessions.set(socket, end);
  }

  /** Ends sessions in order, and other connections at once. */
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
