// The output of running handlers: the text fetched with the delivery, and the pieces from the stream.

const kept = 256 << 10; // bytes of an attempt
const attempts = 50; // attempts whose output is kept

const known = new Map(); // by delivery and attempt: {bytes, end}; end is the offset after the last byte

function entry(delivery, n) {
  const key = `${delivery} ${n}`;
  let e = known.get(key);
  if (!e) {
    e = { bytes: new Uint8Array(), end: 0 };
    known.set(key, e);
    if (known.size > attempts) known.delete(known.keys().next().value);
  }
  return e;
}

function append(e, bytes) {
  const all = new Uint8Array(e.bytes.length + bytes.length);
  all.set(e.bytes);
  all.set(bytes, e.bytes.length);
  e.bytes = all.subarray(Math.max(0, all.length - kept));
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// heard adds one piece from the stream.
export function heard({ delivery, n, offset, text }) {
  const e = entry(delivery, n);
  const bytes = encoder.encode(text);
  const end = offset + bytes.length;
  if (end <= e.end) return;
  if (offset > e.end) append(e, encoder.encode(e.end ? "\n[…]\n" : "[…]\n")); // a piece was missed
  append(e, bytes.subarray(Math.max(0, e.end - offset)));
  e.end = end;
}

// fetched stores the output of a running attempt from the API. The API leaves out the middle of a long output, so it tells the end's offset.
export function fetched(delivery, attempt) {
  const e = entry(delivery, attempt.n);
  if (attempt.output_bytes < e.end) return;
  e.bytes = encoder.encode(attempt.output);
  e.end = attempt.output_bytes;
}

// printed returns the known output of an attempt.
export function printed(delivery, attempt) {
  if (attempt.duration_ms !== null) return attempt.output;
  const e = known.get(`${delivery} ${attempt.n}`);
  return e ? decoder.decode(e.bytes) : attempt.output;
}
