local async = require "rille.async"
local cancel_everywhere = require "support.cancel_everywhere"
local dns = require "rille.dns"
local errors = require "rille.errors"
local fs = require "rille.fs"
local net = require "rille.net"
local raw = require "stdlib.http.raw"
local dns_server = require "support.dns_server"
local test = require "support.test"

local serve = dns_server.serve
local has_cares = pcall(require, "rille.core.dns")

-- ---- the system's way ---------------------------------------------------------------------------

test("lookup gives the addresses of a name in /etc/hosts", function()
  local list = dns.lookup "localhost"
  assert(#list >= 1)
  for _, ip in ipairs(list) do assert(ip == "127.0.0.1" or ip == "::1", ip) end
end)

test("lookup gives an address back as it is, without asking anybody", function()
  test.eq(dns.lookup "127.0.0.1", { "127.0.0.1" })
  test.eq(dns.lookup "::1", { "::1" })
  test.eq(dns.lookup "0:0::1", { "::1" })
  test.eq(dns.lookup("::1", { family = "inet6" }), { "::1" })
  test.eq(dns.lookup("10.1.2.3", { family = 4 }), { "10.1.2.3" })
end)

test("lookup gives each address once", function()
  local seen = {}
  for _, ip in ipairs(dns.lookup "localhost") do
    assert(not seen[ip], ip)
    seen[ip] = true
  end
end)

test("lookup can be limited to a family", function()
  test.eq(dns.lookup("localhost", { family = "inet" }), { "127.0.0.1" })
  local ok, e = pcall(dns.lookup, "127.0.0.1", { family = "inet6" })
  assert(not ok and errors.is(e, "OSError"), tostring(e))
  test.eq(e.code, "EAI_ADDRFAMILY")
end)

test("an unknown host is an OSError that names it", function()
  local ok, e = pcall(dns.lookup, "nothere.invalid")
  assert(not ok and errors.is(e, "OSError"), tostring(e))
  -- Without a name server that answers, the system says "try again".
  assert(e.code == "EAI_NONAME" or e.code == "EAI_AGAIN", e.code)
  test.eq(e.syscall, "getaddrinfo")
  test.eq(e.address, "nothere.invalid")
  test.eq(type(e.errno), "number")
  test.contains(tostring(e), "getaddrinfo nothere.invalid")
end)

test("what cannot be a host's name is not asked for", function()
  for _, name in ipairs { "a..b", ("x"):rep(64), ("a."):rep(130), ".", "\255\254" } do
    local ok, e = pcall(dns.lookup, name)
    assert(not ok and errors.is(e, "OSError"), tostring(e))
    test.eq(e.code, "EAI_NONAME")
    test.eq(e.address, name)
  end
end)

test("wrong arguments of lookup are named", function()
  test.raises("bad argument #1 to 'lookup' %(.*got nil%)", dns.lookup)
  test.raises("bad argument #1 to 'lookup' %(.*got ''%)", dns.lookup, "")
  test.raises("bad argument #1 to 'lookup' %(.*'a\\0b'%)", dns.lookup, "a\0b")
  test.raises("bad argument #2 to 'lookup' %(unknown option 'famliy'", dns.lookup, "x",
    { famliy = "inet" })
  test.raises("bad argument 'family' to 'lookup' %(.*'ipv4'%)", dns.lookup, "x",
    { family = "ipv4" })
end)

test("a cancelled lookup frees its task at once", function()
  local task = async.spawn(dns.lookup, "localhost")
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled() or #task:result() > 0)
  while async.stats().abandoned > 0 do async.sleep(0.001) end
end)

test("many lookups at once all end", function()
  local list = {}
  for i = 1, 500 do list[i] = "localhost" end
  local found = async.map(list, function(host) return dns.lookup(host)[1] end)
  for i = 1, 500 do assert(found[i] == "127.0.0.1" or found[i] == "::1", found[i]) end
end)

test("net.connect names a host that it cannot find", function()
  local ok, e = pcall(net.connect, { host = "nothere.invalid", port = 80 })
  assert(not ok and errors.is(e, "OSError"), tostring(e))
  test.eq(e.syscall, "getaddrinfo")
  test.eq(e.address, "nothere.invalid")
end)

-- ---- without c-ares -----------------------------------------------------------------------------

if not has_cares then
  test("resolve and Resolver say which library is missing", function()
    test.raises("resolve: .*c%-ares", dns.resolve, "all.test")
    test.raises("Resolver: .*c%-ares", dns.Resolver)
  end)
  return
end

-- ---- records ------------------------------------------------------------------------------------

local function resolver(server, options)
  options = options or {}
  options.servers = options.servers or { server.address }
  local r = dns.Resolver(options)
  test.defer(function() r:close() end)
  return r
end

local function code_of(fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok, "it did not fail")
  if not errors.is(e, "OSError") then return e.kind or e end
  return e.code
end

test("each type of record has its own shape", function()
  local r = resolver(serve())
  local function all(kind) return r:resolve("all.test", kind) end
  test.eq(all "A", { "192.0.2.1", "192.0.2.2" })
  test.eq(all(nil), { "192.0.2.1", "192.0.2.2" })
  test.eq(all "AAAA", { "2001:db8::1" })
  test.eq(all "CNAME", { "other.test" })
  test.eq(all "NS", { "ns1.test", "ns2.all.test" })
  test.eq(all "PTR", { "host.test" })
  test.eq(all "TXT", { "v=spf1 -all", "two parts", "", "a\0b\255" })
  test.eq(all "MX", {
    { priority = 10, exchange = "mx1.test" }, { priority = 20, exchange = "mx2.test" },
  })
  test.eq(all "SRV", { { priority = 1, weight = 2, port = 443, name = "srv.test" } })
  test.eq(all "CAA", {
    { flags = 0, tag = "issue", value = "ca.test" }, { flags = 128, tag = "iodef", value = "" },
  })
end)

test("types may be written in small letters", function()
  test.eq(resolver(serve()):resolve("all.test", "aaaa"), { "2001:db8::1" })
end)

test("an alias is followed, and its own record can be asked for", function()
  local r = resolver(serve())
  test.eq(r:resolve "alias.test", { "192.0.2.7" })
  test.eq(r:resolve("alias.test", "CNAME"), { "real.test" })
  test.eq(code_of(r.resolve, r, "dangling.test"), "ENODATA")
end)

test("the root's name is a point", function()
  test.eq(resolver(serve()):resolve("null.test", "MX"), { { priority = 0, exchange = "." } })
end)

test("PTR takes an address of either family, or a name below arpa", function()
  local server = serve()
  local r = resolver(server)
  test.eq(r:resolve("192.0.2.1", "PTR"), { "host.test" })
  test.eq(r:resolve("2001:db8::1", "PTR"), { "host.test" })
  test.eq(r:resolve("1.2.0.192.in-addr.arpa", "PTR"), { "host.test" })
  test.eq(server.names, {
    "1.2.0.192.in-addr.arpa",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
    "1.2.0.192.in-addr.arpa",
  })
end)

test("a name is asked for as it stands: no search list, no /etc/hosts", function()
  local server = serve()
  local r = resolver(server)
  test.eq(code_of(r.resolve, r, "localhost"), "ENOTFOUND")
  test.eq(r:resolve("echo.test.", "TXT"), { "echo.test" })
  test.eq(server.names, { "localhost", "echo.test" })
end)

test("letters beyond ASCII are encoded", function()
  local r = resolver(serve())
  local function sent(name) return r:resolve("echo." .. name, "TXT")[1] end
  test.eq(sent "Bücher.test", "echo.xn--bcher-kva.test")
  test.eq(sent "правда.test", "echo.xn--80aafi6cg.test")
  test.eq(sent "他们为什么不说中文", "echo.xn--ihqwcrb4cv8a8dqg056pqjye")
  test.eq(sent "Plain.TEST", "echo.Plain.TEST")
end)

-- ---- errors -------------------------------------------------------------------------------------

test("an error tells the code, the call and the name", function()
  local r = resolver(serve())
  local ok, e = pcall(r.resolve, r, "nothere.test")
  assert(not ok and errors.is(e, "OSError"), tostring(e))
  test.eq(e.code, "ENOTFOUND")
  test.eq(e.syscall, "dns")
  test.eq(e.address, "nothere.test")
  test.eq(tostring(e), "OSError: no such domain name: dns nothere.test")
end)

test("what a server says is told by codes", function()
  local r = resolver(serve())
  for label, code in pairs {
    nothere = "ENOTFOUND", nodata = "ENODATA", servfail = "ESERVFAIL", refused = "EREFUSED",
    notimp = "ENOTIMP",
  } do
    test.eq(code_of(r.resolve, r, label .. ".test"), code, label)
  end
end)

test("a name that can be none is EBADNAME and is not sent", function()
  local server = serve()
  local r = resolver(server)
  for _, name in ipairs {
    "", "a..b", ".a", ("x"):rep(64) .. ".test", ("a."):rep(130), "\255.test", "\224\128\128",
    ("ü"):rep(60),
  } do
    local ok, e = pcall(r.resolve, r, name)
    assert(not ok and errors.is(e, "OSError"), tostring(e))
    test.eq(e.code, "EBADNAME")
    test.eq(e.address, name)
  end
  test.eq(server.questions, 0)
end)

test("a damaged answer is EBADRESP", function()
  local r = resolver(serve())
  for label, kind in pairs {
    junk = "A", short = "A", fewer = "A", wide = "A", narrow = "A", loop = "NS", beyond = "NS",
    overlong = "TXT",
  } do
    test.eq(code_of(r.resolve, r, label .. ".test", kind), "EBADRESP", label)
  end
  for _, kind in ipairs { "A", "AAAA", "CNAME", "NS", "PTR", "TXT", "MX", "SRV", "CAA" } do
    test.eq(code_of(r.resolve, r, "empty.test", kind), "EBADRESP", kind)
  end
end)

test("a message that is no answer at all is EBADRESP", function()
  local r = resolver(serve())
  for _, label in ipairs { "babble", "zeros", "mirror", "stump", "headless" } do
    test.eq(code_of(r.resolve, r, label .. ".test"), "EBADRESP", label)
  end
  local hasty = resolver(serve(), { timeout = 0.1 })
  test.eq(code_of(hasty.resolve, hasty, "gibberish.test"), "EBADRESP") -- when the time is over
  test.eq(code_of(hasty.resolve, hasty, "silent.test"), "TimeoutError")
end)

test("rubbish for one question is not held against another", function()
  local r = resolver(serve(), { timeout = 0.2 })
  local silent = async.spawn(code_of, r.resolve, r, "silent.test")
  test.eq(code_of(r.resolve, r, "babble.test"), "EBADRESP")
  test.eq(silent:await(), "TimeoutError")
end)

test("an error without the question in it is told", function()
  local r = resolver(serve())
  test.eq(code_of(r.resolve, r, "bare.test"), "EREFUSED")
end)

test("arbitrary bytes in an answer are an error or records, and never a crash", function()
  local r = resolver(serve())
  local kinds = { "A", "AAAA", "CNAME", "NS", "PTR", "TXT", "MX", "SRV", "CAA" }
  for i = 1, 900 * test.SCALE do
    local ok, e = pcall(r.resolve, r, "random.test", kinds[i % #kinds + 1])
    assert(ok or errors.is(e, "OSError") and (e.code == "EBADRESP" or e.code == "ENODATA"),
      tostring(e))
  end
end)

test("messages that do not answer the question are passed over", function()
  local r = resolver(serve())
  for _, label in ipairs { "otherid", "othername", "noise" } do
    test.eq(r:resolve(label .. ".test"), { "192.0.2.1", "192.0.2.2" }, label)
  end
end)

-- ---- servers, limits ----------------------------------------------------------------------------

test("silence is a TimeoutError that names the question", function()
  local r = resolver(serve(), { timeout = 0.05 })
  local ok, e = pcall(r.resolve, r, "silent.test")
  assert(not ok and errors.is(e, "TimeoutError"), tostring(e))
  test.eq(e.address, "silent.test")
  test.contains(tostring(e), "dns silent.test")
end)

test("a question that is lost is asked again", function()
  local server = serve()
  test.eq(resolver(server, { timeout = 2 }):resolve "second.test", { "192.0.2.1", "192.0.2.2" })
  test.eq(server.questions, 2)
end)

test("with one try nothing is asked twice", function()
  local server = serve()
  local r = resolver(server, { timeout = 0.05, tries = 1 })
  test.eq(code_of(r.resolve, r, "second.test"), "TimeoutError")
  test.eq(server.questions, 1)
end)

test("tries stay within the timeout", function()
  local server = serve()
  local r = resolver(server, { timeout = 0.1, tries = 4 })
  test.eq(code_of(r.resolve, r, "silent.test"), "TimeoutError")
  assert(server.questions >= 2 and server.questions <= 4, server.questions)
end)

test("the next server is asked when one is silent, has failed or is not there", function()
  local failing, good = serve(), serve()
  failing.everything = "servfail"
  local r = resolver(nil, { servers = { failing.address, good.address } })
  test.eq(r:resolve "all.test", { "192.0.2.1", "192.0.2.2" })
  assert(failing.questions >= 1 and good.questions == 1)

  failing.everything = "silent"
  r = resolver(nil, { servers = { failing.address, good.address }, timeout = 2 })
  test.eq(r:resolve "all.test", { "192.0.2.1", "192.0.2.2" })

  r = resolver(nil, { servers = { "127.0.0.1:1", good.address } })
  test.eq(r:resolve "all.test", { "192.0.2.1", "192.0.2.2" })
end)

test("if all servers fail the error is what the first one said", function()
  local one, other = serve(), serve()
  local r = resolver(nil, { servers = { one.address, other.address } })
  test.eq(code_of(r.resolve, r, "refused.test"), "EREFUSED")
  test.eq(code_of(r.resolve, r, "servfail.test"), "ESERVFAIL")
end)

test("a name that is not there is so for good: no other server is asked", function()
  local one, other = serve(), serve()
  local r = resolver(nil, { servers = { one.address, other.address } })
  test.eq(code_of(r.resolve, r, "nothere.test"), "ENOTFOUND")
  test.eq(other.questions, 0)
end)

test("a server that is not there is ECONNREFUSED", function()
  local r = resolver(nil, { servers = { "127.0.0.1:1" } })
  test.eq(code_of(r.resolve, r, "all.test"), "ECONNREFUSED")
end)

test("an answer that is too large for UDP comes over TCP", function()
  local server = serve()
  local list = resolver(server):resolve "big.test"
  test.eq(#list, 1000)
  test.eq(list[1000], "192.0.2.9")
  test.eq(server.tcp_questions, 1)
end)

test("a connection that ends in the middle of an answer is an error, and so is silence on it",
  function()
    local r = resolver(serve(), { timeout = 0.2 })
    test.eq(code_of(r.resolve, r, "cut.test"), "ECONNREFUSED")
    test.eq(code_of(r.resolve, r, "mute.test"), "TimeoutError")
  end)

test("servers of IPv6 are asked too", function()
  local ok, server = pcall(serve, "::1")
  if not ok then return end -- no IPv6 here
  test.matches(server.address, "^%[::1%]:%d+$")
  test.eq(resolver(server):resolve "all.test", { "192.0.2.1", "192.0.2.2" })
end)

test("dns.resolve takes the options too, and those with the same ones share sockets", function()
  local server = serve()
  local options = { servers = { server.address }, timeout = 5, tries = 2 }
  async.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function()
    return dns.resolve("all.test", "A", options)
  end)
  test.eq(server.questions, 8)
  local ports = {}
  for port in pairs(server.ports) do ports[#ports + 1] = port end
  test.eq(#ports, 1)
  test.eq(dns.resolve("all.test", "TXT", options)[1], "v=spf1 -all")
end)

test("wrong arguments are named", function()
  test.raises("bad argument #1 to 'resolve' %(.*got nil%)", dns.resolve)
  test.raises("bad argument #1 to 'resolve' %(.*'a\\0b'%)", dns.resolve, "a\0b")
  test.raises("bad argument #2 to 'resolve' %(.*'SOA'%)", dns.resolve, "x", "SOA")
  test.raises("bad argument #2 to 'resolve' %(string expected, got table%)", dns.resolve, "x",
    { servers = { "127.0.0.1" } })
  test.raises("bad argument #3 to 'resolve' %(unknown option 'server'", dns.resolve, "x", "A",
    { server = "127.0.0.1" })
  test.raises("bad argument #1 to 'Resolver' %(table expected", dns.Resolver, "127.0.0.1")
  for _, server in ipairs {
    "localhost", "", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "[::1", "[::1]53", "::1:53x",
    "[127.0.0.1]:53", "127.0.0.1:5x", "1.2.3.4.5", "127.0.0.1\0",
  } do
    test.raises("bad argument 'servers' to 'Resolver'", dns.Resolver, { servers = { server } })
  end
  test.raises("bad argument 'servers' to 'Resolver' %(.*got none%)", dns.Resolver, { servers = {} })
  test.raises("bad argument 'servers' to 'Resolver' %(table", dns.Resolver, { servers = "::1" })
  test.raises("bad argument 'timeout' to 'Resolver'", dns.Resolver, { timeout = 0 })
  test.raises("bad argument 'timeout' to 'Resolver'", dns.Resolver, { timeout = "soon" })
  test.raises("bad argument 'tries' to 'Resolver'", dns.Resolver, { tries = 0 })
  test.raises("bad argument 'tries' to 'Resolver'", dns.Resolver, { tries = 1.5 })
end)

-- ---- many, and giving up ------------------------------------------------------------------------

test("a thousand questions at once are all answered", function()
  local server = serve()
  local r = resolver(server, { timeout = 30 })
  local list = {}
  for i = 1, 1000 * test.SCALE do list[i] = ("echo.%d.test"):format(i) end
  local found = async.map(list, function(name) return r:resolve(name, "TXT")[1] end)
  for i, name in ipairs(list) do test.eq(found[i], name) end
end)

test("a thousand questions to a silent server all come to their timeout", function()
  local r = resolver(serve(), { timeout = 0.3, tries = 1 })
  local list = {}
  for i = 1, 1000 * test.SCALE do list[i] = ("silent.%d.test"):format(i) end
  local found = async.map(list, function(name) return code_of(r.resolve, r, name) end)
  for i = 1, #list do test.eq(found[i], "TimeoutError") end
end)

test("a cancelled question leaves the others alone", function()
  local server = serve()
  local r = resolver(server, { timeout = 5 })
  local silent = async.spawn(r.resolve, r, "silent.test")
  local second = async.spawn(r.resolve, r, "second.test")
  while server.questions < 2 do async.sleep(0.001) end
  silent:cancel()
  async.wait { silent }
  assert(silent:cancelled())
  test.eq(async.stats().abandoned, 1)
  test.eq(second:await(), { "192.0.2.1", "192.0.2.2" })
end)

test("when nobody waits any more all questions end and sockets close", function()
  local server = serve()
  local before = raw.open_files()
  local r = resolver(server)
  local tasks = {}
  for i = 1, 300 do tasks[i] = async.spawn(r.resolve, r, "silent." .. i .. ".test") end
  while server.questions < 100 do async.sleep(0.001) end
  for i = 1, 300 do tasks[i]:cancel() end
  async.wait(tasks)
  async.sleep(0.001)
  test.eq(async.stats().abandoned, 0)
  test.eq(raw.open_files(), before)
  test.eq(r:resolve "all.test", { "192.0.2.1", "192.0.2.2" }) -- it goes on to work
end)

test("a closed resolver is an InvalidStateError, also for who waits in it", function()
  local server = serve()
  local before = raw.open_files()
  local r = dns.Resolver { servers = { server.address } }
  local tasks = {}
  for i = 1, 200 do tasks[i] = async.spawn(r.resolve, r, "silent.test") end
  while server.questions < 100 do async.sleep(0.001) end
  r:close()
  async.wait(tasks)
  for i = 1, 200 do assert(errors.is(tasks[i]:error(), "InvalidStateError")) end
  test.eq(code_of(r.resolve, r, "all.test"), "InvalidStateError")
  r:close()
  async.sleep(0.001)
  test.eq(raw.open_files(), before)
end)

test("async.with closes a resolver", function()
  local server, kept = serve(), nil
  async.with(dns.Resolver { servers = { server.address } }, function(r)
    kept = r
    r:resolve "all.test"
  end)
  test.eq(code_of(kept.resolve, kept, "all.test"), "InvalidStateError")
end)

test("resolvers that are dropped leave no socket open", function()
  local server = serve()
  local before = raw.open_files()
  for _ = 1, 20 do
    local r = dns.Resolver { servers = { server.address } }
    local task = async.spawn(r.resolve, r, "silent.test")
    async.sleep(0)
    task:cancel()
    async.wait { task }
    r:resolve "all.test"
  end
  collectgarbage()
  collectgarbage()
  async.sleep(0.001)
  test.eq(raw.open_files(), before)
end)

test("files are read while name servers are silent", function()
  local path = test.tmpdir() .. "/file"
  fs.write_file(path, "text")
  local r = resolver(serve())
  local tasks = {}
  for i = 1, 50 do tasks[i] = async.spawn(r.resolve, r, "silent.test") end
  for _ = 1, 20 do test.eq(fs.read_file(path), "text") end
  for _, task in ipairs(tasks) do
    assert(not task:done())
    task:cancel()
  end
  async.wait(tasks)
end)

test("a task that waits for an answer says so", function()
  local report = require "rille.core.report"
  local r = resolver(serve())
  local task = async.spawn(r.resolve, r, "silent.test")
  async.sleep(0)
  test.eq(report.waits_for(task), "waits for dns: silent.test")
  task:cancel()
  async.wait { task }
end)

test("questions and lookups can be cancelled everywhere", function()
  -- In a process of its own the server is not cancelled with the rest.
  local servers = { dns_server.serve_apart() }
  local r, hasty = resolver(nil, { servers = servers }), resolver(nil, { servers = servers,
    timeout = 0.02 })
  local before = raw.open_files()
  cancel_everywhere {
    patience = 2000,
    body = function()
      local others = async.spawn(r.resolve, r, "all.test", "TXT")
      assert(#r:resolve "big.test" == 1000)
      dns.lookup "localhost"
      local ok, e = pcall(hasty.resolve, hasty, "silent.test")
      if not ok and async.is_cancelled(e) then error(e, 0) end
      others:await()
    end,
    check = function()
      test.eq(#r:resolve "all.test", 2)
      for _ = 1, 100 do
        if raw.open_files() <= before then return end
        async.sleep(0.001)
      end
      test.eq(raw.open_files(), before)
    end,
  }
end)
