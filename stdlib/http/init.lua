--- rille.http: a client and a server, HTTP/1.1 and HTTP/2.
local client = require "rille.http.client"
local response = require "rille.http.response"

return {
  get = client.get,
  post = client.post,
  put = client.put,
  patch = client.patch,
  delete = client.delete,
  head = client.head,
  options = client.options,
  request = client.request,
  Session = client.Session,
  App = require "rille.http.app",
  serve = require("rille.http.server").serve,
  response = response.response,
  redirect = response.redirect,
  abort = response.abort,
  shape = require "rille.http.shape",
}
