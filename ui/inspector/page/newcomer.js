// The page before the first delivery: how to begin.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { trigger } from "./api.js";
import { endpointURLs, webhookSettings } from "./parts.js";
import { attempt, link, navigate, state } from "./store.js";

async function sendSample(endpoint) {
  const answer = await attempt("Sending a sample event", () => trigger({ endpoint, scope: "repo.content" }));
  if (answer) navigate({ delivery: answer.delivery });
}

function reachable() {
  const { tunnel, addresses } = state.status;
  if (tunnel?.phase === "online" || addresses.public) return nothing;
  return html`<p class="note">These addresses work on this machine only. For a public URL give hubhook an ngrok authtoken (<code>NGROK_AUTHTOKEN</code>) and start it again;
    <a href=${link({ view: "status" })}>Status</a> says how the tunnel stands.</p>`;
}

export function newcomer() {
  if (!state.status) return html`<p class="quiet padded" role="status">Loading…</p>`;
  const { endpoints } = state.status;
  return html`
    <div class="newcomer">
      <h2>Nothing has come yet. Here is how to begin.</h2>
      <ol>
        <li><h3>Try it here</h3>
          <p>A sample event goes the way that the Hub’s go: through the front door, into the queue, to your handler.</p>
          <p class="buttons">${endpoints.slice(0, 1).map((e) => html`<button type="button" class="primary" @click=${() => sendSample(e.name)}>Send a sample event</button>`)}
            <a class="button" href=${link({ view: "trigger" })}>Choose one</a></p>
          <p class="quiet">Or in a terminal: <code>hubhook trigger repo.content</code></p></li>
        <li><h3>Point the Hub at it</h3>
          <p>In ${webhookSettings()} add a webhook with ${endpoints.length === 1 ? "this URL" : "one of these URLs"}, and the same secret as here:</p>
          ${endpointURLs(endpoints)}
          ${reachable()}</li>
        <li><h3>Make it happen</h3>
          <p>Push a commit to a repo that the webhook watches, or open a discussion there. It appears here by itself, with what your handler made of it.
            What is refused, for a wrong secret say, is under <a href=${link({ view: "refused" })}>Refused</a>.</p></li>
      </ol>
    </div>`;
}
