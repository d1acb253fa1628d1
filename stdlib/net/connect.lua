--- Connections to names and paths: which addresses are tried, in what order, and when.
local tcp = require "rille.core.tcp"
local lookup = require("rille.core.names").lookup
local task = require "rille.core.task"
local timeout = require "rille.async.timeout"
local errors = require "rille.errors"
local report = require "rille.core.report"
local Event = require "rille.async.event"
local shielded = require("rille.async.cleanup").shielded
local xpcall = require("rille.core.protect").xpcall
local sleep = require("rille.async").sleep

local keep_trace, rethrow = task.keep_trace, task.rethrow

-- How long an attempt has before the next address is tried beside it: RFC 8305, section 5.
local STAGGER = 0.25
-- A listener on a Unix socket whose backlog is full cannot be waited for.
local SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.05

local M = {}

--- What a stream was connected to, as the script named it: { host =, port = }.
M.origins = setmetatable({}, { __mode = "k" })

-- The families take turns, beginning with the one that the system would take: RFC 8305, section 4.
local function interleave(addresses)
  local first, other = {}, {}
  local family = tcp.family(addresses[1])
  for _, ip in ipairs(addresses) do
    local list = tcp.family(ip) == family and first or other
    list[#list + 1] = ip
  end
  local all = {}
  for i = 1, math.max(#first, #other) do
    all[#all + 1] = first[i]
    all[#all + 1] = other[i]
  end
  return all
end

-- One error that tells of each attempt.
local function combined(failures)
  local first = failures[1]
  if #failures == 1 then return first end
  local texts = {}
  for i, e in ipairs(failures) do texts[i] = e.message end
  return errors.new(first.kind, table.concat(texts, "; "), {
    code = first.code, errno = first.errno, syscall = first.syscall, address = first.address,
    errors = failures,
  })
end

-- ---- several addresses --------------------------------------------------------------------------

local function attempt(race, ip)
  local ok, result = xpcall(tcp.connect, keep_trace, ip, race.port)
  if not ok then
    if not errors.is(result, "OSError") and not errors.is(result, "PermissionError") then
      rethrow(result)
    end
    race.failures[#race.failures + 1] = result
  elseif race.winner then
    result:close()
  else
    race.winner = result
  end
  race.changed:set()
end

-- Waits until an attempt has failed that had not before, or one has succeeded.
local function wait_for_change(_, race, known)
  while not race.winner and #race.failures == known do
    race.changed:clear()
    race.changed:wait()
  end
end

local function run_attempts(race)
  local addresses = race.addresses
  for i, ip in ipairs(addresses) do
    local known = #race.failures
    race.tasks[i] = task.spawn(attempt, race, ip)
    timeout.move_on_after(i < #addresses and STAGGER or nil, wait_for_change, race, known)
    if race.winner then return end
  end
  while not race.winner and #race.failures < #addresses do
    wait_for_change(nil, race, #race.failures)
  end
end

local function end_attempts(race)
  for _, t in ipairs(race.tasks) do t:cancel "another address was faster" end
  for _, t in ipairs(race.tasks) do task.join_shielded(t) end
end

local function run(addresses, port)
  local race = {
    addresses = addresses, port = port, tasks = {}, failures = {}, winner = nil, changed = Event(),
  }
  local ok, e = xpcall(run_attempts, keep_trace, race)
  shielded(end_attempts, race)
  if not ok then
    if race.winner then race.winner:close() end
    rethrow(e)
  end
  if race.winner then return race.winner end
  rethrow(combined(race.failures))
end

-- ---- the face -----------------------------------------------------------------------------------

--- Connects to whichever of some IP addresses answers first.
---@async
---@param addresses string[]  the one to be preferred first
---@param port integer
---@return Stream
-- Errors: OSError, one that tells of each address.
function M.any(addresses, port)
  if #addresses == 1 then return tcp.connect(addresses[1], port) end
  return run(interleave(addresses), port)
end

--- Connects over TCP.
---@async
---@param host string  a name or an IP address
---@param port integer
---@return Stream
-- Errors: OSError of the lookup, or one of connecting that tells of each address.
-- Source: RFC 8305, "happy eyeballs".
function M.tcp(host, port)
  local stream
  if tcp.is_ip(host) then
    stream = tcp.connect(host, port)
  else
    tcp.check_host(host, port) -- whose refusal knows the port
    stream = M.any(lookup(host), port)
  end
  return stream -- no tail calls here: reports look for this function on the stack
end

report.describe(M.tcp, function(host) return "a connection to " .. host end)

--- Connects to a Unix socket; waits while its backlog is full.
---@async
---@param path string
---@return Stream
-- Errors: OSError (ENOENT, ECONNREFUSED, EACCES, ENAMETOOLONG ...).
function M.unix(path)
  local pause = SHORTEST_PAUSE
  while true do
    local stream = tcp.connect_unix(path)
    if stream then return stream end
    sleep(pause)
    pause = math.min(2 * pause, LONGEST_PAUSE)
  end
end

report.describe(M.unix, function(path) return "a connection to " .. path end)

return M
