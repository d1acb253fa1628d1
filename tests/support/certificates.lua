--- A certificate authority made for a test, with the `openssl` command: `local ca =
-- certificates.authority(dir)`, `local server = ca:issue("localhost", { ... })`. Keys are on an
-- elliptic curve, since those are made at once.
local process_run = os.execute
local test = require "support.test"

local M = {}

local function quote(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end

--- Runs a command in a shell, and fails with what it said if it does.
function M.sh(dir, format, ...)
  local command = format:format(...)
  local log = dir .. "/openssl.log"
  local ok = process_run(("(%s) </dev/null >%s 2>&1"):format(command, quote(log)))
  if ok ~= true and ok ~= 0 then error(command .. ":\n" .. test.read(log), 2) end
end

local Authority = {}
Authority.__index = Authority

local number = 0

-- The beginning of every call: a key and a request.
local function new_key(dir, name, options)
  number = number + 1
  local base = ("%s/%s-%d"):format(dir, name:gsub("[^%w]", "_"), number)
  local algorithm = options.rsa and "RSA -pkeyopt rsa_keygen_bits:2048"
    or "EC -pkeyopt ec_paramgen_curve:P-256"
  M.sh(dir, "openssl genpkey -algorithm %s -out %s", algorithm, quote(base .. ".key"))
  return base
end

--- A new authority, that trusts itself.
---@param dir string  a folder for its files
---@param name? string
---@return table  `path` and `pem` of its certificate; issue()
function M.authority(dir, name)
  name = name or "Test CA"
  local base = new_key(dir, name, {})
  M.sh(dir, "openssl req -x509 -new -key %s -subj %s -days 30 -out %s -addext "
    .. "basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign",
    quote(base .. ".key"), quote("/O=Rille/CN=" .. name), quote(base .. ".pem"))
  return setmetatable({
    dir = dir, base = base, path = base .. ".pem", key = base .. ".key",
    pem = test.read(base .. ".pem"),
  }, Authority)
end

--- Issues a certificate.
---@param name string  its common name
---@param options? table  `names`: the SAN extension, "DNS:<name>" by default, false for none;
-- `from`, `to`: dates "YYYYMMDDHHMMSSZ"; `self_signed`; `ca`: one that may issue others; `rsa`;
-- `password`: of the key
---@return table  `cert`, `key`: paths
function Authority:issue(name, options)
  options = options or {}
  local dir = self.dir
  local base = new_key(dir, name, options)
  local extensions = "keyUsage=critical,digitalSignature\n"
  if options.ca then
    extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
  end
  local names = options.names
  if names == nil then names = "DNS:" .. name end
  if names and not options.ca then extensions = extensions .. "subjectAltName=" .. names .. "\n" end
  test.write(base .. ".ext", extensions)
  M.sh(dir, "openssl req -new -key %s -subj %s -out %s", quote(base .. ".key"),
    quote("/O=Rille/CN=" .. name), quote(base .. ".csr"))
  local signer = options.self_signed and { path = nil, key = base .. ".key" } or self
  -- `openssl x509 -req` takes no dates, `openssl ca` does.
  local work = base .. ".ca"
  M.sh(dir, "mkdir %s && touch %s/index.txt && echo %02x > %s/serial", quote(work), quote(work),
    number + 16, quote(work))
  test.write(work .. "/conf", ([[
[ca]
default_ca = it
[it]
database = %s/index.txt
serial = %s/serial
new_certs_dir = %s
default_md = sha256
policy = any
unique_subject = no
[any]
organizationName = optional
commonName = supplied
]]):format(work, work, work))
  M.sh(dir, "openssl ca -batch -config %s -in %s -out %s -notext -keyfile %s %s -extfile %s "
    .. "-startdate %s -enddate %s", quote(work .. "/conf"), quote(base .. ".csr"),
    quote(base .. ".pem"), quote(signer.key),
    options.self_signed and "-selfsign" or "-cert " .. quote(signer.path), quote(base .. ".ext"),
    options.from or "20200101000000Z", options.to or "20491231235959Z")
  if options.password then
    M.sh(dir, "openssl pkey -in %s -aes256 -passout %s -out %s", quote(base .. ".key"),
      quote("pass:" .. options.password), quote(base .. ".locked"))
    M.sh(dir, "mv %s %s", quote(base .. ".locked"), quote(base .. ".key"))
  end
  return setmetatable({
    dir = dir, base = base, cert = base .. ".pem", key = base .. ".key", path = base .. ".pem",
  }, Authority)
end

return M
