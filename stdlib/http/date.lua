--- Dates as HTTP writes them.
local M = {}

local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
  "Dec" }
local NUMBERS = {}
for i, name in ipairs(MONTHS) do NUMBERS[name:lower()] = i end

--- "Sun, 06 Nov 1994 08:49:37 GMT"
---@param time number  seconds since 1970
---@return string
function M.format(time)
  local t = os.date("!*t", math.floor(time))
  return ("%s, %02d %s %04d %02d:%02d:%02d GMT"):format(DAYS[t.wday], t.day, MONTHS[t.month],
    t.year, t.hour, t.min, t.sec)
end

-- Days since 1970 of a day in the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year
    - 719468
end

--- The time that a text says, in one of the three forms that there are; nil if it is none.
---@param text string
---@return number?
-- Source: RFC 9110, section 5.6.7.
function M.parse(text)
  local day, month, year, hour, min, sec = text:match
    "^%a+, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$"
  if not day then
    day, month, year, hour, min, sec = text:match
      "^%a+, (%d%d)%-(%a%a%a)%-(%d%d) (%d%d):(%d%d):(%d%d) GMT$"
    if day then
      year = tonumber(year) + 1900
      -- What would lie more than 50 years ahead is past.
      if year + 50 < tonumber(os.date "!%Y") then year = year + 100 end
    end
  end
  if not day then
    month, day, hour, min, sec, year = text:match
      "^%a%a%a (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$"
  end
  local number = month and NUMBERS[month:lower()]
  if not number then return nil end
  day, hour, min, sec = tonumber(day), tonumber(hour), tonumber(min), tonumber(sec)
  if day < 1 or day > 31 or hour > 23 or min > 59 or sec > 60 then return nil end
  return days(tonumber(year), number, day) * 86400 + hour * 3600 + min * 60 + sec
end

return M
