-- One request that needs three answers asks for all of them at once.
-- From "Async Python Patterns" (Async Database Operations). The document builds its SQL by
-- concatenation, an invitation to injection; here the value travels beside the text. The database
-- is simulated, as there; the answer is printed as Lua writes it. Sleeps are ten times shorter.
local async = require "rille.async"
local show = require "lib.show"

local db = {}

function db.execute(_query, ...)
  assert(select("#", ...) == 1, "one value for each question mark")
  async.sleep(0.01)
  return { { id = 1, name = "Example" } }
end

function db.fetch_one(query, ...)
  return db.execute(query, ...)[1]
end

local function get_user_data(user_id)
  local results = async.gather {
    function() return db.fetch_one("SELECT * FROM users WHERE id = ?", user_id) end,
    function() return db.execute("SELECT * FROM orders WHERE user_id = ?", user_id) end,
    function() return db.fetch_one("SELECT * FROM profiles WHERE user_id = ?", user_id) end,
  }
  return { user = results[1], orders = results[2], profile = results[3] }
end

print(show(get_user_data(1)))
