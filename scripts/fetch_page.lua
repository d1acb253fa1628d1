-- Fetches a page and prints how it begins. The connection is closed when the answer has been read,
-- whatever happens in between, so there is no session to open and close for a single request.
-- From "Asyncio Concurrency Patterns" (Coroutines vs Functions; Real-World Example: ClientSession).
-- The page comes from a server in this script, so its text differs from the document's.
local async = require "rille.async"
local http = require "rille.http"

local PAGE = "<html><body>" .. ("<p>A page of many words.</p>"):rep(20) .. "</body></html>"

async.with(http.serve { handler = function() return PAGE end }, function(server)
  local html = http.get("http://127.0.0.1:" .. server.port .. "/"):text()
  print(("Body: %s..."):format(html:sub(1, 100)))
end)
