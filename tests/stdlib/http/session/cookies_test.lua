-- Sessions: cookies.
local test = require "support.test"
local http = require "rille.http"
local scripted = require "stdlib.http.scripted"
local serve, answer, session = scripted.serve, scripted.answer, scripted.session

test("a session keeps cookies, and sends them where they belong", function()
  local seen
  local base = serve(function(r)
    seen = r.head:match "Cookie: ([^\r]*)" or ""
    return answer("x", "Set-Cookie: a=1; Path=/deep\r\nSet-Cookie: b=2; Max-Age=60; Path=/\r\n"
      .. "Set-Cookie: c=3; Path=/; Secure\r\nSet-Cookie: d=4; Path=/; Domain=example.com\r\n")
  end)
  local s = session { cookies = { mine = "0" } }
  local r = s:get(base .. "/deep/page")
  test.eq({ r.cookies.a, r.cookies.d, s.cookies:get "a", s.cookies:get "c" }, { "1", "4", "1" })
  s:get(base .. "/deep/other")
  test.eq(seen, "a=1; mine=0; b=2")
  s:get(base .. "/")
  test.eq(seen, "mine=0; b=2")
  s.cookies:clear "mine"
  s.cookies:set("e", "5")
  s:get(base .. "/")
  test.eq(seen, "b=2; e=5")
  s.cookies:clear()
  s:get(base .. "/")
  test.eq(seen, "")
  http.get(base .. "/")
  http.get(base .. "/")
  test.eq(seen, "")
end)

test("a cookie ends when its server says so", function()
  local set = "Set-Cookie: a=1; Path=/\r\n"
  local seen
  local base = serve(function(r)
    seen = r.head:match "Cookie: ([^\r]*)" or ""
    return answer("x", set)
  end)
  local s = session()
  for _, ending in ipairs {
    "Max-Age=0", "Max-Age=-1", "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    "Expires=Sunday, 06-Nov-94 08:49:37 GMT", "expires=Sun Nov  6 08:49:37 1994",
  } do
    set = "Set-Cookie: a=1; Path=/; Expires=Wed, 01 Jan 2098 00:00:00 GMT\r\n"
    s:get(base)
    set = "Set-Cookie: a=1; Path=/; " .. ending .. "\r\n"
    s:get(base)
    test.eq(seen, "a=1", ending)
    set = ""
    s:get(base)
    test.eq(seen, "", ending)
  end
end)

test("cookies whose names promise something keep it, or are not kept", function()
  local jar, url_of = require("rille.http.cookies").new(), require "rille.http.url"
  local url = url_of.parse "https://www.x.org/a/b"
  local function header(...)
    jar:clear()
    jar:_take({ ... }, url)
    return jar:_header(url, true)
  end
  test.eq(header("__Host-a=1; Secure; Path=/", "__Host-b=1; Secure", "__Host-c=1; Path=/",
    "__Host-d=1; Secure; Path=/; Domain=www.x.org", "__host-e=1; Path=/"), "__Host-a=1")
  test.eq(header("__Secure-a=1; Secure", "__Secure-b=1", "__SECURE-c=1"), "__Secure-a=1")
end)

test("cookies that have expired make room for others", function()
  local jar, url_of = require("rille.http.cookies").new(), require "rille.http.url"
  for i = 1, 3000 do
    jar:set("k", "v", { domain = "h" .. i .. ".org", expires = os.time() + 1e6 })
  end
  local url = url_of.parse "http://x.org/"
  jar:_take({ "a=1" }, url)
  test.eq(jar:_header(url, true), nil)
  for i = 1, 10 do jar._domains["h" .. i .. ".org"][1].expires = 0 end
  jar:_take({ "a=1" }, url)
  test.eq(jar:_header(url, true), "a=1")
end)
