--- Where the REPL has its lines from: libedit, which edits them and keeps a history; or, without
-- it, the terminal itself.
local async = require "rille.async"
local fs = require "rille.fs"
local path = require "rille.path"
local signal = require "rille.signal"
local stdio = require "rille.stdio"
local completion = require "rille.repl.complete"
local has_editor, binding = pcall(require, "rille.core.line_editor")

-- ---- without libedit ----------------------------------------------------------------------------

local Plain = {}
Plain.__index = Plain

--- The next line; nil at the end, false if `interrupt` was called meanwhile.
---@async
function Plain:read(prompt)
  io.stdout:write(prompt)
  io.stdout:flush()
  self._reading = async.spawn(stdio.stdin.read_line, stdio.stdin)
  async.wait { self._reading }
  local reading = self._reading
  self._reading = nil
  if not reading:cancelled() then
    local line = reading:result()
    if not line then io.stdout:write "\n" end
    return line
  end
  io.stdout:write "\n"
  return false
end

function Plain:interrupt()
  if self._reading then self._reading:cancel() end
end

function Plain.add() end
function Plain.hide() return false end
function Plain.close() end

-- ---- with libedit -------------------------------------------------------------------------------

local KEPT = 1000 -- lines of history

local Edited = {}
Edited.__index = Edited

local function history_path()
  local state = os.getenv "XDG_STATE_HOME"
  if not state or not path.is_absolute(state) then
    local home = os.getenv "HOME"
    if not home or home == "" then return nil end
    state = path.join(home, ".local", "state")
  end
  return path.join(state, "rille_history")
end

-- What cannot be read or written is done without.
local function load_history(self)
  local file = history_path()
  if not file then return end
  local ok, lines = pcall(fs.read_lines, file)
  if not ok then
    lines = {}
    if not pcall(fs.mkdir, path.dirname(file), { parents = true, mode = "700" }) then return end
  end
  for i = math.max(1, #lines - KEPT + 1), #lines do self._editor:add(lines[i]) end
  if #lines > 2 * KEPT then
    local text = table.concat(lines, "\n", #lines - KEPT + 1) .. "\n"
    pcall(fs.write_file, file, text, { atomic = true })
  end
  self._last = lines[#lines]
  self._file = file
end

function Edited:read(prompt)
  self._editing = true
  local kind, text = self._editor:read(prompt)
  while kind == "complete" do
    kind, text = self._editor:answer(completion.complete(text))
  end
  self._editing = false
  if kind == "line" then return text end
  io.stdout:write "\n"
  io.stdout:flush()
  if kind == "interrupt" then return false end
  return nil
end

function Edited:interrupt() self._editor:interrupt() end

--- Puts a line into the history.
---@async
function Edited:add(line)
  if line == self._last then return end
  self._last = line
  self._editor:add(line)
  if self._file then
    pcall(fs.write_file, self._file, line .. "\n", { append = true, mode = "600" })
  end
end

--- Makes room for something else if a line is being edited, which `redraw` shows again.
---@return boolean
function Edited:hide()
  if self._editing then io.stdout:write "\r\27[J" end
  return self._editing
end

function Edited:redraw() self._editor:redraw() end

function Edited:close()
  self._editing = false
  for _, handle in ipairs(self._signals) do handle:close() end
  self._signals = {}
  self._editor:close()
end

--- Opens the reader that fits.
---@async
return function()
  local term = os.getenv "TERM"
  if not has_editor or not stdio.isatty() or not term or term == "" or term == "dumb" then
    return setmetatable({}, Plain)
  end
  local self = setmetatable({ _editor = binding.open(), _editing = false, _signals = {} }, Edited)
  load_history(self)
  -- The terminal may have another size, or another mode, afterwards.
  for i, name in ipairs { "SIGWINCH", "SIGCONT" } do
    self._signals[i] = signal.on(name, function() self:redraw() end)
  end
  return self
end
