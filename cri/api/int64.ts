// 64-bit integers between protobufjs's Long and bigint: nanoseconds do not fit a number.

import Long from "long";

/** The low 64 bits of `value`, as int64 and uint64 fields want them. */
export function toLong(value: bigint): Long {
  return new Long(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
}

/** Exact; absent is 0. Signed or not as the field is. */
export function toBigInt(value: Long | null | undefined): bigint {
  return value ? value.toBigInt() : 0n;
}
