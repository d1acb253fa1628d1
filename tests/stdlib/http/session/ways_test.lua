-- Sessions: Unix sockets and proxies.
local async, test = require "rille.async", require "support.test"
local errors, http, net = require "rille.errors", require "rille.http", require "rille.net"
local scripted = require "stdlib.http.scripted"
local serve, answer, session = scripted.serve, scripted.answer, scripted.session

test("requests go over Unix sockets", function()
  local path = test.tmpdir() .. "/s"
  local listener = net.listen { path = path }
  local server = async.spawn(listener.serve, listener, function(stream)
    while pcall(function()
      local head = stream:read_until "\r\n\r\n"
      stream:write(answer(head:match "GET (%S+)" .. " " .. head:match "Host: (%S+)"))
    end) do local _ = nil end
  end)
  local escaped = path:gsub("/", "%%2F")
  test.eq(http.get("http+unix://" .. escaped .. "/a?b"):text(), "/a?b localhost")
  local s = session { path = path, base_url = "http://name/" }
  test.eq(s:get("c"):text(), "/c name")
  test.eq(s:get("d"):text(), "/d name")
  s:close()
  listener:close(0)
  async.wait { server }
  local e = test.raises("OSError", http.get, "http+unix://" .. escaped .. "/")
  test.eq({ e.code, e.syscall }, { "ENOENT", "connect" })
end)

test("a proxy is asked for whole URLs, with its own credentials", function()
  local seen
  local proxy = serve(function(r)
    seen = r.head
    return answer "by proxy"
  end)
  local s = session { proxy = (proxy:gsub("//", "//me:pw@")), no_proxy = "internal.test, .local" }
  test.eq(s:get("http://far.test/x?y"):text(), "by proxy")
  test.contains(seen, "GET http://far.test/x?y HTTP/1.1\r\nHost: far.test\r\n")
  test.contains(seen, "Proxy-Authorization: Basic bWU6cHc=\r\n")
  local direct = serve(function() return answer "direct" end)
  test.eq(s:get(direct, { proxy = false }):text(), "direct")
  test.eq(s:get(direct, { no_proxy = "127.0.0.1" }):text(), "direct")
  local e = test.raises("OSError", s.get, s, "http://a.b.internal.test/")
  test.eq(e.syscall, "getaddrinfo")
end)

test("a proxy that refuses a tunnel is an HTTPError", function()
  local seen
  local proxy = serve(function(r)
    seen = r.head
    return "HTTP/1.1 403 Not you\r\nContent-Length: 0\r\n\r\n"
  end)
  local e = test.raises("HTTPError", http.get, "https://far.test/", { proxy = proxy })
  test.contains(e.message, "refused the connection to far.test:443: 403 Not you")
  test.eq(e.url, "https://far.test/")
  test.contains(seen, "CONNECT far.test:443 HTTP/1.1\r\nHost: far.test:443\r\n")
  assert(errors.is(e, "HTTPError"))
end)
