// Connections to one monitor: opened when a call needs one; one is kept for the next call if the monitor supports that.

import { closeSync, constants, existsSync, openSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";

/** The user of a connection for the duration of a call. */
export interface ConnectionUser {
  /** Bytes from the monitor; they are only valid until this returns. */
  data(chunk: Buffer): void;
  /** The connection is closed; called once. */
  gone(error: NodeJS.ErrnoException | undefined): void;
}

/** sun_path holds 108 bytes with its final NUL (unix(7)). */
const longestSocketPath = 107;
/** All connections read into it; each passes its data on before another one can read. */
const readBuffer = Buffer.allocUnsafeSlow(64 << 10);

/** A connection carries one call at a time. */
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

  /** Its call is over; it stays open for the next one. */
  endUse(): void {
    this.#user = undefined;
  }

  write(bytes: Buffer, written?: () => void): void {
    this.#socket.write(bytes, written);
  }

  /** Combines several writes into one. */
  together(writes: () => void): void {
    this.#socket.cork();
    writes();
    this.#socket.uncork();
  }

  /** Stops reading, so that the monitor stops reading from its process; at most one more chunk (64 KiB) arrives. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Closes it; its user is not called any more. */
  destroy(): void {
    this.#user = undefined;
    this.#socket.destroy();
  }
}

/** The connections to the monitor of one pod directory (absolute, any length). */
export class MonitorConnections {
  readonly podDirectory: string;
  readonly socketPath: string;
  #idle: MonitorConnection | undefined;
  #keeps: boolean | undefined;

  constructor(podDirectory: string) {
    this.podDirectory = podDirectory;
    this.socketPath = join(podDirectory, "monitor.sock");
  }

  /** Whether this monitor supports `keep` and `brief`: older ones do not. */
  get keeps(): boolean {
    this.#keeps ??= existsSync(join(this.podDirectory, "keeps-connections"));
    return this.#keeps;
  }

  /** Takes the idle connection, if there is one. */
  takeIdle(): MonitorConnection | undefined {
    const idle = this.#idle;
    this.#idle = undefined;
    return idle?.usable === true ? idle : undefined;
  }

  /** Keeps the connection for the next call. One per monitor is enough: others are only for concurrent calls. */
  release(connection: MonitorConnection): void {
    if (this.#idle?.usable === true || !connection.usable) {
      connection.destroy();
      return;
    }
    connection.endUse();
    this.#idle = connection;
  }

  /** Opens a connection. Errors are reported to its user, or thrown. */
  open(): MonitorConnection {
    if (Buffer.byteLength(this.socketPath) <= longestSocketPath) return new MonitorConnection(this.socketPath);
    // A path too long for a socket address is accessed through a descriptor for its directory.
    const directory = openSync(this.podDirectory, constants.O_DIRECTORY | constants.O_RDONLY);
    try {
      // connect(2) of a Unix socket happens within this call; only its result is reported later.
      return new MonitorConnection(`/proc/self/fd/${directory}/monitor.sock`);
    } finally {
      closeSync(directory);
    }
  }
}
