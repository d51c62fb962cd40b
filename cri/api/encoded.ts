// Caches of encoded messages: objects that did not change since the last response are not encoded again.
//
// A protobuf message is the concatenation of its fields in any order, so encoded fields can be cached separately and
// joined (https://protobuf.dev/programming-guides/encoding/).

/** A response that is already encoded. */
export class Encoded {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** A message's generated encoder. */
export interface Encoder<Message> {
  encode(message: Message): { finish(): Uint8Array };
}

/** A message's generated decoder. */
export interface Decoder<Message> {
  decode(bytes: Uint8Array): Message;
}

/** A message field: tag, length, content (possibly in parts). `number` is at most 15, so that the tag is one byte. */
export function messageField(number: number, ...content: readonly Uint8Array[]): Buffer {
  const length = content.reduce((sum, part) => sum + part.length, 0);
  const head: number[] = [(number << 3) | 2];
  let left = length;
  while (left > 127) {
    head.push((left & 127) | 128);
    left >>>= 7;
  }
  head.push(left);
  const field = Buffer.allocUnsafe(head.length + length);
  field.set(head);
  let at = head.length;
  for (const part of content) {
    field.set(part, at);
    at += part.length;
  }
  return field;
}

/** Encodes an immutable object as field `number` of a message, once; the bytes are freed with the object. */
export function fieldCache<Key extends object, Message>(
  number: number,
  encoder: Encoder<Message>,
  describe: (key: Key) => Message,
): (key: Key) => Buffer {
  const known = new WeakMap<Key, Buffer>();
  return (key) => {
    const held = known.get(key);
    if (held !== undefined) return held;
    const field = messageField(number, encoder.encode(describe(key)).finish());
    // Small buffers are slices of 64 KiB pool blocks, which live as long as any of their slices: avoid the pool.
    const bytes = Buffer.allocUnsafeSlow(field.length);
    field.copy(bytes);
    known.set(key, bytes);
    return bytes;
  };
}

/** Joins the encoded items of a frequently requested list; as long as the items are the same, the result is reused. */
export function listCache(): (items: readonly Buffer[]) => Encoded {
  let joined: readonly Buffer[] = [];
  let answer = new Encoded(Buffer.alloc(0));
  return (items) => {
    if (items.length === joined.length && items.every((item, at) => item === joined[at])) return answer;
    joined = items;
    answer = new Encoded(Buffer.concat(items));
    return answer;
  };
}

/** Maximum size of a message of a streamed list: far below any client's limit, which defaults to 4 MiB. */
const itemsInMessage = 500;
const bytesInMessage = 2 << 20;

/** Splits a list's encoded items into the messages of its Stream* call: each item once, no empty message (KEP-5825). */
export function* inMessages(items: readonly Buffer[]): Generator<Encoded> {
  let message: Buffer[] = [];
  let bytes = 0;
  for (const item of items) {
    if (message.length === itemsInMessage || (message.length > 0 && bytes + item.length > bytesInMessage)) {
      yield new Encoded(Buffer.concat(message));
      [message, bytes] = [[], 0];
    }
    message.push(item);
    bytes += item.length;
  }
  if (message.length > 0) yield new Encoded(Buffer.concat(message));
}
