// Declarations for the parts of @homebridge/dbus-native that are used; its own declarations lack them. Importing its
// index would also load three XML libraries (7 MB of memory) for introspection, which is not needed.

declare module "@homebridge/dbus-native/lib/handshake.js" {
  import type { EventEmitter } from "node:events";

  /** Read by `readable` events and `read`. */
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

  /** A message's header fields and body. */
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
    /** Throws if the body does not match the signature. */
    marshall(message: Message): Buffer;
    unmarshalMessages(source: Source, each: (message: Message) => void, options: object): void;
  };
  export default codec;
}
