-- Responses of other kinds: cookies, redirects, JSON.
local test = require "support.test"
local errors = require "rille.errors"
local http = require "rille.http"
local raw = require "stdlib.http.raw"

local GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

local start = raw.handle

test("cookies that are set", function()
  local port = start(function()
    return http.response { body = "", headers = { ["set-cookie"] = "first=1" } }
      :set_cookie("a", "b"):set_cookie("c", "d", { path = false, domain = "x.org", max_age = 60,
        expires = 0, secure = true, http_only = false, same_site = "Strict" })
      :set_cookie("e", "f", { same_site = "None" }):delete_cookie "g"
  end)
  local list = {}
  for value in raw.answer(port, GET):gmatch "%-[cC]ookie: ([^\r]*)" do list[#list + 1] = value end
  test.eq(list, {
    "first=1", "a=b; Path=/; SameSite=Lax; HttpOnly",
    "c=d; Domain=x.org; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Strict; Secure",
    "e=f; Path=/; SameSite=None; Secure; HttpOnly",
    "g=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax; HttpOnly",
  })
  local r = http.response {}
  test.blames_caller("no name for a cookie", function() r:set_cookie("a b", "c") end)
  test.blames_caller("a cookie's value cannot have", function() r:set_cookie("a", "b;c") end)
  test.blames_caller("'same_site'", function() r:set_cookie("a", "b", { same_site = "x" }) end)
  test.blames_caller("'path'", function() r:set_cookie("a", "b", { path = "/\r\nx" }) end)
  test.blames_caller("unknown option 'pth'", function() r:set_cookie("a", "b", { pth = "/" }) end)
end)

test("redirects", function()
  local port = start(function(req)
    if req.path == "/m" then return http.redirect("/n", 308) end
    return http.redirect "/ä b?c=%20#d"
  end)
  local answer = raw.answer(port, GET)
  test.matches(answer, "^HTTP/1.1 302 Found\r\n")
  test.contains(answer, "Location: /%C3%A4%20b?c=%20#d\r\n")
  test.matches(raw.answer(port, "GET /m HTTP/1.1\r\nHost: a\r\n\r\n"), "^HTTP/1.1 308 ")
  test.blames_caller("bad argument #2 to 'redirect'", function() http.redirect("/", 200) end)
  test.blames_caller("CR, LF or NUL", function() http.redirect "/\r\nX: y" end)
end)

test("JSON as a response", function()
  local port = start(function(req)
    if req.path == "/plain" then return { a = { 1, 2 } } end
    if req.path == "/status" then return 201, { b = true } end
    if req.path == "/cycle" then
      local t = {}
      t.t = t
      return t
    end
    return http.response { json = "text", status = 202 }
  end)
  local function answer(path)
    return raw.answer(port, "GET " .. path .. " HTTP/1.1\r\nHost: a\r\n\r\n")
  end
  for path, expected in pairs { ["/plain"] = '^HTTP/1.1 200 .*\r\n\r\n{"a":%[1,2%]}$',
    ["/status"] = '^HTTP/1.1 201 .*\r\n\r\n{"b":true}$',
    ["/"] = '^HTTP/1.1 202 .*\r\n\r\n"text"$' } do
    test.matches(answer(path), expected)
    test.contains(answer(path), "Content-Type: application/json\r\n")
  end
  test.matches(answer "/cycle", "^HTTP/1.1 500 ")
  test.eq(errors.is(test.reports()[1].error, "JSONError"), true)
end)
