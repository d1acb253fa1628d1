-- JSON documents decoded or encoded, one after the other: by rille.json, or by lua-cjson where this
-- is not run by Rille. Usage: json.lua json_decode_objects N
local W, N = (...), tonumber((select(2, ...)))
local json = rille and require "rille.json" or require "cjson"
local ffi = require "ffi"

ffi.cdef [[
typedef struct { long seconds, nanoseconds; } moment;
int clock_gettime(int clock, moment *at);
]]

local function now()
  local at = ffi.new "moment"
  ffi.C.clock_gettime(1, at) -- the monotonic one
  return tonumber(at.seconds) + tonumber(at.nanoseconds) / 1e9
end

local what, kind = W:match "^json_(%a+)_(%a+)$"

local file = assert(io.open(os.getenv("BENCH_DATA") .. "/json/" .. kind .. ".json", "rb"))
local text = file:read "*a"
file:close()

local operation = json[what]
local argument = what == "decode" and text or json.decode(text)
for _ = 1, N / 10 + 1 do operation(argument) end
collectgarbage()

local start = now()
for _ = 1, N do operation(argument) end
local seconds = now() - start
print(("%s %d %.6f %.1f"):format(W, N, seconds, N / seconds))
