// Four webhooks in Express: npm install, then hubhook dev -- node app.js
const { timingSafeEqual } = require("node:crypto");
const express = require("express");

const secret = process.env.WEBHOOK_SECRET || "";

// hubhook checks the secret, too. This is for a day without hubhook in front.
function checkSecret(req, res, next) {
  const given = req.get("x-webhook-secret");
  if (secret && given === undefined) return res.status(401).json({ error: "no secret was sent" });
  if (secret && !same(given, secret)) return res.status(403).json({ error: "the secret is wrong" });
  next();
}

function same(a, b) {
  [a, b] = [Buffer.from(a), Buffer.from(b)];
  return a.length === b.length && timingSafeEqual(a, b);
}

const handlers = {
  // trigger_training starts a training when somebody pushes to the main branch of a dataset.
  trigger_training({ body: { event, repo, updatedRefs } }, res) {
    const refs = (updatedRefs || []).map((r) => r.ref);
    if (repo.type !== "dataset" || event.scope !== "repo.content" || event.action !== "update" || !refs.includes("refs/heads/main")) return res.json({});
    console.log("training on", repo.name, "at", repo.headSha);
    res.json({ training_on: repo.headSha });
  },

  // trigger_evaluation evaluates a model that has changed. An error is a failed attempt, which hubhook makes again.
  trigger_evaluation({ body: { event, repo } }, res) {
    if (repo.type !== "model" || event.scope.split(".")[0] !== "repo" || event.action === "delete") return res.json({});
    if (!repo.headSha) return res.status(500).json({ error: "the payload has no headSha" });
    console.log("evaluating", repo.name, "at", repo.headSha);
    res.json({ evaluating: repo.headSha });
  },

  // say_hello greets every repo from which something comes.
  say_hello(req, res) {
    console.log("hello from", req.get("webhook-id"));
    res.json({ message: `hello ${req.body.repo.name}` });
  },

  // goodbye takes leave of what is deleted.
  goodbye({ body: { event, repo, discussion } }, res) {
    if (event.scope === "repo" && event.action === "delete") {
      console.log("goodbye", repo.name);
      return res.json({ message: `goodbye ${repo.name}` });
    }
    if (event.scope === "discussion" && event.action === "delete") console.log("goodbye discussion", discussion.num, "of", repo.name);
    res.json({});
  },
};

const app = express();
const webhooks = express.Router();
// A bucket's event may list 10,000 files, which is more than the 100 kB that Express takes.
webhooks.use(checkSecret, express.json({ limit: "16mb" }));
for (const [name, handler] of Object.entries(handlers)) webhooks.post(`/${name}`, handler);
app.use("/webhooks", webhooks);

const server = app.listen(process.env.PORT || 3000, "127.0.0.1", () => {
  // hubhook dev learns the endpoints from these lines.
  for (const name of Object.keys(handlers)) console.log(`  - POST http://127.0.0.1:${server.address().port}/webhooks/${name}`);
});
