// Splits stat(2)'s device number into major and minor, as glibc encodes them. Source: makedev(3).

export function deviceNumbers(device: bigint): { readonly major: number; readonly minor: number } {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xffff_f000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffff_ff00n);
  return { major: Number(major), minor: Number(minor) };
}
