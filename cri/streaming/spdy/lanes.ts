// Paces sending on a connection of independent streams, so that one unread stream does not block the others.
//
// SPDY windows would do that, but the Go peers (moby/spdystream: kubectl, crictl, the kubelet) do not implement them.
// They pass frames to five workers, by stream id modulo five, through queues of fifty frames. A worker waits for the
// reader of its stream; a full queue stops the entire connection. So each worker has a lane here, with fewer frames in
// flight than its queue holds. PINGs report what has been read: the peer distributes them to its workers in turn,
// behind the frames already queued there. A stuck lane does not answer its PINGs, and they take space in its queue: once
// `maxPings` are pending in a lane that the turn would cross, a probe is a SYN_STREAM instead, whose id selects the
// lane, and which is reset when answered. Streams that share a lane with a stuck one (every fifth) do wait for it:
// nothing sent to them would be read.

import { ControlType, controlFrame, numbers } from "./frames.ts";

const laneCount = 5;
/** Maximum number of frames in flight in a lane; the queue holds 50, and PINGs count too. */
const window = 32;
/** Number of frames after which a probe is sent. */
const probeEvery = 16;
const maxPings = 4;
/** A peer that has answered no probe within this time, milliseconds, does not answer probes and is not paced. */
const firstAnswerMs = 10_000;

type Done = (error?: Error | null) => void;

interface Waiting {
  readonly streamId: number;
  readonly frame: () => Buffer;
  readonly done: Done;
}

interface Lane {
  readonly index: number;
  /** At most one entry per stream: each has one write in flight. */
  waiting: Waiting[];
  /** Frames sent but not known to be read. */
  unread: number;
  /** Frames sent after the last probe. */
  unprobed: number;
  /** Our PINGs in this lane that are not answered yet. */
  pings: number;
}

interface Probe {
  readonly lane: Lane;
  readonly frames: number;
}

export class Lanes {
  readonly #write: (bytes: Buffer, done: Done) => void;
  readonly #headers: () => Buffer;
  readonly #lanes: readonly Lane[] = Array.from({ length: laneCount }, (_, index) => ({
    index,
    waiting: [],
    unread: 0,
    unprobed: 0,
    pings: 0,
  }));
  /** Probes by PING id and by stream id: both kinds of ids are even, so each has its own map. */
  readonly #pings = new Map<number, Probe>();
  readonly #streams = new Map<number, Probe>();
  #firstAnswer: NodeJS.Timeout | undefined;
  #turn = 0;
  #lastPing = 0;
  #lastStream = 0;
  #window = window;
  #closed = false;

  /** `headers` creates the next empty header block; called in the order of writing. */
  constructor(write: (bytes: Buffer, done: Done) => void, headers: () => Buffer) {
    this.#write = write;
    this.#headers = headers;
  }

  /** Sends the frame when its lane has room; calls `done` when it is written. */
  send(streamId: number, frame: () => Buffer, done: Done): void {
    if (this.#closed) {
      done(new Error("the client hung up"));
      return;
    }
    this.#firstAnswer ??= this.#begin();
    const lane = this.#laneOf(streamId);
    lane.waiting.push({ streamId, frame, done });
    this.#flush(lane);
  }

  /** Drops the stream's waiting frames. */
  forget(streamId: number): void {
    const lane = this.#laneOf(streamId);
    const dropped = lane.waiting.filter((waiting) => waiting.streamId === streamId);
    lane.waiting = lane.waiting.filter((waiting) => waiting.streamId !== streamId);
    for (const { done } of dropped) done(new Error("the stream was reset"));
  }

  /** A PING of the peer was answered: the reply also takes a turn among its workers. */
  tookTurn(): void {
    this.#turn = (this.#turn + 1) % laneCount;
  }

  pingAnswered(id: number): void {
    const probe = this.#pings.get(id);
    if (probe === undefined) return;
    this.#pings.delete(id);
    probe.lane.pings -= 1;
    this.#answered(probe);
  }

  /** The peer accepted or refused a stream of ours. */
  streamAnswered(id: number): void {
    const probe = this.#streams.get(id);
    if (probe === undefined) return;
    this.#streams.delete(id);
    this.#put(probe.lane, () => controlFrame(ControlType.rstStream, 0, numbers(id, 5)));
    this.#answered(probe);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#firstAnswer);
    for (const lane of this.#lanes) {
      const { waiting } = lane;
      lane.waiting = [];
      for (const { done } of waiting) done(new Error("the client hung up"));
    }
  }

  /**
   * Starts with the first frame, after the peer has sent one: Go's upgrade loses data that arrives together with the
   * 101.
   */
  #begin(): NodeJS.Timeout {
    this.#ping();
    return setTimeout(() => {
      this.#window = Number.POSITIVE_INFINITY;
      for (const lane of this.#lanes) this.#flush(lane);
    }, firstAnswerMs);
  }

  #laneOf(streamId: number): Lane {
    const lane = this.#lanes[streamId % laneCount];
    if (lane === undefined) throw new RangeError(`no lane for stream ${streamId}`);
    return lane;
  }

  #flush(lane: Lane): void {
    while (lane.unread < this.#window) {
      const next = lane.waiting.shift();
      if (next === undefined) return;
      this.#put(lane, next.frame, next.done);
      if (lane.unprobed >= probeEvery && this.#window === window) this.#probe(lane);
    }
  }

  #put(lane: Lane, frame: () => Buffer, done: Done = () => undefined): void {
    lane.unread += 1;
    lane.unprobed += 1;
    this.#write(frame(), done);
  }

  #probe(lane: Lane): void {
    const turns = ((lane.index - this.#turn + laneCount) % laneCount) + 1;
    const crossed = Array.from({ length: turns }, (_, step) => this.#laneOf(this.#turn + step));
    if (crossed.some(({ pings }) => pings >= maxPings)) this.#openStream(lane);
    else for (const _ of crossed) this.#ping();
  }

  #ping(): void {
    const lane = this.#laneOf(this.#turn);
    this.tookTurn();
    this.#lastPing = this.#lastPing >= 0x7ffffffe ? 2 : this.#lastPing + 2;
    this.#pings.set(this.#lastPing, this.#covering(lane));
    lane.pings += 1;
    this.#write(controlFrame(ControlType.ping, 0, numbers(this.#lastPing)), () => undefined);
  }

  /** The stream's id is the next even one of the lane. */
  #openStream(lane: Lane): void {
    let id = this.#lastStream + 2;
    while (id % laneCount !== lane.index) id += 2;
    this.#lastStream = id;
    const fixed = Buffer.concat([numbers(id, 0), Buffer.alloc(2)]);
    this.#put(lane, () => controlFrame(ControlType.synStream, 0, Buffer.concat([fixed, this.#headers()])));
    this.#streams.set(id, this.#covering(lane));
  }

  #covering(lane: Lane): Probe {
    const frames = lane.unprobed;
    lane.unprobed = 0;
    return { lane, frames };
  }

  #answered({ lane, frames }: Probe): void {
    clearTimeout(this.#firstAnswer);
    lane.unread -= frames;
    this.#flush(lane);
  }
}
