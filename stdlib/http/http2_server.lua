--- Connections of HTTP/2: each request on one is answered by a task of its own.
local async = require "rille.async"
local http2 = require "rille.core.http2"
local task = require "rille.core.task"
local report = require "rille.core.report"
local errors = require "rille.errors"
local connection = require "rille.http.connection"

local xpcall = require("rille.core.protect").xpcall
local shielded = require("rille.async.cleanup").shielded
local keep_trace, rethrow, spawn_for = task.keep_trace, task.rethrow, task.spawn_for
local new_request, answer = connection.request, connection.answer
local log_refusal = connection.log_refusal
local setmetatable, pairs, next = setmetatable, pairs, next

-- Streams that a client takes back leave their tasks behind, which may take their time to end. With
-- so many of them it gets no further ones: twice what it may have open.
local MOST_TASKS = 200

local M = {}

--- What the connections of a server have in common.
---@param settings table  as `serve` has checked them
function M.server(settings) return http2.server(settings) end

-- The tasks of a connection.
local Requests = {}
Requests.__index = Requests

function Requests:child_done(child)
  local stream = self.streams[child]
  self.streams[child] = nil
  self.count = self.count - 1
  local state = child[2]
  if state == 3 or state == 4 then -- failed, or cancelled
    stream:cut()
    if state == 3 then
      local e, x = child[3], child[10]
      task.take(child)
      report.report {
        message = "error in a request of the HTTP server", error = e, task = child,
        traceback = x and x.trace and errors._render(x.trace) or nil,
      }
    end
  end
  if self.waits > 0 then
    self.changed:set()
    self.changed:clear()
  end
end

--- Waits until there are less than so many.
---@async
function Requests:wait_for_fewer(count)
  self.waits = self.waits + 1
  while self.count >= count do self.changed:wait() end
  self.waits = self.waits - 1
end

function Requests:cancel(reason, own)
  for child in pairs(self.streams) do
    if child ~= own then child:cancel(reason) end
  end
end

local function take_all(self, settings, conn)
  while true do
    local stream, head = conn:next()
    if stream then
      local child = spawn_for(self, answer, new_request(settings, stream, head))
      self.streams[child] = stream
      self.count = self.count + 1
      if self.count >= MOST_TASKS then self:wait_for_fewer(MOST_TASKS) end
    else
      if settings.access_log then
        while log_refusal(settings, conn) do end
      end
      if stream == nil then return end
    end
  end
end

--- Serves a connection until it ends, and all of its requests have come to their end.
---@param settings table  see rille.http.connection
---@param entry table  gets `requests`, with `cancel(reason, own)` and `streams[task]`
function M.serve(settings, entry, conn)
  local self = setmetatable({ streams = {}, count = 0, changed = async.Event(), waits = 0 },
    Requests)
  entry.requests = self
  local ok, e = xpcall(take_all, keep_trace, self, settings, conn)
  if not ok then
    self:cancel "the connection is closed"
  elseif next(self.streams) and settings.cancel_on_disconnect then
    self:cancel "the client has gone"
  end
  shielded(self.wait_for_fewer, self, 1)
  if not ok then rethrow(e) end
end

report.describe(M.serve, function() return "requests" end)

return M
