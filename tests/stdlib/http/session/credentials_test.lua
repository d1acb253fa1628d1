-- Sessions: credentials and other defaults, and what is sent to whom.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local tls = require "support.tls"
local scripted = require "stdlib.http.scripted"
local serve, answer, session = scripted.serve, scripted.answer, scripted.session

test("credentials come from options or from the URL, and are in no error", function()
  local seen
  local base = serve(function(r)
    seen = r.head:match "Authorization: ([^\r]*)"
    return answer "x"
  end)
  local s = session { auth = { user = "Aladdin", password = "open sesame" } }
  s:get(base)
  test.eq(seen, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
  s:get(base, { auth = { bearer = "t0ken" } })
  test.eq(seen, "Bearer t0ken")
  local r = s:get((base:gsub("//", "//u%%40:p@")))
  test.eq(seen, "Basic dUA6cA==")
  test.eq(r.url, base .. "/")
  local e = test.raises("OSError", s.get, s, "http://user:secret@127.0.0.1:1/")
  test.eq(e.url, "http://127.0.0.1:1/")
  test.blames_caller("a user name has no colon",
    function() s:get(base, { auth = { user = "a:b" } }) end)
end)

test("base_url, headers and timeouts of the session are defaults", function()
  local seen
  local base = serve(function(r)
    seen = r.head
    if r.head:find "/slow" then async.sleep(5) end
    return answer "x"
  end)
  local s = session {
    base_url = base .. "/api", headers = { ["X-A"] = "1", ["X-B"] = "1" },
    timeout = { total = 0.02 },
  }
  s:get("items?q", { headers = { ["x-b"] = "2" } })
  test.contains(seen, "GET /api/items?q HTTP/1.1\r\n")
  test.contains(seen, "X-A: 1\r\n")
  test.contains(seen, "x-b: 2\r\n")
  test.eq(seen:find "X%-B", nil)
  s:get "/top"
  test.contains(seen, "GET /top HTTP/1.1\r\n")
  test.eq(test.raises("TimeoutError", s.get, s, "slow").phase, "total")
  test.raises("HTTPError", http.Session, { base_url = "nowhere" })
  test.blames_caller("unknown option 'baseurl'", function() http.Session { baseurl = "" } end)
  test.blames_caller("true, false or 'prior' expected",
    function() http.Session { http2 = "yes" } end)
end)

test("what was not verified is not used for a request that verifies", function()
  local server = http.serve { tls = tls.server_options(), handler = function() return "x" end }
  test.defer(function() server:close(0) end)
  local s, url = session(), "https://127.0.0.1:" .. server.port
  for _ = 1, 30 do
    test.eq(s:get(url, { tls = { verify = false } }):text(), "x")
    -- Its context is gone, and another may lie where it lay.
    for _ = 1, 3 do collectgarbage() end
    for _ = 1, 5 do test.raises("TLSError", s.get, s, url, { tls = {} }) end
  end
end)

test("credentials in base_url are for its server", function()
  local function show(r) return answer(r.head:match "Authorization: ([^\r]*)" or "none") end
  local base, other = serve(show), serve(show)
  local s = session { base_url = base:gsub("//", "//u:p@") .. "/" }
  test.eq(s:get("x"):text(), "Basic dTpw")
  test.eq(s:get(base .. "/x"):text(), "Basic dTpw")
  test.eq(s:get(other .. "/x"):text(), "none")
  test.eq(s:get("x", { auth = { bearer = "t" } }):text(), "Bearer t")
  test.eq(s:get("x", { auth = false }):text(), "none")
  s = session { auth = { bearer = "own" } }
  test.eq({ s:get(base):text(), s:get(base, { auth = false }):text() }, { "Bearer own", "none" })
end)
