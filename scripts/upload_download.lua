-- Files that are larger than one wants in memory, to a server and back: streamed from disk to disk
-- on both sides, with a form around them, a digest, and a download that goes on where it broke off.
local async = require "rille.async"
local fs = require "rille.fs"
local http = require "rille.http"
local path = require "rille.path"
local tempdir = require "lib.tempdir"

local SIZE = 8 * 2 ^ 20

-- A sum that depends on the order, of a file as it is read.
local function digest(file)
  local sum, size = 0, 0
  for chunk in file:chunks() do
    for i = 1, #chunk, 997 do sum = (sum * 31 + chunk:byte(i)) % 2 ^ 31 end
    size = size + #chunk
  end
  return ("%d bytes, %08x"):format(size, sum)
end

local function digest_of(name) return async.with(fs.open(name), digest) end

local function make_app(dir)
  local app = http.App()

  -- The parts of the form, as they come.
  app:post("/upload", function(req)
    local saved = {}
    for part in req:multipart() do
      if part.filename then
        local name = path.basename(part.filename)
        part:save(path.join(dir, name))
        saved[#saved + 1] = { name = name, digest = digest_of(path.join(dir, name)) }
      end
    end
    return 201, saved
  end, { max_body_bytes = 2 * SIZE })

  -- The same without a form.
  app:put("/files/{name}", function(req)
    async.with(fs.open(path.join(dir, path.basename(req.params.name)), "w"), function(file)
      for chunk in req:chunks() do file:write(chunk) end
    end)
    return 204
  end, { max_body_bytes = SIZE })

  app:static("/files", dir)
  return app
end

async.with(tempdir(), function(dir)
  local store, large = path.join(dir, "store"), path.join(dir, "large.bin")
  fs.mkdir(store)
  async.with(fs.open(large, "w"), function(file)
    for i = 1, SIZE / 2 ^ 16 do file:write((string.char(i % 256, i % 7, i % 11, 0)):rep(2 ^ 14)) end
  end)
  print("the original: " .. digest_of(large))

  async.with(make_app(store):serve {}, function(server)
    async.with(http.Session { base_url = "http://127.0.0.1:" .. server.port }, function(session)
      local response = session:post("/upload", { multipart = {
        { name = "comment", data = "mind the gap" },
        { name = "file", file = large },
      } })
      print(response.status, response:json()[1].name .. ": " .. response:json()[1].digest)

      async.with(fs.open(large), function(file)
        print(session:put("/files/copy.bin", { body = file }).status, "put as it is")
      end)
      -- Asked before, the server refuses what is too large without having it sent.
      print("too large: " .. session:put("/files/x", {
        body = ("x"):rep(SIZE + 1), headers = { Expect = "100-continue" },
      }).status)

      local back = path.join(dir, "back.bin")
      local function download(file, limit)
        local from = file:seek "end"
        local headers = from > 0 and { Range = ("bytes=%d-"):format(from) } or nil
        async.with(session:get("/files/copy.bin", { headers = headers, stream = true }),
          function(answer)
            answer:raise_for_status()
            for chunk in answer:chunks() do
              file:write(chunk)
              if limit and file:seek() > limit then break end
            end
            print(answer.status, answer.headers["content-range"] or "all of it")
          end)
      end
      async.with(fs.open(back, "a"), function(file)
        download(file, SIZE / 2) -- and then the line breaks
        file:truncate(SIZE / 2)
        download(file)
      end)
      print("downloaded:   " .. digest_of(back))
    end)
  end)
end)
