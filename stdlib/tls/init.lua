--- rille.tls: what TLS connections are set up with. Those themselves are made by `tls=` of
-- net.connect and net.listen, and by stream:start_tls().
local context = require "rille.tls.context"

local tls = {}

--- Parses certificates and keys once, for any number of connections on either side; as `tls=` it
-- does what the table would. A client's sessions are kept in it, so that later connections to the
-- same server take them up.
---@async
---@param options table  `ca`, `cert`, `key`: paths or PEM text; `ca`: whom to trust, instead of the
-- system's store; `cert`: one's own certificate, with those between it and the root behind it;
-- `key`: its key, by default in the file of `cert`; `password` of the key; `verify`: whether the
-- peer's certificate is demanded and checked, true for a client and false for a server by default;
-- `server_name`: the name that is sent and checked, the host by default; `alpn`: list of protocols,
-- the server's order decides, and a client without any of them is refused (RFC 7301);
-- `min_version` ("1.2" by default), `max_version`; `ciphers`: OpenSSL's list, separated by colons,
-- where the names of TLS 1.3's suites begin with "TLS_": if nothing but suites is named, versions
-- without any of them are out
---@return TLSContext
-- Errors: OSError with `path` for files that cannot be read; TLSError that names the file for what
-- is wrong in it: NO_START_LINE, KEY_VALUES_MISMATCH, BAD_DECRYPT (wrong password),
-- BAD_PASSWORD_READ (none given) ...
function tls.context(options) return context.new(options) end

return tls
