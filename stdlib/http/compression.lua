--- Compression of responses: whether, and how.
local check = require "rille.core.check"

local ipairs, tonumber = ipairs, tonumber
local format, find, lower = string.format, string.find, string.lower

local M = {}

-- In the order of our liking.
local CODINGS = { "br", "zstd", "gzip", "deflate" }

local MIN_BYTES = 1024
-- What is worth it; all of "text/" as well.
local TYPES = {}
for name in ([[application/json application/javascript application/xml application/manifest+json
  application/ld+json application/geo+json application/xhtml+xml application/rss+xml
  application/atom+xml application/wasm image/svg+xml image/bmp image/x-icon font/ttf font/otf
  application/rtf]]):gmatch "%S+" do
  TYPES[name] = true
end

local KNOWN = { min_bytes = true, types = true, level = true }

--- Reads the option `compress`.
function M.read(value, fn)
  if not value then return false end
  if value == true then value = {} end
  check.options(value, KNOWN, "compress", fn)
  local ok = pcall(require, "rille.core.compress")
  if not ok then check.bad("compress", fn, "this build has no library that compresses") end
  local types
  if value.types ~= nil then
    types = {}
    for _, name in ipairs(check.table(value.types, "compress.types", fn)) do
      types[lower(check.string(name, "compress.types", fn))] = true
    end
  end
  return {
    min_bytes = value.min_bytes == nil and MIN_BYTES
      or check.count(value.min_bytes, 0, "compress.min_bytes", fn),
    types = types,
    level = value.level ~= nil and check.count(value.level, 1, "compress.level", fn) or nil,
  }
end

local function is_worth_it(policy, content_type)
  if not content_type then return false end
  local name = lower(content_type:match "^[^;%s]*")
  if policy.types then
    return policy.types[name] or policy.types[name:match "^[^/]*/" .. "*"] or policy.types["*"]
      or false
  end
  return name:sub(1, 5) == "text/" or TYPES[name] or name:sub(-5) == "+json"
    or name:sub(-4) == "+xml"
end

-- The coding that the client likes best; of several, ours.
-- Source: RFC 9110, section 12.5.3.
local function negotiate(header)
  local weights, others = {}, 0
  for item in header:gmatch "[^,]+" do
    local name, rest = item:match "^%s*([^;%s]+)(.*)$"
    if name then
      local q = rest:match "[qQ]%s*=%s*([%d.]+)"
      q = q and tonumber(q) or 1
      if name == "*" then others = q else weights[lower(name)] = q end
    end
  end
  weights.gzip = weights.gzip or weights["x-gzip"]
  local best, most = nil, 0
  for _, coding in ipairs(CODINGS) do
    local q = weights[coding] or others
    if q > most then best, most = coding, q end
  end
  if best and (weights.identity or 0) > most then return nil end
  return best
end

--- What a response of that type, with these header lines, becomes: the lines, with Vary, and an
-- encoder if it is to be compressed.
---@param size? integer  nil if it is not known
function M.choose(policy, req, status, content_type, lines, size)
  if status < 200 or status == 204 or status == 206 or status == 304 or status == 416
    or size and size < policy.min_bytes or not is_worth_it(policy, content_type) then
    return lines, nil
  end
  local lower_lines = "\n" .. lower(lines)
  if find(lower_lines, "\ncontent-encoding:", 1, true)
    or find(lower_lines, "\ncache%-control:[^\r]*no%-transform") then
    return lines, nil
  end
  if not find(lower_lines, "\nvary:[^\r]*accept%-encoding") then
    lines = lines .. "Vary: Accept-Encoding\r\n"
  end
  local header = req.headers["accept-encoding"]
  local coding = header and negotiate(header)
  local encoder = coding
    and require("rille.core.compress").encoder(coding, policy.level)
  -- A library that is not there: the one that nearly always is.
  if coding and not encoder and coding ~= "gzip" and negotiate(header .. ", br;q=0, zstd;q=0") then
    coding = "gzip"
    encoder = require("rille.core.compress").encoder(coding, policy.level)
  end
  if not encoder then return lines, nil end
  -- It is not the same bytes any more.
  lines = ("\n" .. lines):gsub('(\n[eE][tT][aA][gG]:%s*)"', '%1W/"'):sub(2)
  return lines .. format("Content-Encoding: %s\r\n", coding), encoder
end

return M
