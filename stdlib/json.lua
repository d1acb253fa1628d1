--- rille.json: Lua values to JSON text and back. Neither waits: a text of 100 MB holds the loop for
-- a second or so, which is better done by rille.worker.
--
-- Arrays are lists, objects tables with string keys, and null is `json.null`. An array that was
-- decoded is marked as one, as by `json.array`, so it is written as an array even when it is empty.
-- The mark is a metatable, and gone if the script sets one of its own; a table that already has one
-- when it is marked keeps it.
local binding = require "rille.core.json"
local marks = require "rille.core.marks"
local check = require "rille.core.check"
local errors = require "rille.errors"
local ffi = require "ffi"

local type, tostring, istype, min = type, tostring, ffi.istype, math.min
local int64, uint64 = ffi.typeof "int64_t", ffi.typeof "uint64_t"

local DEPTH = 1000
local WIDEST_INDENT = 100

---@class rille.json
---@field null lightuserdata  null, in both directions; the same in every worker
local json = {}

json.null = binding.null

-- ---- integers beyond 2^53 -----------------------------------------------------------------------

local two32, two32u = int64(2 ^ 32), uint64(2 ^ 32)

local decode, encode = binding.functions {
  -- From the upper half, which has the sign, and the lower half.
  make_signed = function(high, low) return high * two32 + low end,
  make_unsigned = function(high, low) return high * two32u + low end,
  is_signed = function(value)
    if istype(int64, value) then return true end
    if istype(uint64, value) then return false end
    return nil
  end,
  array_mark = marks.ARRAY, object_mark = marks.OBJECT, marks = marks.own,
}

-- ---- options ------------------------------------------------------------------------------------

local function depth_option(value, name)
  if value == nil then return DEPTH end
  return min(check.count(value, 1, "depth", name), 2 ^ 31)
end

local BIG = { double = 1, string = 2 }

local function decode_options(options)
  check.options(options, { big = true, depth = true }, 2, "decode")
  local big = 0
  if options.big ~= nil then
    big = BIG[options.big] or check.bad("big", "decode",
      ("'double' or 'string' expected, got '%s'"):format(tostring(options.big)))
  end
  return depth_option(options.depth, "decode"), big
end

local function indent_option(value)
  if value == nil then return nil end
  if type(value) == "number" then
    return (" "):rep(min(check.count(value, 0, "indent", "encode"), WIDEST_INDENT))
  end
  check.string(value, "indent", "encode")
  if value:find "[^ \t\r\n]" then
    check.bad("indent", "encode", "white space expected, got something else")
  end
  return value
end

local function encode_options(options)
  check.options(options, { indent = true, sort_keys = true, depth = true }, 2, "encode")
  return depth_option(options.depth, "encode"), indent_option(options.indent),
    options.sort_keys and true or false
end

-- ---- the functions ------------------------------------------------------------------------------

local function decode_error(message, position, line, column)
  errors._raise("JSONError", ("%s at line %d, column %d"):format(message, line, column),
    { position = position, line = line, column = column })
end

-- Paths can be as long as the value is deep.
local LONGEST_PATH = 200

local function encode_error(message, path)
  local shown = path
  if #path > LONGEST_PATH then shown = path:sub(1, 100) .. " ... " .. path:sub(-80) end
  errors._raise("JSONError", message .. " at " .. shown, { path = path })
end

---@class rille.json.DecodeOptions
---@field big? "double"|"string"  what becomes of a number beyond 64 bits or a double; else an error
---@field depth? integer  how many arrays and objects may stand in each other; 1000 by default

--- The value that a JSON text stands for. Integers beyond 2^53 come as `int64_t` or `uint64_t`; of
-- keys that stand twice in an object, the last counts.
---@param text string
---@param options? rille.json.DecodeOptions
---@return any
-- Errors: JSONError with `line`, `column` and `position`, in bytes and from 1: of the token that is
-- wrong, in a string of the very byte or escape, and the end of a text that is cut off.
-- Source: RFC 8259.
function json.decode(text, options)
  local depth, big = DEPTH, 0
  if options ~= nil then depth, big = decode_options(options) end
  if type(text) ~= "string" then text = check.string(text, 1, "decode") end
  local value, message, position, line, column = decode(text, depth, big)
  if message ~= nil then decode_error(message, position, line, column) end
  return value
end

---@class rille.json.EncodeOptions
---@field indent? integer|string  spaces (at most 100) or white space of a level; else one line
---@field sort_keys? boolean  keys in the order of their bytes; false by default
---@field depth? integer  how many tables may stand in each other; 1000 by default

--- The JSON text of a value. A table with the keys 1 to n is an array, one with string keys an
-- object, as is an empty one; json.array and json.object say otherwise. Metatables and what they do
-- are left out of account.
---@param value any  not nil
---@param options? rille.json.EncodeOptions
---@return string
-- Errors: JSONError with `path`, such as `$.users[3].name`, for what JSON has no place for: NaN,
-- infinities, functions, other userdata and cdata, strings that are not UTF-8, cycles, lists with
-- holes and mixed keys.
-- Source: RFC 8259.
function json.encode(value, options)
  if type(value) == "nil" then check.bad(1, "encode", "value expected, got nil") end
  local depth, indent, sort_keys = DEPTH, nil, nil
  if options ~= nil then depth, indent, sort_keys = encode_options(options) end
  local text, message, path = encode(value, depth, indent, sort_keys)
  if message ~= nil then encode_error(message, path) end
  return text
end

--- Marks a table as an array and returns it: it is one even when it is empty, its length is `t.n`
-- if that is there, else its largest key, and items that are nil are null.
---@param t table
---@return table t  the same
function json.array(t) return marks.set(check.table(t, 1, "array"), marks.ARRAY) end

--- Marks a table as an object and returns it: it is one even with the keys of a list, and keys that
-- are numbers are written as strings.
---@param t table
---@return table t  the same
function json.object(t) return marks.set(check.table(t, 1, "object"), marks.OBJECT) end

return json
