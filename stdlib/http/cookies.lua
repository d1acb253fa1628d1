--- A jar of cookies, as a client keeps them.
local check = require "rille.core.check"

local trim = require("rille.http.fields").trim

local lower = string.lower

local MONTHS = {}
for i, name in ipairs { "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov",
  "dec" } do
  MONTHS[name] = i
end

-- A jar is for a program, not for a person: these bound what a server can make it keep.
local MAX_BYTES, MAX_PER_DOMAIN, MAX_ALL = 4096, 180, 3000

local M = {}

-- Days since 1970 of a date of the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

--- Reads the dates that servers write, in whichever form; nil for what is none.
---@param text string
---@return number?  seconds since 1970
-- Source: RFC 6265, section 5.1.1.
function M.parse_date(text)
  local hour, minute, second, day, month, year
  for token in text:gmatch "[^\t\32-\47\59-\64\91-\96\123-\126]+" do
    local h, m, s = token:match "^(%d%d?):(%d%d?):(%d%d?)%f[%D]"
    if not hour and h then
      hour, minute, second = tonumber(h), tonumber(m), tonumber(s)
    elseif not day and token:find "^%d%d?%f[%D]" then
      day = tonumber(token:match "^%d+")
    elseif not month and MONTHS[lower(token:sub(1, 3))] then
      month = MONTHS[lower(token:sub(1, 3))]
    elseif not year and token:find "^%d%d%d?%d?%f[%D]" then
      year = tonumber(token:match "^%d+")
    end
  end
  if not (hour and day and month and year) then return nil end
  if year >= 70 and year <= 99 then year = year + 1900 elseif year <= 69 then year = year + 2000 end
  if day < 1 or day > 31 or year < 1601 then return nil end
  if hour > 23 or minute > 59 or second > 59 then return nil end
  return ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
end

local function is_address(host) return host:find(":", 1, true) or host:find "^[%d.]+$" end

-- RFC 6265, section 5.1.3.
local function domain_matches(host, domain)
  if host == domain then return true end
  return host:sub(-#domain - 1) == "." .. domain and not is_address(host)
end

local function path_matches(path, cookie_path)
  if path == cookie_path then return true end
  return path:sub(1, #cookie_path) == cookie_path
    and (cookie_path:sub(-1) == "/" or path:sub(#cookie_path + 1, #cookie_path + 1) == "/")
end

local function path_of(target) return target:match "^[^?]*" end

local function default_path(target)
  local path = path_of(target)
  return path:match "^(/.*)/[^/]*$" or "/"
end

-- The attributes of a Set-Cookie field, and its name and value.
local function parse(text)
  local pair, rest = text:match "^([^;]*);?(.*)$"
  local name, value = pair:match "^([^=]*)=(.*)$"
  if not name then return nil end
  name, value = trim(name), trim(value)
  if name == "" or #name + #value > MAX_BYTES or (name .. value):find "[%z\1-\31\127]" then
    return nil
  end
  local attributes = {}
  for attribute in rest:gmatch "[^;]+" do
    local key, v = attribute:match "^([^=]*)=?(.*)$"
    attributes[lower(trim(key))] = trim(v)
  end
  return name, value, attributes
end

---@class CookieJar
local Jar = { __name = "CookieJar" }
Jar.__index = Jar

-- A name of one label (`com`, `localhost`) is nobody's to share.
local function is_shareable(domain) return domain:find(".", 1, true) and not is_address(domain) end

local function expiry(attributes, now)
  local age = attributes["max-age"]
  if age and age:find "^%-?%d+$" then
    age = tonumber(age)
    return age <= 0 and -math.huge or now + age
  end
  return attributes.expires and M.parse_date(attributes.expires) or math.huge
end

local function forget_expired(self)
  local now = os.time()
  for key, list in pairs(self._domains) do
    for i = #list, 1, -1 do
      if list[i].expires <= now then
        table.remove(list, i)
        self._count = self._count - 1
      end
    end
    if not list[1] then self._domains[key] = nil end
  end
end

-- Names that promise something of their cookies: who cannot keep it does not set them.
-- Source: RFC 6265bis, section 4.1.3.
local function keeps_promise(name, cookie)
  name = lower(name)
  if name:sub(1, 9) == "__secure-" then return cookie.secure end
  if name:sub(1, 7) ~= "__host-" then return true end
  return cookie.secure and cookie.host_only and cookie.path == "/"
end

local function store(self, cookie)
  local domain = cookie.domain or ""
  local list = self._domains[domain] or {}
  self._domains[domain] = list
  for i, c in ipairs(list) do
    if c.name == cookie.name and c.path == cookie.path then
      cookie.number = c.number
      table.remove(list, i)
      self._count = self._count - 1
      break
    end
  end
  if cookie.expires <= os.time() then
    if not list[1] then self._domains[domain] = nil end
    return
  end
  if #list >= MAX_PER_DOMAIN then
    table.remove(list, 1)
    self._count = self._count - 1
  elseif self._count >= MAX_ALL then
    forget_expired(self)
    if self._count >= MAX_ALL then return end
    -- It may have been left out as empty.
    self._domains[domain] = list
  end
  self._last = self._last + 1
  cookie.number = cookie.number or self._last
  list[#list + 1] = cookie
  self._count = self._count + 1
end

--- Takes what a response has set: `set_cookies` are its Set-Cookie fields, `url` the parsed URL of
-- the request.
-- Source: RFC 6265, section 5.3.
function Jar:_take(set_cookies, url)
  local now = os.time()
  for _, text in ipairs(set_cookies) do
    local name, value, attributes = parse(text)
    if name then
      local host, domain = url.host, attributes.domain
      domain = domain and lower(domain:gsub("^%.", "")) or ""
      local host_only = domain == "" or domain == host
      local allowed = host_only or is_shareable(domain) and domain_matches(host, domain)
      if attributes.secure and not url.tls then allowed = false end
      if domain == host and is_shareable(host) then host_only = false end
      local path = attributes.path
      if not path or path:sub(1, 1) ~= "/" then path = default_path(url.target) end
      local cookie = {
        name = name, value = value, path = path, expires = expiry(attributes, now),
        domain = host_only and host or domain, host_only = host_only,
        secure = attributes.secure ~= nil, http_only = attributes.httponly ~= nil,
      }
      if allowed and keeps_promise(name, cookie) then store(self, cookie) end
    end
  end
end

local function fits(cookie, url, now)
  if cookie.secure and not url.tls or cookie.expires <= now then return false end
  return path_matches(path_of(url.target), cookie.path)
end

--- The Cookie field for a request; nil for none. Cookies without a domain go to `own` alone.
function Jar:_header(url, own)
  if self._count == 0 then return nil end
  local now, found = os.time(), {}
  local function add(list, exact)
    for _, cookie in ipairs(list or {}) do
      if (exact or not cookie.host_only) and fits(cookie, url, now) then
        found[#found + 1] = cookie
      end
    end
  end
  local host = url.host
  add(self._domains[host], true)
  if own then add(self._domains[""], true) end
  if not is_address(host) then
    local parent = host:match "^[^.]+%.(.*)$"
    while parent do
      add(self._domains[parent], false)
      parent = parent:match "^[^.]+%.(.*)$"
    end
  end
  if #found == 0 then return nil end
  -- Longer paths come first, then older ones: RFC 6265, section 5.4.
  table.sort(found, function(a, b)
    if #a.path ~= #b.path then return #a.path > #b.path end
    return a.number < b.number
  end)
  for i, cookie in ipairs(found) do found[i] = cookie.name .. "=" .. cookie.value end
  return table.concat(found, "; ")
end

--- The value of a cookie.
---@param name string
---@param domain? string  any by default
---@return string?
function Jar:get(name, domain)
  local now = os.time()
  for key, list in pairs(self._domains) do
    for _, cookie in ipairs(list) do
      local fit = domain == nil or key == lower(domain)
      if fit and cookie.name == name and cookie.expires > now then
        return cookie.value
      end
    end
  end
end

local SET = { domain = true, path = true, expires = true, secure = true }

---@class rille.http.JarOptions
---@field domain? string
---@field path? string  "/" by default
---@field expires? number  seconds since 1970
---@field secure? boolean

--- Puts a cookie in. Without a domain it goes with every request that the script itself makes, and
-- with no redirect to another host.
---@param name string
---@param value string|number
---@param options? rille.http.JarOptions
function Jar:set(name, value, options)
  name = check.string(name, 1, "set")
  value = check.string(value, 2, "set")
  options = check.options(options, SET, 3, "set")
  if name == "" or name:find "[%z\1-\32\127;,=\"]" then
    check.bad(1, "set", ("'%s' cannot be a cookie's name"):format(name:gsub("%c", "?")))
  end
  if value:find "[%z\1-\31\127;]" then
    check.bad(2, "set", ("cookie '%s' has a value that cannot be sent"):format(name))
  end
  store(self, {
    name = name, value = value, path = options.path or "/", expires = options.expires or math.huge,
    domain = options.domain and lower(options.domain) or nil, secure = options.secure or false,
    host_only = false,
  })
end

--- Forgets a cookie of that name, wherever it belongs, or all of them.
---@param name? string
function Jar:clear(name)
  if name == nil then
    self._domains, self._count = {}, 0
    return
  end
  for key, list in pairs(self._domains) do
    for i = #list, 1, -1 do
      if list[i].name == name then
        table.remove(list, i)
        self._count = self._count - 1
      end
    end
    if not list[1] then self._domains[key] = nil end
  end
end

--- Iterates over names, values and domains.
---@return fun(): string?, string?, string?
function Jar:iter()
  local all = {}
  for key, list in pairs(self._domains) do
    for _, cookie in ipairs(list) do all[#all + 1] = { cookie.name, cookie.value, key } end
  end
  table.sort(all, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[3] < b[3] end)
  local i = 0
  return function()
    i = i + 1
    if all[i] then return all[i][1], all[i][2], all[i][3] end
  end
end

--- An empty jar, or one with the cookies of a map.
---@param values? table<string, string>
function M.new(values)
  local jar = setmetatable({ _domains = {}, _count = 0, _last = 0 }, Jar)
  for name, value in pairs(values or {}) do jar:set(name, value) end
  return jar
end

--- What a response sets, by name.
function M.read(set_cookies)
  local found = {}
  for _, text in ipairs(set_cookies) do
    local name, value = parse(text)
    if name then found[name] = value end
  end
  return found
end

return M
