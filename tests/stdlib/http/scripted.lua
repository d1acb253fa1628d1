--- A server that answers what its test says, and sessions to ask it.
local async, test = require "rille.async", require "support.test"
local errors, http, net = require "rille.errors", require "rille.http", require "rille.net"

local scripted = {}

--- A server that hands each request, as { head =, body =, connection =, count = }, to `fn`, which
-- gives the bytes to answer with; false closes the connection. Gives its URL, and a function that
-- tells how many connections there were.
function scripted.serve(fn)
  local connections = 0
  local listener = net.listen { port = 0 }
  local server = async.spawn(listener.serve, listener, function(stream)
    connections = connections + 1
    local connection, count = connections, 0
    while true do
      local ok, head = pcall(stream.read_until, stream, "\r\n\r\n")
      if not ok then return end
      count = count + 1
      local length = tonumber(head:match "Content%-Length: (%d+)") or 0
      local answered, bytes = pcall(function()
        return fn {
          head = head, body = stream:read_exactly(length), connection = connection, count = count,
          stream = stream,
        }
      end)
      if not answered and not errors.is(bytes, "IncompleteReadError") then error(bytes, 0) end
      if not answered or not bytes then return end
      stream:write(bytes)
    end
  end)
  test.defer(function()
    listener:close(0)
    async.wait { server }
  end)
  local port = listener:address().port
  return "http://127.0.0.1:" .. port, function() return connections end
end

--- A response with status 200.
function scripted.answer(body, fields)
  return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s"):format(#body, fields or "", body)
end

--- A session that is closed when the test is over.
function scripted.session(options)
  local s = http.Session(options)
  test.defer(function() s:close() end)
  return s
end

--- A response that sends the request elsewhere.
function scripted.redirect(status, location)
  return ("HTTP/1.1 %d Go\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"):format(status, location)
end

--- A server that answers with the body of the request, and tells chunked ones apart.
function scripted.echo()
  local base = scripted.serve(function(r)
    if r.head:find "Transfer%-Encoding: chunked" then
      local parts = {}
      while true do
        local size = tonumber(r.stream:read_until "\r\n":match "%x+", 16)
        parts[#parts + 1] = r.stream:read_exactly(size)
        r.stream:read_exactly(2)
        if size == 0 then break end
      end
      return scripted.answer("chunked " .. table.concat(parts, "|"))
    end
    return scripted.answer(r.body)
  end)
  return base
end

--- Gives the pieces of a list, after a turn of the loop each.
function scripted.slowly(list)
  local i = 0
  return function()
    async.sleep(0)
    i = i + 1
    return list[i]
  end
end

return scripted
