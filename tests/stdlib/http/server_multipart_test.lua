-- Bodies of requests that are multipart.
local async, test = require "rille.async", require "support.test"
local fs = require "rille.fs"
local raw = require "stdlib.http.raw"

local POST = "POST / HTTP/1.1\r\nHost: a\r\n"

local start = raw.handle

local function multipart(boundary, parts)
  local lines = {}
  for _, part in ipairs(parts) do
    lines[#lines + 1] = "--" .. boundary .. "\r\n" .. part[1] .. "\r\n\r\n" .. part[2] .. "\r\n"
  end
  local body = table.concat(lines) .. "--" .. boundary .. "--\r\n"
  return ("Content-Type: multipart/form-data; boundary=%s\r\nContent-Length: %d\r\n\r\n"):format(
    boundary, #body), body
end

test("multipart: parts as they come, in single bytes too", function()
  local port = start(function(req)
    local list = {}
    for part in req:multipart() do
      list[#list + 1] = ("%s|%s|%s|%s"):format(tostring(part.name), tostring(part.filename),
        part.content_type, part.headers["x-a"] or "") .. "|" .. part:text()
    end
    return table.concat(list, "\n")
  end)
  local head, body = multipart("b-1", {
    { 'Content-Disposition: form-data; name="a"', "1" },
    { 'Content-Disposition: form-data; name="f"; filename="a \\"b\\".txt"\r\n'
      .. "Content-Type: text/x\r\nx-a: y", "\r\n--b-\r\n--b-1x\r\n--b" },
    { "Content-Disposition: form-data; name=n; filename*=UTF-8''%C3%A4", "" },
    { "", "" },
  })
  local expected = 'a|nil|text/plain||1\nf|a "b".txt|text/x|y|\r\n--b-\r\n--b-1x\r\n--b\n'
    .. "n|ä|text/plain||\nnil|nil|text/plain||\r\n"
  local peer = raw.connect(port):send(POST .. head .. body)
  test.eq(peer:read_response():match "\r\n\r\n(.*)$", expected)
  peer:send(POST .. head)
  for i = 1, #body do
    peer:send(body:sub(i, i))
    async.sleep(0)
  end
  test.eq(peer:read_response():match "\r\n\r\n(.*)$", expected)
end)

test("multipart: parts that are not read are passed over, files are saved", function()
  local dir = test.tmpdir()
  local port = start(function(req)
    local log = {}
    for part in req:multipart() do
      if part.filename then
        log[#log + 1] = part:save(dir .. "/" .. part.name)
        test.raises("InvalidStateError", part.bytes, part)
      end
    end
    return table.concat(log, " ")
  end, { max_collect_bytes = 1000 })
  local big = ("0123456789abcde\n"):rep(20000)
  local head, body = multipart("xyz", {
    { 'Content-Disposition: form-data; name="skipped"', big },
    { 'Content-Disposition: form-data; name="one"; filename="x"', big },
    { 'Content-Disposition: form-data; name="two"; filename="y"', "" },
  })
  test.matches(raw.answer(port, POST .. head .. body), "320000 0$")
  test.eq(test.read(dir .. "/one") == big, true)
  test.eq(test.read(dir .. "/two"), "")
end)

test("multipart: what is malformed, too large or something else is refused", function()
  local dir = test.tmpdir()
  local port = start(function(req)
    for part in req:multipart() do
      if part.filename then part:save(dir .. "/f") else part:bytes() end
    end
    return "ok"
  end, { max_collect_bytes = 1000 })
  local function answer(head, body)
    return raw.answer(port, POST .. head .. (body or "")):match "^HTTP/1.1 (%d+)"
  end
  local function with(body, kind)
    return answer(("Content-Type: %s\r\nContent-Length: %d\r\n\r\n"):format(
      kind or "multipart/form-data; boundary=b", #body), body)
  end
  test.eq(with("--b--\r\n"), "200")
  test.eq(with("--b--"), "200")
  test.eq(with("preamble\r\n--b \t\r\n\r\nx\r\n--b--epilogue"), "200")
  test.eq(with("x", "text/plain"), "415")
  test.eq(with("x", "multipart/form-data"), "400")
  test.eq(with(""), "400")
  test.eq(with("--b\r\nA: b\r\n\r\nx"), "400")
  test.eq(with("--b\r\nno field\r\n\r\nx\r\n--b--"), "400")
  test.eq(with("--b\r\n" .. ("A: b\r\n"):rep(4000) .. "\r\nx\r\n--b--"), "400")
  test.eq(with("--b\r\nA: " .. ("x"):rep(20000)), "400")
  test.eq(answer(multipart("b", { { "A: b", ("x"):rep(1001) } })), "413")
  -- A file that does not come whole is none.
  test.eq(with('--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nhalf'), "400")
  test.eq(fs.exists(dir .. "/f"), false)
  test.eq(#test.reports(), 0)
end)

test("multipart: random parts, cut at random places", function()
  math.randomseed(7)
  local pieces = { "\r\n", "--", "b", "bound", "--bound", "\r", "\n", "-", "x", "\r\n--bound",
    "\0" }
  local read = require("rille.http.parts").read
  for _ = 1, 300 * test.SCALE do
    local sent, body = {}, {}
    for i = 1, math.random(0, 4) do
      local content = {}
      for k = 1, math.random(0, 12) do content[k] = pieces[math.random(#pieces)] end
      -- What would be a separator cannot be content.
      local text = "\r\n" .. table.concat(content) .. "\r\n"
      local found
      repeat text, found = text:gsub("\r\n%-%-bound([\r-])", "\r\nx%1") until found == 0
      text = text:sub(3, -3)
      sent[i] = text
      body[#body + 1] = ("--bound\r\nContent-Disposition: form-data; name=%d\r\n\r\n"):format(i)
        .. text .. "\r\n"
    end
    body = table.concat(body) .. "--bound--\r\n"
    local source = setmetatable({ close = function() end }, { __call = function()
      if body == "" then return nil end
      local n = math.random(1, 20)
      local data = body:sub(1, n)
      body = body:sub(n + 1)
      return data
    end })
    local got = {}
    for part in read(source, "bound", 1000) do got[#got + 1] = part:bytes() end
    test.eq(got, sent)
  end
end)

test("a form may be multipart", function()
  local port = start(function(req)
    local form = req:form()
    return form.a .. table.concat(form:get_all "b")
  end)
  local head, body = multipart("b", { { 'Content-Disposition: form-data; name="a"', "1" },
    { 'Content-Disposition: form-data; name="b"', "2" },
    { 'Content-Disposition: form-data; name="b"', "3" } })
  test.matches(raw.answer(port, POST .. head .. body), "123$")
end)
