-- Who is asked without a proxy.
local test = require "support.test"
local http = require "rille.http"
local no_proxy, url_of = require "rille.http.no_proxy", require "rille.http.url"

local function names(text, host) return no_proxy.names(text, url_of.parse(host)) end

-- Fails unless the list names the hosts of the one and not those of the other.
local function check(text, named, others)
  for _, host in ipairs(named) do test.eq(names(text, host), true, text .. " and " .. host) end
  for _, host in ipairs(others) do test.eq(names(text, host), false, text .. " and " .. host) end
end

test("a domain stands for all below it, with a dot in front and without", function()
  for _, text in ipairs { "x.org", ".x.org", "*.x.org", "X.ORG.", "a.test, x.org", "a x.org" } do
    check(text, { "http://x.org", "http://a.x.org/", "https://b.a.X.org", "http://x.org./" },
      { "http://ax.org", "http://x.org.test", "http://org", "http://1.2.3.4" })
  end
  check("localhost", { "http://localhost:8080" }, { "http://127.0.0.1" })
end)

test("an entry with a port is for that port alone, the scheme's own included", function()
  check("x.org:8080", { "http://a.x.org:8080" }, { "http://x.org", "http://x.org:80" })
  check("x.org:80,y.org:443", { "http://x.org", "https://y.org" },
    { "https://x.org", "http://y.org" })
  check("10.0.0.1:81", { "http://10.0.0.1:81" }, { "http://10.0.0.1" })
  check("[::1]:81", { "http://[::1]:81" }, { "http://[::1]" })
end)

test("networks and addresses are compared as numbers", function()
  check("10.0.0.0/8", { "http://10.1.2.3" }, { "http://11.0.0.1", "http://10.test" })
  check("10.1.2.3/9", { "http://10.127.0.1" }, { "http://10.128.0.1" }) -- host bits do not count
  check("192.168.7.128/25", { "http://192.168.7.200" }, { "http://192.168.7.100" })
  check("0.0.0.0/0", { "http://1.2.3.4" }, { "http://[::1]", "http://x.org" })
  check("fd00::/8,[fe80::]/10", { "http://[fd12::1]", "http://[fe80::1]" },
    { "http://[fc00::1]", "http://[ff80::1]", "http://1.2.3.4" })
  check("::1", { "http://[::1]", "http://[0:0:0:0:0:0:0:1]:80" }, { "http://[::2]" })
  check("[::1]", { "http://[::1]" }, { "http://[::2]" })
  check("2001:DB8::1", { "http://[2001:db8:0::1]" }, { "http://[2001:db8::2]" })
  check("127.0.0.1", { "http://127.0.0.1", "http://[::ffff:127.0.0.1]" }, { "http://127.0.0.2" })
  -- The end of an address is not a domain.
  check("0.0.1,.0.0.1", {}, { "http://127.0.0.1" })
end)

test("a star is everything, and what is no entry nothing", function()
  check("*", { "http://x.org", "http://[::1]" }, {})
  check("a.test,*", { "http://x.org" }, {})
  check(" , ,", {}, { "http://x.org" })
  check("10.0.0.0/33,10.0.0/8,1.2.3.4/,/8,.,:80,x*.org", {},
    { "http://10.0.0.1", "http://1.2.3.4", "http://x.org", "http://xy.org." })
end)

test("a request's list replaces the session's, and both may be tables", function()
  local server = http.serve { handler = function(req) return req.target end }
  test.defer(function() server:close(0) end)
  local base = "http://127.0.0.1:" .. server.port
  local s = http.Session { proxy = base, no_proxy = { "a.test", "127.0.0.0/8" } }
  test.defer(function() s:close() end)
  local function asked(no_proxy_option)
    return s:get(base .. "/x", { no_proxy = no_proxy_option }):text()
  end
  test.eq(asked(), "/x")
  test.eq(asked { "a.test" }, base .. "/x")
  test.eq(asked(false), base .. "/x")
  test.eq(asked "*", "/x")
  test.blames_caller("bad argument 'no_proxy' to 'get' (table expected, got number)",
    function() s:get(base, { no_proxy = 1 }) end)
  test.blames_caller("bad argument 'no_proxy[2]' to 'Session' (string expected, got boolean)",
    function() http.Session { no_proxy = { "x", true } } end)
end)
