// Connections to one monitor: opened when a call needs one, and one kept for the next call where the monitor keeps it too.

import { closeSync, constants, existsSync, openSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";

/** Who uses a connection for the time of a call. */
export interface ConnectionUser {
  /** Bytes from the monitor; they are overwritten when this returns. */
  data(chunk: Buffer): void;
  /** The connection is gone; comes once. */
  gone(error: NodeJS.ErrnoException | undefined): void;
}

/** sun_path holds 108 bytes with its final NUL (unix(7)). */
const longestSocketPath = 107;
/** Every connection reads into it, and hands on what it has read before another can read. */
const readBuffer = Buffer.allocUnsafeSlow(64 << 10);

/** Each carries one call at a time. */
export class MonitorConnection {
  readonly #socket: Socket;
  #user: ConnectionUser | undefined;
  #error: NodeJS.ErrnoException | undefined;

  constructor(path: string) {
    const callback = (length: number): boolean => {
      if (this.#user === undefined) this.destroy();
      else this.#user.data(readBuffer.subarray(0, length));
      return true;
    };
    this.#socket = connect({ path, onread: { buffer: readBuffer, callback } });
    this.#socket.on("error", (error) => {
      this.#error = error;
    });
    this.#socket.on("close", () => {
      const user = this.#user;
      this.#user = undefined;
      user?.gone(this.#error);
    });
  }

  get usable(): boolean {
    return !this.#socket.destroyed && this.#socket.readable && !this.#socket.isPaused();
  }

  use(user: ConnectionUser): void {
    this.#user = user;
  }

  /** Nobody uses it until the next call. */
  rest(): void {
    this.#user = undefined;
  }

  write(bytes: Buffer, written?: () => void): void {
    this.#socket.write(bytes, written);
  }

  /** Several writes that go out as one. */
  together(writes: () => void): void {
    this.#socket.cork();
    writes();
    this.#socket.uncork();
  }

  /** Stops reading, so that the monitor stops reading its process; at most one chunk (64 KiB) still comes. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Its user hears nothing more. */
  destroy(): void {
    this.#user = undefined;
    this.#socket.destroy();
  }
}

/** The connections to the monitor of one pod directory (absolute, any length). */
export class MonitorConnections {
  readonly podDirectory: string;
  readonly socketPath: string;
  #resting: MonitorConnection | undefined;
  #keeps: boolean | undefined;

  constructor(podDirectory: string) {
    this.podDirectory = podDirectory;
    this.socketPath = join(podDirectory, "monitor.sock");
  }

  /** Whether this monitor knows `keep` and `brief`: older ones do not. */
  get keeps(): boolean {
    this.#keeps ??= existsSync(join(this.podDirectory, "keeps-connections"));
    return this.#keeps;
  }

  /** The connection that rests, if there is one. */
  takeResting(): MonitorConnection | undefined {
    const resting = this.#resting;
    this.#resting = undefined;
    return resting?.usable === true ? resting : undefined;
  }

  /** Keeps the connection for the next call. One of a monitor is enough: a second is for two calls at once. */
  giveBack(connection: MonitorConnection): void {
    if (this.#resting?.usable === true || !connection.usable) {
      connection.destroy();
      return;
    }
    connection.rest();
    this.#resting = connection;
  }

  /** Connects. What is wrong is told to the user, or thrown. */
  open(): MonitorConnection {
    if (Buffer.byteLength(this.socketPath) <= longestSocketPath) return new MonitorConnection(this.socketPath);
    // A path too long for a socket address is reached through a descriptor of its directory.
    const directory = openSync(this.podDirectory, constants.O_DIRECTORY | constants.O_RDONLY);
    try {
      // connect(2) of a unix socket happens within this call; only its outcome is told later.
      return new MonitorConnection(`/proc/self/fd/${directory}/monitor.sock`);
    } finally {
      closeSync(directory);
    }
  }
}
