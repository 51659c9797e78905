<?php
// The application of server.py for PHP's built-in server.
$path = parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH);
$body = file_get_contents("php://input");
header_remove("X-Powered-By");
header("content-type: text/plain");
if (str_ends_with($path, "/echo")) {
    header("x-seen: " . $_SERVER["REQUEST_METHOD"]);
    echo $body;
} elseif (str_contains($path, "echo-target")) {
    echo $_SERVER["REQUEST_URI"];
} elseif ($path === "/text") {
    echo "hello\n";
} elseif ($path === "/no-content") {
    http_response_code(204);
} elseif ($path === "/not-modified") {
    http_response_code(304);
} elseif ($path === "/redirect") {
    header("location: /text", true, 302);
} elseif ($path === "/cookies") {
    header("set-cookie: a=1", false);
    header("set-cookie: b=2", false);
} elseif ($path === "/chunks") {
    foreach (["one ", "two ", "three"] as $piece) {
        echo $piece;
        flush();
    }
} elseif ($path === "/error") {
    http_response_code(500);
    echo "broken";
} elseif ($path === "/large") {
    echo str_repeat("x", 1 << 20);
} elseif ($path === "/early") {
    http_response_code(401);
    header("connection: close");
    echo "no";
} else {
    http_response_code(404);
    echo "not here";
}
