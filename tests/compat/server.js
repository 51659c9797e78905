// A server of Node's http module, which responds as server.py does.
const http = require("http");

const PLAIN = { "content-type": "text/plain" };

function respond(request, response, body) {
  const path = request.url.split("?")[0];
  if (path.endsWith("/echo")) {
    response.writeHead(200, { ...PLAIN, "x-seen": request.method, "content-length": body.length });
    return response.end(body);
  }
  if (path.includes("echo-target")) {
    response.writeHead(200, PLAIN);
    return response.end(Buffer.from(request.url, "latin1"));
  }
  const known = {
    "/text": [200, PLAIN, "hello\n"],
    "/no-content": [204, {}, ""],
    "/not-modified": [304, {}, ""],
    "/redirect": [302, { location: "/text" }, ""],
    "/cookies": [200, { "set-cookie": ["a=1", "b=2"] }, ""],
    "/error": [500, {}, "broken"],
    "/large": [200, {}, "x".repeat(1 << 20)],
  };
  if (path === "/chunks") {
    response.writeHead(200);
    for (const piece of ["one ", "two ", "three"]) response.write(piece);
    return response.end();
  }
  const [status, fields, text] = known[path] ?? [404, {}, "not here"];
  response.writeHead(status, fields);
  response.end(text);
}

const server = http.createServer((request, response) => {
  if (request.url.startsWith("/early")) {
    response.writeHead(401, { connection: "close" });
    return response.end("no");
  }
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => respond(request, response, Buffer.concat(pieces)));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
