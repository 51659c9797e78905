# frozen_string_literal: true

# The application of apps.py over Rack, for Puma.

PLAIN = { "content-type" => "text/plain" }.freeze
LARGE = ("x" * (1 << 20)).freeze

def sized(status, fields, body)
  [status, fields.merge("content-length" => body.bytesize.to_s), [body]]
end

def found(path)
  case path
  when "/text" then sized(200, PLAIN, "hello\n")
  when "/no-content" then [204, {}, []]
  when "/not-modified" then [304, {}, []]
  when "/redirect" then sized(302, { "location" => "/text" }, "")
  when "/cookies" then sized(200, { "set-cookie" => "a=1\nb=2" }, "")
  when "/chunks" then [200, {}, ["one ", "two ", "three"]]
  when "/error" then sized(500, {}, "broken")
  when "/large" then sized(200, {}, LARGE)
  when "/early" then sized(401, { "connection" => "close" }, "no")
  else sized(404, {}, "not here")
  end
end

run(lambda do |env|
  path = env["PATH_INFO"]
  if path.end_with?("/echo")
    sized(200, PLAIN.merge("x-seen" => env["REQUEST_METHOD"]), env["rack.input"].read)
  elsif path.include?("echo-target")
    sized(200, PLAIN, env["REQUEST_URI"])
  else
    found(path)
  end
end)
