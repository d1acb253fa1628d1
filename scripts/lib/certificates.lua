--- Certificates for the time of a script: an authority of one's own and what it has signed, as PEM
-- files in a folder. The `openssl` command makes them.
local process = require "rille.process"

local M = {}

local function request(dir, name, subject, ...)
  local command = { "openssl", "req", "-x509", "-days", 2, "-noenc", "-newkey", "ec",
    "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=" .. subject,
    "-keyout", name .. ".key", "-out", name .. ".pem", cwd = dir, check = true }
  for _, argument in ipairs { ... } do command[#command + 1] = argument end
  process.run(command)
  return { cert = dir .. "/" .. name .. ".pem", key = dir .. "/" .. name .. ".key" }
end

--- Makes an authority that trusts itself: { cert = PATH, key = PATH }.
function M.authority(dir)
  return request(dir, "ca", "Our own authority")
end

--- Makes a certificate that the authority has signed, for a server ("DNS:localhost") or a person
-- ("email:ann@example.org"): { cert = PATH, key = PATH }.
function M.issue(dir, ca, subject, name)
  return request(dir, subject, subject, "-CA", ca.cert, "-CAkey", ca.key,
    "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=" .. name)
end

return M
