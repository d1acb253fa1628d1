-- Acts on what is put into a folder as it comes. Whoever puts a file there writes it under another
-- name first and renames it, so that nobody sees half of it. Nothing that happens after `watch` has
-- returned is missed.
local async = require "rille.async"
local fs = require "rille.fs"
local tempdir = require "lib.tempdir"

local ORDERS = { "three apples", "one pear", "ten cherries" }

local function deliver(inbox)
  for number, order in ipairs(ORDERS) do
    local name = ("%s/%d.order"):format(inbox, number)
    fs.write_file(name .. ".part", order)
    fs.rename(name .. ".part", name)
  end
end

local function work_off(inbox, events)
  local seen = {}
  for event in events do
    local name = event.name or ""
    if name:find "%.order$" and not seen[name] and fs.exists(inbox .. "/" .. name) then
      seen[name] = true
      print(("%s: %s"):format(name, fs.read_file(inbox .. "/" .. name)))
      fs.remove(inbox .. "/" .. name)
      seen[#seen + 1] = name
      if #seen == #ORDERS then return end
    end
  end
end

async.with(tempdir(), function(inbox)
  async.with(fs.watch(inbox), function(events)
    async.gather {
      function() work_off(inbox, events) end,
      function() deliver(inbox) end,
    }
  end)
  print(("Left in the folder: %d files"):format(#fs.list(inbox)))
end)
