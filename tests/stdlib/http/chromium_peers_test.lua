-- A browser opens a page that fetches, uploads, listens to events and talks WebSocket, and tells
-- the server what came of it. Over plain HTTP/1.1, and over TLS, where it chooses HTTP/2.
local async, test = require "rille.async", require "support.test"
local http, json = require "rille.http", require "rille.json"
local certificates = require "support.certificates"
local peers = require "stdlib.http.peers"

local PAGE = [==[<!doctype html><meta charset="utf-8"><title>test</title><script>
const results = {};
async function read(response) {
  const reader = response.body.getReader();
  let size = 0, pieces = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { size, pieces };
    size += value.length;
    pieces++;
  }
}
const tries = {
  async text() { return await (await fetch("/hello/w%C3%B6rld")).text(); },
  async many() {
    const all = await Promise.all([...Array(50).keys()].map(
      async i => await (await fetch("/hello/" + i)).text()));
    return all.every((text, i) => text == "hello " + i);
  },
  async json() {
    const r = await fetch("/echo", { method: "POST", body: JSON.stringify({ a: ["ä", null] }),
      headers: { "Content-Type": "application/json" } });
    return [r.headers.get("content-type"), await r.json()];
  },
  async upload() {
    const form = new FormData();
    form.append("a", "ü\"");
    form.append("file", new Blob(["x".repeat(300000)]), "na\"me.bin");
    return await (await fetch("/parts", { method: "POST", body: form })).json();
  },
  async compressed() {
    const r = await fetch("/large");
    return [r.headers.get("content-encoding"), (await r.text()).length];
  },
  async stream() {
    const { size, pieces } = await read(await fetch("/stream"));
    return [size, pieces > 1];
  },
  async aborted() {
    const control = new AbortController();
    const r = await fetch("/endless", { signal: control.signal });
    await r.body.getReader().read();
    control.abort();
    return await (await fetch("/gone")).text();
  },
  async cookie() {
    const r = await fetch("/cookie");
    return [await r.text(), document.cookie];
  },
  async redirect() {
    const r = await fetch("/old");
    return [r.redirected, new URL(r.url).pathname, await r.text()];
  },
  async range() {
    const r = await fetch("/files/f.txt", { headers: { Range: "bytes=2-4" } });
    return [r.status, await r.text()];
  },
  async missing() { return (await fetch("/nowhere")).status; },
  events() {
    return new Promise(resolve => {
      const got = [], source = new EventSource("/events");
      source.addEventListener("tick", e => {
        got.push(e.lastEventId + e.data);
        if (got.length == 4) { source.close(); resolve(got); }
      });
    });
  },
  websocket() {
    return new Promise(resolve => {
      const ws = new WebSocket(location.origin.replace("http", "ws") + "/ws", ["other", "echo"]);
      const got = [], sent = ["hello", "", "ä".repeat(100000), new Uint8Array(70000)];
      ws.binaryType = "arraybuffer";
      ws.onopen = () => { got.push(ws.protocol, ws.extensions); sent.forEach(m => ws.send(m)); };
      ws.onmessage = e => {
        got.push(typeof e.data == "string" ? e.data.length : [e.data.byteLength]);
        if (got.length == 6) ws.send("bye");
      };
      ws.onclose = e => { got.push([e.code, e.reason, e.wasClean]); resolve(got); };
    });
  },
  async protocol() {
    const entries = performance.getEntriesByType("resource");
    return entries.find(e => e.name.endsWith("/large")).nextHopProtocol;
  },
};
(async () => {
  for (const [name, fn] of Object.entries(tries)) {
    try { results[name] = await fn(); } catch (e) { results[name] = "failed: " + e; }
  }
  await fetch("/done", { method: "POST", body: JSON.stringify(results) });
})();
</script>]==]

local function make_app(dir, done)
  local app = http.App()
  local gone = async.Event()
  app:get("/", function() return http.response { html = PAGE } end)
  app:get("/hello/{name}", function(req) return "hello " .. req.params.name end)
  app:post("/echo", function(req)
    return 200, req:body(), { ["Content-Type"] = req.headers["content-type"] }
  end)
  app:post("/parts", function(req)
    local parts = {}
    for part in req:multipart() do
      local size = 0
      for chunk in part:chunks() do size = size + #chunk end
      parts[#parts + 1] = { part.name, part.filename or json.null, size }
    end
    return parts
  end)
  app:get("/large", function() return ("0123456789"):rep(100000) end)
  app:get("/stream", function()
    local left = 50
    return http.response { stream = function()
      left = left - 1
      async.sleep(0.001)
      return left >= 0 and ("x"):rep(10000) or nil
    end }
  end)
  app:get("/endless", function()
    local stream = setmetatable({ close = function() gone:set() end },
      { __call = function()
        async.sleep(0.001)
        return "x"
      end })
    return http.response { stream = stream }
  end)
  app:get("/gone", function()
    gone:wait()
    return "gone"
  end)
  app:get("/cookie", function()
    return http.response { body = "baked" }:set_cookie("a", "b", { http_only = false })
  end)
  app:get("/old", function() return http.redirect "/hello/new" end)
  app:get("/events", function(req)
    -- Two at a time: the browser comes back for the rest, and says where it was.
    local last = tonumber(req.headers["last-event-id"]) or 0
    local first = last
    return http.response { sse = function()
      last = last + 1
      if last > first + 2 then return nil end
      return { event = "tick", id = last, data = "\n", retry = 10, comment = "c" }
    end }
  end)
  app:websocket("/ws", function(ws)
    for message, kind in ws:messages() do
      if message == "bye" then
        ws:close(4001, "as you wish")
      elseif kind == "text" then
        ws:send(message)
      else
        ws:send_binary(message)
      end
    end
  end, { subprotocols = { "echo" } })
  app:post("/done", function(req)
    done:set_result(req:json())
    return 204
  end)
  app:static("/files", dir)
  return app
end

-- Opens the page in a browser, and gives what it reports.
local function browse(scheme, options)
  local dir = test.tmpdir()
  test.write(dir .. "/f.txt", "abcdefgh")
  local done = async.Future()
  options.compress = true
  local _, server = peers.serve(make_app(dir, done), options)
  -- All that it writes is below a folder of its own.
  local own = dir .. "/browser"
  os.execute("mkdir " .. own)
  local browser = peers.spawn {
    "env", "HOME=" .. own, "TMPDIR=" .. own,
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--ignore-certificate-errors", "--user-data-dir=" .. own .. "/user",
    ("%s://127.0.0.1:%d/"):format(scheme, server.port), stdout = "null", stderr = "null",
  }
  local results = done:await()
  browser:kill("SIGKILL", { group = true })
  browser:wait()
  -- Its helpers write there until they see that it has gone.
  for _ = 1, 500 do
    if os.execute("rm -rf " .. own .. " 2> /dev/null") == 0 then break end
    async.sleep(0.01)
  end
  return results
end

local function check(results, protocol)
  local ws = results.websocket
  local extension = table.remove(ws, 2)
  test.matches(extension, "permessage%-deflate")
  test.eq(results, {
    text = "hello wörld", many = true,
    json = { "application/json", { a = { "ä", json.null } } },
    upload = { { "a", json.null, 3 }, { "file", 'na"me.bin', 300000 } },
    compressed = { results.compressed[1], 1000000 }, stream = { 500000, true }, aborted = "gone",
    cookie = { "baked", "a=b" }, redirect = { true, "/hello/new", "hello new" },
    range = { 206, "cde" }, missing = 404, events = { "1\n", "2\n", "3\n", "4\n" },
    websocket = { "echo", 5, 0, 100000, { 70000 }, { 4001, "as you wish", true } },
    protocol = protocol,
  })
  test.matches(results.compressed[1], "^[bgz]")
end

peers.test("chromium", "a browser: fetch, uploads, streams, events, WebSocket", { limit = 5 },
  function() check(browse("http", {}), "http/1.1") end)

peers.test("chromium openssl", "a browser over TLS", { limit = 5 }, function()
  local authority = certificates.authority(test.tmpdir())
  local server = authority:issue("localhost", { names = "IP:127.0.0.1" })
  check(browse("https", { tls = { cert = server.cert, key = server.key } }), "h2")
end)
