// Requests of Node's http or https module, each described by a line of JSON on standard input, and what came of
// it as a line on standard output.
const fs = require("fs");
const readline = require("readline");

function ask(asked, done) {
  const url = new URL(asked.url);
  const http = require(url.protocol === "https:" ? "https" : "http");
  const fields = { ...asked.fields };
  if (asked.body !== null && !asked.noLength) fields["content-length"] = Buffer.byteLength(asked.body);
  const request = http.request({
    host: url.hostname,
    port: url.port,
    method: asked.method,
    // Node takes no UTF-8 in a target; these are its bytes.
    path: encodeURI(decodeURI(asked.target)),
    headers: fields,
    ca: url.protocol === "https:" ? fs.readFileSync(asked.ca) : undefined,
    agent: false,
    timeout: 10000,
  });
  const fail = (error) => done({ error: error.code ?? error.message });
  request.on("error", fail);
  request.on("response", (response) => {
    const pieces = [];
    response.on("error", fail);
    response.on("data", (piece) => pieces.push(piece));
    response.on("end", () => {
      const pairs = [];
      for (let at = 0; at < response.rawHeaders.length; at += 2) {
        pairs.push([response.rawHeaders[at], response.rawHeaders[at + 1]]);
      }
      done({ status: response.statusCode, fields: pairs, body: Buffer.concat(pieces).toString("hex") });
    });
  });
  request.end(asked.body ?? undefined);
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  let said = false;
  ask(JSON.parse(line), (outcome) => {
    // What goes wrong after a response is no second outcome.
    if (!said) process.stdout.write(JSON.stringify(outcome) + "\n");
    said = true;
  });
});
