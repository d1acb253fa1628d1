--- Programs of others to talk to: whether they are there, starting them, ending them.
local async, test = require "rille.async", require "support.test"
local http, net, process = require "rille.http", require "rille.net", require "rille.process"

local M = {}

-- Debian's own: another one in front of it would not have Debian's packages.
M.PYTHON = "/usr/bin/python3"

local function has_command(name)
  return os.execute("command -v " .. name .. " > /dev/null 2>&1") == 0
end

local function has_module(name)
  return process.run({ M.PYTHON, "-c", "import " .. name, stderr = "null" }).ok
end

local known = {}
local function is_there(need)
  if known[need] == nil then
    local module = need:match "^python:(.*)$"
    known[need] = (module and has_command(M.PYTHON) and has_module(module))
      or (not module and has_command(need)) or false
  end
  return known[need]
end

--- A test that is left out, and says so, where a program is missing.
---@param needs string  commands and Python modules, separated by spaces: "curl python:aiohttp"
function M.test(needs, name, options, fn)
  if fn == nil then options, fn = {}, options end
  for need in needs:gmatch "%S+" do
    if not is_there(need) then
      return print(("# skipped: %s is not there: %s"):format(need:gsub("^python:", ""), name))
    end
  end
  -- They take their time to start, more so beside others.
  options.limit = options.limit or 3
  test(name, options, fn)
end

--- Starts a program that ends with the test.
---@param options table  as process.spawn takes it
function M.spawn(options)
  options.group = true
  local child = process.spawn(options)
  test.defer(function()
    child:kill("SIGKILL", { group = true })
    child:wait()
  end)
  return child
end

--- Runs a Python program to its end; fails unless its last line is "well".
function M.python(program, ...)
  local path = test.write(test.tmpdir() .. "/program.py", program)
  local result = process.run { M.PYTHON, path, timeout = 60, ... }
  test.eq({ result.stderr, result.stdout:match "([^\n]*)\n$" }, { "", "well" }, result.stdout)
end

--- Starts a Python server, which prints its port in its first line; gives the port.
function M.python_server(program, ...)
  local path = test.write(test.tmpdir() .. "/server.py", program)
  local child = M.spawn { M.PYTHON, path, stdout = "pipe", stderr = "null", ... }
  local line = child.stdout:read_until "\n"
  return tonumber(line)
end

--- Starts nginx with one `server { }` on a Unix socket and a port.
---@param outer string  what stands in `http { }`; DIR is a folder of its own
---@param inner string  what stands in `server { }`
---@return string base, string path, string dir, Process nginx
function M.nginx(outer, inner)
  local dir = test.tmpdir()
  -- A port that is free now. Should another program take it before nginx does, nginx ends.
  local probe = net.listen {}
  local port = probe:address().port
  probe:close()
  local text = ([[
    user root; daemon off; worker_processes 1; pid DIR/pid; error_log DIR/error.log;
    events { worker_connections 256; }
    http {
      access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p;
      fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
      default_type application/octet-stream; client_max_body_size 0;
      OUTER
      server { listen unix:DIR/nginx.sock; listen 127.0.0.1:PORT; INNER }
    }
  ]]):gsub("OUTER", function() return outer end):gsub("INNER", function() return inner end)
  test.write(dir .. "/nginx.conf", (text:gsub("DIR", dir):gsub("PORT", port)))
  local nginx = M.spawn {
    "nginx", "-p", dir, "-e", dir .. "/error.log", "-c", dir .. "/nginx.conf", stderr = "null",
  }
  for _ = 1, 1000 do
    -- The one that it binds last.
    local ok, stream = pcall(net.connect, { host = "127.0.0.1", port = port })
    if ok then
      stream:close()
      return "http://127.0.0.1:" .. port, dir .. "/nginx.sock", dir, nginx
    end
    async.sleep(0.01)
  end
  error("nginx does not listen:\n" .. test.read(dir .. "/error.log"))
end

--- A session that is closed when the test is over.
function M.session(options)
  local session = http.Session(options)
  test.defer(function() session:close() end)
  return session
end

--- A server that is closed when the test is over; `app` is an App or a handler.
function M.serve(app, options)
  options = options or {}
  local server
  if type(app) == "function" then
    options.handler = app
    server = http.serve(options)
  else
    server = app:serve(options)
  end
  test.defer(function() server:close(0) end)
  return "http://127.0.0.1:" .. (server.port or 0), server
end

return M
