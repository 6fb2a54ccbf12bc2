// Texts for people, and texts to copy.

const pad = (n, width = 2) => String(n).padStart(width, "0");
const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// clock formats a time for a list: the time of day, after the date if that is not today.
export function clock(text, now = new Date()) {
  const at = new Date(text);
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  if (at.toDateString() === now.toDateString()) return time;
  const year = at.getFullYear() === now.getFullYear() ? "" : `${at.getFullYear()} `;
  return `${year}${months[at.getMonth()]} ${at.getDate()} ${time}`;
}

// moment formats a time to the millisecond, with its date and its offset from UTC.
export function moment(text) {
  const at = new Date(text);
  const offset = -at.getTimezoneOffset();
  const zone = `${offset < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(offset) / 60))}:${pad(Math.abs(offset) % 60)}`;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ` +
    `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)} ${zone}`;
}

// duration formats milliseconds, with the digits that matter.
export function duration(ms) {
  if (ms === 0) return "< 1 ms";
  if (ms < 10 && !Number.isInteger(ms)) return `${Number(ms.toPrecision(2))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(2)} s`;
  if (s < 60) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
}

// ago says roughly how long ago a time was.
export function ago(text, now = Date.now()) {
  const s = Math.max(0, Math.round((now - new Date(text)) / 1000));
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

// size formats a number of bytes.
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB"];
  let n = bytes;
  let unit = "B";
  for (const u of units) {
    if (n < 1024) break;
    n /= 1024;
    unit = u;
  }
  return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${unit}`;
}

export const count = (n) => n.toLocaleString("en");

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// event returns an event's name, as the terminal shows it.
export function eventName(d) {
  if (!d.event.scope && !d.event.action) return "unreadable";
  return d.event.action ? `${d.event.scope}/${d.event.action}` : d.event.scope;
}

// parseExact is JSON.parse that keeps numbers which JavaScript would change, such as 12345678901234567890 and 1.0. isExact recognizes such
// a number. Its field rawJSON is the original text, and JSON.stringify writes that again.
export function parseExact(text) {
  if (!JSON.rawJSON || !/\d{16}|\d[eE]|\d\.\d*0[,\s}\]]|-0/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) => (typeof value === "number" && String(value) !== context.source ? JSON.rawJSON(context.source) : value));
}

export const isExact = (value) => JSON.isRawJSON?.(value) ?? false;

// reindent breaks JSON into indented lines. It changes white space alone: JSON.parse would change numbers, escapes and keys that come
// twice. Text that is no JSON comes out badly indented, but complete.
export function reindent(text, indent = "  ") {
  const out = [];
  let depth = 0;
  let i = 0;
  const line = () => out.push("\n", indent.repeat(Math.max(0, depth)));
  const skip = () => {
    while (i < text.length && " \t\r\n".includes(text[i])) i++;
  };
  for (;;) {
    skip();
    if (i >= text.length) return out.join("");
    const c = text[i];
    switch (c) {
      case '"': {
        const from = i++;
        while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
        out.push(text.slice(from, ++i));
        break;
      }
      case "{":
      case "[": {
        i++;
        skip();
        const close = c === "{" ? "}" : "]";
        if (text[i] === close) {
          out.push(c, close);
          i++;
          break;
        }
        depth++;
        out.push(c);
        line();
        break;
      }
      case "}":
      case "]":
        i++;
        depth--;
        line();
        out.push(c);
        break;
      case ",":
        i++;
        out.push(c);
        line();
        break;
      case ":":
        i++;
        out.push(": ");
        break;
      default: {
        const from = i;
        while (i < text.length && !' \t\r\n{}[],:"'.includes(text[i])) i++;
        out.push(text.slice(from, i));
      }
    }
  }
}

// quote turns any text into one word of a POSIX shell.
export const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// Headers that curl sets by itself, or that belong to one connection.
const ownHeaders = new Set(["content-length", "host", "connection", "accept-encoding", "transfer-encoding"]);

// curl returns a command that sends a delivery again from outside, byte for byte. The reader's shell supplies the secret.
export function curl(record, url) {
  const words = [`curl -X POST ${quote(url)}`];
  for (const [name, values] of Object.entries(record.headers)) {
    if (ownHeaders.has(name.toLowerCase())) continue;
    for (const value of values) {
      if (name === "X-Webhook-Secret") words.push(`-H "X-Webhook-Secret: $WEBHOOK_SECRET"`);
      else if (value !== "[secret]") words.push(`-H ${quote(`${name}: ${value}`)}`);
    }
  }
  words.push(`--data-binary ${quote(record.body)}`);
  return words.join(" \\\n  ");
}

// safeURL returns only URLs that may become a link, because payloads come from strangers.
export function safeURL(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}
