// The connections of the streaming server: strangers, of which nothing is known yet, and sessions, which a token opened.
//
// Anybody on the node can connect, so that strangers cost little and take nothing from sessions: each has seconds, and
// one too many ends the oldest. A client that holds a token sends it with its first bytes and is none for long.

import type { Socket } from "node:net";

/** From accept(2) to the redeemed token, milliseconds; a kubelet's request comes at once. */
const strangerMs = 5_000;
/** More than a listen backlog (511): what one turn of the event loop accepts does not push out its own beginning. */
export const maxStrangers = 1024;
/** Sessions at once; more are told to come again. */
export const maxSessions = 1000;

export class Connections {
  /** In order of their coming. */
  readonly #strangers = new Map<Socket, NodeJS.Timeout>();
  readonly #sessions = new Set<Socket>();

  /** A connection that has said nothing yet. */
  admit(socket: Socket): void {
    const [oldest] = this.#strangers.keys();
    if (oldest !== undefined && this.#strangers.size >= maxStrangers) oldest.destroy();
    this.#strangers.set(
      socket,
      setTimeout(() => socket.destroy(), strangerMs),
    );
    socket.once("close", () => {
      this.#forgetStranger(socket);
      this.#sessions.delete(socket);
    });
  }

  get full(): boolean {
    return this.#sessions.size >= maxSessions;
  }

  /** Its token was good: it may stay. */
  redeemed(socket: Socket): void {
    this.#forgetStranger(socket);
    this.#sessions.add(socket);
  }

  destroyAll(): void {
    for (const socket of [...this.#strangers.keys(), ...this.#sessions]) socket.destroy();
  }

  #forgetStranger(socket: Socket): void {
    clearTimeout(this.#strangers.get(socket));
    this.#strangers.delete(socket);
  }
}
