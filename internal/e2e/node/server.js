// A webhook in Node without a framework: one path, POST only.
const http = require("node:http");

const server = http.createServer((req, res) => {
  if (req.method !== "POST" || req.url !== "/webhooks/node") {
    res.writeHead(404, { "Content-Type": "application/json" });
    res.end('{"error":"not here"}');
    return;
  }
  let body = "";
  req.setEncoding("utf8");
  req.on("data", (chunk) => (body += chunk));
  req.on("end", () => {
    const payload = JSON.parse(body);
    console.log("got", payload.event.scope, payload.repo.name);
    res.writeHead(200, { "Content-Type": "application/json" });
    res.end("{}");
  });
});

server.listen(process.env.PORT || 3000, () => console.log(`listening on ${server.address().port}`));
