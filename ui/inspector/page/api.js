// The inspector's HTTP API, as the page uses it.

import { parseExact } from "./format.js";

// APIError is an answer with an error status, or no answer at all (status 0).
class APIError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, { parse = JSON.parse, ...options } = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { Accept: "application/json", ...options.headers } });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new APIError(0, "hubhook does not answer; is it still running?");
  }
  let answer;
  try {
    answer = parse(await response.text());
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new APIError(response.status, `the answer, with status ${response.status}, is not whole; try again`);
  }
  if (!response.ok) throw new APIError(response.status, answer.error || `status ${response.status}`);
  return answer;
}

const post = (path, body) => request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });

const query = (fields) => {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== "" && value !== undefined && value !== null) params.set(name, value);
  }
  return String(params);
};

const deliveryPath = (id) => `/api/deliveries/${encodeURIComponent(id)}`;

export const listDeliveries = (filter, signal) => request(`/api/deliveries?${query(filter)}`, { signal });
// The result in it may have numbers that JavaScript can't hold.
export const getDelivery = (id, signal) => request(deliveryPath(id), { signal, parse: parseExact });
export const discard = (id) => post(`${deliveryPath(id)}/discard`, "{}");
export const trigger = (fields) => post("/api/trigger", JSON.stringify(fields));
export const getStatus = () => request("/api/status");
export const getRejected = () => request("/api/rejected");
export const getTunnel = () => request("/api/tunnel");
export const getSamples = () => request("/api/samples");
export const getSeries = (last, endpoint) => request(`/api/series?${query({ last, endpoint })}`);

// replay handles a delivery once more, with the text of another payload if one is given. The text is sent byte for byte.
export const replay = (id, text) => post(`${deliveryPath(id)}/replay`, JSON.stringify({ text }));

// readPayload asks how an endpoint would read a text, whether the text is a payload yet or not.
export const readPayload = (text, signal) =>
  request("/api/payload", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text }), signal });
