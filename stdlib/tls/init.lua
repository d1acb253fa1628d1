--- rille.tls: what TLS connections are set up with. Those themselves are made by `tls=` of
-- net.connect and net.listen, and by stream:start_tls().
local context = require "rille.tls.context"

local tls = {}

---@class rille.tls.Options
---@field ca? string  whom to trust, in place of the system's store; a path or PEM text
---@field cert? string  one's own certificate, and those between it and the root; a path or PEM text
---@field key? string  its key, a path or PEM text; by default in the file of `cert`
---@field password? string  of the key
---@field verify? boolean  whether the peer's certificate is checked; true for a client, else false
---@field server_name? string  the name that is sent and checked; the host by default
---@field alpn? string[]  protocols; the server's order decides, without a common one it refuses
---@field min_version? "1.2"|"1.3"  "1.2" by default
---@field max_version? "1.2"|"1.3"
---@field ciphers? string  OpenSSL's list, with colons; names of TLS 1.3 begin with "TLS_"

--- Parses certificates and keys once, for any number of connections on either side; as `tls=` it
-- does what the table would. A client's sessions are kept in it, so that later connections to the
-- same server take them up.
---@async
---@param options rille.tls.Options
---@return TLSContext
-- Errors: OSError with `path` for files that cannot be read; TLSError that names the file for what
-- is wrong in it: NO_START_LINE, KEY_VALUES_MISMATCH, BAD_DECRYPT (wrong password),
-- BAD_PASSWORD_READ (none given) ...
function tls.context(options) return context.new(options) end

return tls
