// The parts of @homebridge/dbus-native that are used, which its own declarations leave out. Its index would load three
// XML libraries too, 7 MB of memory, for an introspection that nobody asks for.

declare module "@homebridge/dbus-native/lib/handshake.js" {
  import type { EventEmitter } from "node:events";

  /** What it reads by `readable` events and `read`, and writes to. */
  interface Channel extends EventEmitter {
    read(size: number): Buffer | null;
    write(data: string): unknown;
  }

  export default function authenticate(
    channel: Channel,
    options: { readonly authMethods: readonly string[] },
    done: (error: Error | null) => void,
  ): void;
}

declare module "@homebridge/dbus-native/lib/message.js" {
  import type { EventEmitter } from "node:events";

  /** Members of the header that a message has, and its body. */
  export interface Message {
    readonly type?: number;
    readonly flags?: number;
    readonly serial?: number;
    readonly replySerial?: number;
    readonly destination?: string;
    readonly sender?: string;
    readonly path?: string;
    readonly interface?: string;
    readonly member?: string;
    readonly errorName?: string;
    readonly signature?: string;
    readonly body?: readonly unknown[];
  }

  interface Source extends EventEmitter {
    read(size: number): Buffer | null;
  }

  const codec: {
    /** Throws what does not fit its signature. */
    marshall(message: Message): Buffer;
    unmarshalMessages(source: Source, each: (message: Message) => void, options: object): void;
  };
  export default codec;
}
