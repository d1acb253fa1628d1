--- rille.core.tls, or an error that says why there is none.
local ok, binding = pcall(require, "rille.core.tls")
if ok then return binding end
if not tostring(binding):find("module 'rille.core.tls' not found", 1, true) then
  error(binding, 0)
end
error("TLS is not in this build of Rille: it was made without OpenSSL 3 "
  .. "(on Debian the package libssl-dev)", 0)
