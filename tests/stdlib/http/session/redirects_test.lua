-- Sessions: redirects.
local test = require "support.test"
local http = require "rille.http"
local scripted = require "stdlib.http.scripted"
local serve, answer, session, redirect =
  scripted.serve, scripted.answer, scripted.session, scripted.redirect

test("redirects change the method as browsers do, and keep it where they must", function()
  local seen
  local base = serve(function(r)
    local status = r.head:match "^%S+ /(%d+)"
    if status then return redirect(status, "../end?x") end
    seen = r.head:match "^(%S+)" .. " " .. r.body .. (r.head:match "Content%-Type: (%S+)" or "")
    return answer "end"
  end)
  local s = session()
  for _, case in ipairs {
    { 301, "POST", "GET " }, { 302, "POST", "GET " }, { 303, "POST", "GET " },
    { 303, "PUT", "GET " }, { 303, "HEAD", "HEAD " }, { 301, "PUT", "PUT bodytext/plain" },
    { 307, "POST", "POST bodytext/plain" }, { 308, "PUT", "PUT bodytext/plain" },
  } do
    local has_body = case[2] ~= "HEAD"
    local r = s:request(case[2], base .. "/" .. case[1], {
      body = has_body and "body" or nil,
      headers = has_body and { ["Content-Type"] = "text/plain" } or nil,
    })
    test.eq(seen, case[3], case[1] .. " " .. case[2])
    test.eq({ r.url, #r.history, r.history[1].status }, { base .. "/end?x", 1, case[1] })
  end
end)

test("redirects have an end, and can be looked at", function()
  local base = serve(function() return redirect(302, "/again") end)
  local s = session()
  local e = test.raises("HTTPError", s.get, s, base)
  test.eq(e.message, "more than 10 redirects: GET " .. base .. "/again")
  test.eq(e.response.status, 302)
  for _, none in ipairs { 0, false } do
    test.eq(s:get(base, { redirects = none }).headers.location, "/again")
  end
  local ftp = serve(function() return redirect(302, "ftp://127.0.0.1/") end)
  test.contains(test.raises("HTTPError", s.get, s, ftp).message,
    "the redirect goes nowhere (scheme 'ftp' is not supported")
end)

test("a redirect to another origin takes no secrets along", function()
  local seen
  local other = serve(function(r)
    seen = r.head
    return answer "there"
  end)
  local base = serve(function(r)
    seen = r.head
    return redirect(302, other .. "/x")
  end)
  local s = session { cookies = { c = "secret" }, auth = { bearer = "secret" } }
  s:get(base, { headers = { Cookie = "d=secret", ["X-Mine"] = "kept" }, redirects = 0 })
  test.contains(seen, "secret")
  test.eq(s:get(base, { headers = { Cookie = "d=secret", ["X-Mine"] = "kept" } }):text(), "there")
  test.eq(seen:find "secret", nil)
  test.contains(seen, "X-Mine: kept")
end)

test("the body of a redirect without end is not kept", function()
  local base = serve(function(r)
    if r.head:find "GET /end" then return answer "end" end
    r.stream:write "HTTP/1.1 302 Found\r\nLocation: /end\r\n\r\n"
    local piece = ("x"):rep(65536)
    -- Until the client closes the connection.
    while pcall(r.stream.write, r.stream, piece) do end
    return false
  end)
  local r = session():get(base, { stream = true, timeout = 30 })
  test.eq(r:text(), "end")
  test.eq(r.history[1]:text(), "")
end)

test("a session with a socket follows redirects as others do, and to no other socket", function()
  local dir = require("rille.fs").mkdtemp()
  test.defer(function() require("rille.fs").remove(dir, { recursive = true }) end)
  local path, seen = dir .. "/x", {}
  local server = http.serve {
    path = path,
    handler = function(req)
      seen[#seen + 1] = { req.path, req.headers.authorization, req.headers.cookie }
      if req.path == "/a" then return http.redirect "/b" end
      if req.path == "/c" then return http.redirect("http+unix://%2Frun%2Fother.sock/") end
      if req.path == "/d" then return http.redirect "http://y/e" end
      return "x"
    end,
  }
  test.defer(function() server:close(0) end)
  local s = session { path = path, auth = { bearer = "t" }, cookies = { k = "v" } }
  test.eq(s:get("http://x/a"):text(), "x")
  test.eq(seen, { { "/a", "Bearer t", "k=v" }, { "/b", "Bearer t", "k=v" } })
  local e = test.raises("HTTPError", s.get, s, "http://x/c")
  test.contains(e.message, "a redirect to a Unix socket is not followed")
  test.eq(s:get("http://x/d"):text(), "x")
  test.eq(seen[5], { "/e" })
  -- Neither does one that was asked by the URL.
  local one = "http+unix://" .. path:gsub("/", "%%2F")
  e = test.raises("HTTPError", s.get, s, one .. "/c")
  test.contains(e.message, "a redirect to a Unix socket is not followed")
end)
