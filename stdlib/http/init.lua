--- rille.http: a client and a server of HTTP/1.1.
local client = require "rille.http.client"
local answer = require "rille.http.answer"

return {
  get = client.get,
  post = client.post,
  put = client.put,
  patch = client.patch,
  delete = client.delete,
  head = client.head,
  options = client.options,
  request = client.request,
  serve = require "rille.http.server",
  response = answer.response,
  abort = answer.abort,
}
