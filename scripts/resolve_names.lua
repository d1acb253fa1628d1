-- Asks a name server, several questions at once: addresses, mail servers, texts; what is not there
-- is an error that says why. The server is one of this program's own.
local async = require "rille.async"
local dns = require "rille.dns"
local errors = require "rille.errors"
local dns_server = require "lib.dns_server"
local show = require "lib.show"

local ZONE = {
  ["www.example"] = { A = { "192.0.2.1", "192.0.2.2" } },
  ["example"] = {
    MX = { { 20, "backup.example" }, { 10, "mail.example" } },
    TXT = { "v=spf1 -all" },
  },
}

local QUESTIONS = {
  { "www.example", "A" },
  { "example", "MX" },
  { "example", "TXT" },
  { "www.example", "MX" },
  { "nowhere.example", "A" },
  { "two..dots", "A" },
}

async.with(dns_server(ZONE), function(server)
  local resolver = dns.Resolver { servers = { tostring(server:address()) } }

  local answers = async.map(QUESTIONS, function(question)
    local ok, result = pcall(resolver.resolve, resolver, question[1], question[2])
    if ok then return show(result) end
    if errors.is(result, "OSError") then return result.code end
    error(result, 0)
  end)
  for i, question in ipairs(QUESTIONS) do
    print(("%-16s %-4s %s"):format(question[1], question[2], answers[i]))
  end
end)

-- This is how the system finds addresses: its own file of names first, then its name servers.
print("localhost is " .. dns.lookup("localhost", { family = "inet" })[1])
